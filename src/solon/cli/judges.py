"""``solon eval hhh``, ``harm`` and ``preferences``: models against what people wrote and judged."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from solon import constitution
from solon.cli.options import NO_SETTINGS, AsJson, ConfigFile, Limit, Settings, configuration
from solon.cli.show import SCREEN, show, show_rows
from solon.config import Feedback
from solon.errors import SolonError
from solon.evaluation import agreement, hhh, kinds_of_harm, paper_evals
from solon.feedback import METHODS
from solon.feedback.made import ByMaking
from solon.inference import open_engine

JUDGING = tuple(name for name, method in METHODS.items() if not isinstance(method, ByMaking))
WAYS = (*JUDGING, "likelihood")

ModelToMeasure = Annotated[
    str | None, typer.Argument(metavar="MODEL", help="The language model; none to measure a scorer alone.")
]
Scorer = Annotated[
    str | None, typer.Option("--preference-model", help="A preference model's folder, measured as well.")
]
FewShot = Annotated[
    bool | None,
    typer.Option("--few-shot/--zero-shot", help="With worked examples? feedback.few_shot by default."),
]
Reason = Annotated[
    bool | None,
    typer.Option("--chain-of-thought/--no-chain-of-thought", help="feedback.chain_of_thought by default."),
]
Rules = Annotated[str, typer.Option("--constitution", help="Whose principles the model judges under.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Dialogues that the preference model scores together.")]


def add_to(app: typer.Typer) -> None:
    app.command("hhh")(helpful_honest_harmless)
    app.command("harm")(harmful)
    app.command("preferences")(preferences)


def helpful_honest_harmless(
    file: Annotated[str, typer.Option("--data", help="A file in the form of 438HHHEvaluations.")],
    model: ModelToMeasure = None,
    ways: Annotated[
        str, typer.Option(help=f"Of the language model: one or more of {','.join(WAYS)}.")
    ] = WAYS[0],
    scorer: Scorer = None,
    few_shot: FewShot = None,
    chain_of_thought: Reason = None,
    rules: Rules = "",
    limit: Limit = None,
    batch_size: BatchSize = 16,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """How often the helpful, honest and harmless answer is found, by each way of asking and by score."""
    asked = configuration(config, settings)
    wanted = [way.strip() for way in ways.split(",") if way.strip()] if model else []
    if unknown := [way for way in wanted if way not in WAYS]:
        raise SolonError(f"--ways has {unknown[0]!r}; it may name {', '.join(WAYS)}")
    if not wanted and not scorer:
        raise SolonError("there is nothing to measure; give a MODEL and its --ways, or --preference-model")
    law = constitution.load(rules or asked.constitution)
    judging = _judging(asked.feedback, few_shot, chain_of_thought)
    if not rules:  # asked as the paper asks it
        law, judging = hhh.own_question(law), judging.model_copy(update={"principles": 1})
    pairs = paper_evals.drawn(paper_evals.read_hhh(file), limit, asked.seed)
    figures: dict[str, Any] = {"comparisons": len(pairs)}
    drawing = asked.evaluation.bootstrap, asked.seed
    if model and wanted:
        with (
            SCREEN.stage(f"{model} on helpful, honest and harmless"),
            open_engine(model, asked.engine, role=asked.role("feedback", model)) as engine,
        ):
            for way in JUDGING:
                if way in wanted:
                    asking = judging.model_copy(update={"method": way})
                    figures[way] = agreement.measure_judge(engine, pairs, law, asking, *drawing, SCREEN)
            if "likelihood" in wanted:
                figures["likelihood"] = hhh.measure_likelihoods(engine, pairs, *drawing, SCREEN)
    if scorer:
        with SCREEN.stage(f"{scorer} as preference model"):
            figures["preference-model"] = agreement.measure_scorer(
                scorer, pairs, batch_size, *drawing, SCREEN
            )
    _print(figures, as_json)


def preferences(
    file: Annotated[str, typer.Option("--data", help="Pairs in hh-rlhf's form or PandaLM's.")],
    model: ModelToMeasure = None,
    scorer: Scorer = None,
    few_shot: FewShot = None,
    chain_of_thought: Reason = None,
    rules: Rules = "",
    limit: Limit = None,
    batch_size: BatchSize = 16,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """How far a judge or a preference model agrees with people about pairs of answers."""
    asked = configuration(config, settings)
    if not model and not scorer:
        raise SolonError("there is nothing to measure; give a MODEL to judge, or --preference-model")
    pairs = paper_evals.drawn(paper_evals.read_pairs(file), limit, asked.seed)
    helpfulness = all(pair.aspect == "helpfulness" for pair in pairs)
    named = rules or (asked.evaluation.helpfulness_constitution if helpfulness else asked.constitution)
    law = constitution.load(named)
    ties = sum(pair.probability == 0.5 for pair in pairs)
    figures: dict[str, Any] = {"comparisons": len(pairs), "ties": ties}
    drawing = asked.evaluation.bootstrap, asked.seed
    if people := agreement.annotators(pairs):
        figures["people"] = people
    if model:
        judging = _judging(asked.feedback, few_shot, chain_of_thought)
        with (
            SCREEN.stage(f"{model} as judge"),
            open_engine(model, asked.engine, role=asked.role("feedback", model)) as engine,
        ):
            judged = agreement.measure_judge(engine, pairs, law, judging, *drawing, SCREEN)
            figures["judge"] = {"constitution": named, **judged}
    if scorer:
        with SCREEN.stage(f"{scorer} as preference model"):
            figures["preference-model"] = agreement.measure_scorer(
                scorer, pairs, batch_size, *drawing, SCREEN
            )
    _print(figures, as_json)


def harmful(
    file: Annotated[
        str, typer.Option("--data", help="In the form of HarmfulVsEthical or HarmfulnessClassification.")
    ],
    model: Annotated[str, typer.Argument(help="The language model.")],
    shots: Annotated[
        int, typer.Option(min=0, help="Rows shown with their answers first, and left out of the figures.")
    ] = 0,
    chain_of_thought: Reason = None,
    limit: Limit = None,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """How often a model tells whether a conversation is harmful, or in which way."""
    asked = configuration(config, settings)
    judging = _judging(asked.feedback, None, chain_of_thought)
    if shots and judging.chain_of_thought:
        raise SolonError("--shots have no reasoning to show; leave them or --chain-of-thought out")
    rows = paper_evals.read_choices(file)
    examples = kinds_of_harm.shots(rows, shots, asked.seed)
    rest = [row for row in rows if row not in examples]
    if not rest:
        raise SolonError(f"--shots {shots} leaves none of the {len(rows)} rows of {file} to ask; give fewer")
    choices = paper_evals.drawn(rest, limit, asked.seed)
    with (
        SCREEN.stage(f"{model} on harm"),
        open_engine(model, asked.engine, role=asked.role("feedback", model)) as engine,
    ):
        figures = kinds_of_harm.measure(
            engine, choices, judging, examples, asked.evaluation.bootstrap, asked.seed, SCREEN
        )
    _print(figures, as_json)


def _judging(settings: Feedback, few_shot: bool | None, chain_of_thought: bool | None) -> Feedback:
    asked = {"few_shot": few_shot, "chain_of_thought": chain_of_thought}
    judging = settings.model_copy(update={name: value for name, value in asked.items() if value is not None})
    if judging.chain_of_thought and judging.prior_correction:
        raise SolonError(
            "--chain-of-thought does not go with feedback.prior_correction, which is for letters named "
            "without reasoning; leave one of them out"
        )
    return judging


def _print(figures: Mapping[str, Any], as_json: bool) -> None:
    """As JSON, or as one table of the figures and one of each list and matrix among them."""
    if as_json:
        show(figures, as_json)
        return
    show({name: value for name, value in figures.items() if name != "confusion"}, as_json)
    for title, rows in _tables(figures):
        show_rows(rows, title)


def _tables(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for name, value in figures.items():
        if name == "confusion":  # columns have letters, since the options are long
            signs = kinds_of_harm.letters(len(value))
            rows = zip(signs, value.items(), strict=True)
            yield (
                "right answer, and how often each was found",
                [
                    {"": f"({sign}) {label}", **dict(zip(signs, counts.values(), strict=True))}
                    for sign, (label, counts) in rows
                ],
            )
        elif isinstance(value, Mapping):
            yield from _tables(value, f"{prefix}{name} · ")
        elif isinstance(value, list) and value:
            yield f"{prefix}{name}", value
