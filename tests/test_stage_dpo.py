"""Direct preference optimisation on soft labels: TRL's loss, the optimum in closed form, and kills."""

from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.special import logit
from transformers import set_seed
from trl import DPOConfig

from solon import config, models
from solon.errors import SolonError
from solon.libraries.trl import DPO, DPOCollator
from solon.policy import dpo, ipo
from solon.policy.task import Task
from solon.records import PreferenceRecord
from solon.stages import reinforce
from solon.training import setup
from test_stage_preference import PAIRS
from toy_training import assert_a_kill_changes_nothing, metrics_of, pair, unwatched

pytestmark = pytest.mark.numeric


LOSSES = {"dpo": "sigmoid", "ipo": "ipo"}  # as TRL calls them


def settings(**changes: Any) -> config.Reinforce:
    small = {"steps": 4, "prompts_per_step": 4, "micro_batch_size": 4, "learning_rate": 1e-3, "save_steps": 2}
    return config.Reinforce(algorithm="dpo", **{**small, **changes})


def train(
    records: list[PreferenceRecord], model: Path, out: Path, asked: config.Reinforce | None = None
) -> dict[str, float]:
    return reinforce.train(records, str(model), None, out, asked or settings(), 0, unwatched)


def trl_loss(
    model: Path, other: Path, records: list[PreferenceRecord], out: Path, beta: float, loss_type: str
) -> float:
    """What TRL's own trainer computes of a policy against its reference, on hard labels."""
    tokenizer = models.load_tokenizer(str(model))
    task = Task(records, str(model), None, out, settings(kl_coefficient=beta), 0, unwatched)
    pairs = dpo.in_tokens(task, tokenizer)
    trainer: Any = DPO(
        model=models.load_model(str(other)),
        ref_model=models.load_model(str(model)),
        args=DPOConfig(
            output_dir=str(out), use_cpu=True, bf16=False, beta=beta, loss_type=loss_type, report_to="none"
        ),
        train_dataset=pairs,
        data_collator=DPOCollator(pad_token_id=tokenizer.pad_token_id),
        processing_class=tokenizer,
    )
    batch = trainer.data_collator([pairs[place] for place in range(len(pairs))])
    loss: torch.Tensor = trainer.compute_loss(trainer.model, batch)
    return loss.item()


def test_of_an_answer_that_was_cut_off_no_end_is_learned(tiny_model: Path, tmp_path: Path) -> None:
    """Nor is it learned that a rejected one ended badly where the token limit ended it."""
    tokenizer, asked = models.load_tokenizer(str(tiny_model)), settings()
    records = [PAIRS[0], {**PAIRS[0], "cut": ["trimmed", ""]}, {**PAIRS[0], "cut": ["", "unfinished"]}]
    task = Task(records, str(tiny_model), None, tmp_path, asked, 0, unwatched)
    whole, *cut = dpo.in_tokens(task, tokenizer)
    for row, side, other in ((cut[0], "chosen", "rejected"), (cut[1], "rejected", "chosen")):
        said = row[f"{side}_ids"]
        assert tokenizer.decode(said).strip() == PAIRS[0][side][-1]["content"]  # type: ignore[literal-required]
        assert tokenizer.eos_token_id in whole[f"{side}_ids"][len(said) :]
        assert row[f"{other}_ids"] == whole[f"{other}_ids"]


@pytest.fixture(scope="module")
def moved(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that is no longer its reference."""
    out = tmp_path_factory.mktemp("moved") / "policy"
    train(PAIRS, tiny_model, out, settings(steps=3))
    return out


@pytest.mark.parametrize(("algorithm", "packs"), [("dpo", True), ("dpo", False), ("ipo", True)])
def test_hard_labels_give_the_librarys_loss(
    tiny_model: Path,
    moved: Path,
    tmp_path: Path,
    algorithm: str,
    packs: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With label 0 that of the pair turned round; between the two their mean by the label."""
    if not packs:
        monkeypatch.setattr("solon.training.packing._attends_plainly", lambda model: False)
    hard = [{**record, "probability": 1.0} for record in PAIRS]
    turned = [{**record, "chosen": record["rejected"], "rejected": record["chosen"]} for record in hard]
    expected = {
        p: trl_loss(tiny_model, moved, records, tmp_path / "trl", 0.05, LOSSES[algorithm])
        for p, records in ((1.0, hard), (0.0, turned))
    }
    assert expected[1.0] < expected[0.0] - 0.01
    for p in (1.0, 0.0, 0.7):
        soft = [{**record, "probability": p} for record in PAIRS]
        ours = first_loss(tiny_model, moved, soft, tmp_path, algorithm)
        assert ours == pytest.approx(p * expected[1.0] + (1 - p) * expected[0.0], abs=1e-6, rel=1e-6)


def first_loss(reference: Path, policy: Path, records: Any, folder: Path, algorithm: str) -> float:
    """The loss of the untrained step on all the records at once."""
    seen: list[float] = []
    module, trainer = {"dpo": (dpo, "SoftLabelDPO"), "ipo": (ipo, "SoftLabelIPO")}[algorithm]

    class Watched(getattr(module, trainer)):  # type: ignore[misc]
        def compute_loss(self, *given: Any, **named: Any) -> torch.Tensor:
            loss: torch.Tensor = super().compute_loss(*given, **named)
            seen.append(loss.item())
            return loss

    with pytest.MonkeyPatch.context() as patch:
        loaded = [models.load_model(str(folder)) for folder in (policy, reference)]
        patch.setattr(dpo.models, "load_model", lambda *_: loaded.pop(0))
        patch.setattr(module, trainer, Watched)
        out = folder / f"ours-{len(list(folder.iterdir()))}"
        asked = settings(steps=1, prompts_per_step=len(records), micro_batch_size=32, kl_coefficient=0.05)
        asked = asked.model_copy(update={"algorithm": algorithm})
        train(records, reference, out, asked)
    return seen[0]


def test_training_takes_the_margin_to_the_label_and_no_further(tiny_model: Path, tmp_path: Path) -> None:
    """Of two answers the optimum has beta times the log-ratio of their odds at the label's log-odds."""
    record = pair("Why?", "Because the template says so.", "Why not", 0.7)
    asked = settings(steps=60, prompts_per_step=1, learning_rate=1e-3, kl_coefficient=0.1, save_steps=100)
    last = train([record], tiny_model, tmp_path / "out", asked)
    assert last["margin"] == pytest.approx(logit(0.7), abs=0.02)
    sums = {}
    for folder in (tiny_model, tmp_path / "out"):
        model, tokenizer = models.load_model(str(folder)), models.load_tokenizer(str(folder))
        for side in ("chosen", "rejected"):
            prompt, answer = setup.in_tokens(tokenizer, [*record["prompt"], *record[side]])  # type: ignore[literal-required]
            with torch.no_grad():
                logprobs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
            sums[folder.name, side] = sum(
                logprobs[place, token].item() for place, token in zip(places, answer, strict=True)
            )
    gained = [sums["out", side] - sums[tiny_model.name, side] for side in ("chosen", "rejected")]
    assert 0.1 * (gained[0] - gained[1]) == pytest.approx(logit(0.7), abs=0.03)


@pytest.mark.parametrize("p", [0.5, 0.7, 1.0])
def test_ipo_goes_to_its_goal_and_no_further(p: float) -> None:
    """The closed form: d = (2p - 1) / 2 beta, in rewards p - 1/2."""
    trainer: Any = ipo.SoftLabelIPO.__new__(ipo.SoftLabelIPO)
    trainer.beta = 0.1
    gap = torch.tensor([3.0], requires_grad=True)
    optimiser = torch.optim.SGD([gap], lr=0.2)
    for _ in range(60):
        ratios = torch.stack([gap[0] * 5, torch.zeros(())])  # of answers of 5 and of 2 tokens
        chosen, rejected = trainer.rewards(ratios, torch.tensor([5, 2])).chunk(2)
        optimiser.zero_grad()
        trainer.pair_loss(chosen, rejected, torch.tensor([p])).backward()
        optimiser.step()
    assert gap.item() == pytest.approx((2 * p - 1) / 0.2, abs=1e-4)
    assert (chosen - rejected).item() == pytest.approx(p - 0.5, abs=1e-4)


@pytest.mark.parametrize("lora", [None, config.Lora(rank=2)])
def test_a_kill_changes_nothing(tiny_model: Path, tmp_path: Path, lora: config.Lora | None) -> None:
    assert_a_kill_changes_nothing(
        lambda out, progress: reinforce.train(
            PAIRS, str(tiny_model), None, out, settings(lora=lora), 0, progress
        ),
        tmp_path,
        kills=(1, 3),
    )


def test_pairs_too_long_are_left_out_and_counted(tiny_model: Path, tmp_path: Path) -> None:
    longer = pair("Go on?", "Yes. " * 60, "No.", 0.8)
    asked = settings(steps=1, max_prompt_length=64, max_tokens=32)
    assert train([*PAIRS, longer], tiny_model, tmp_path / "out", asked)["pairs_left_out"] == 1
    assert metrics_of(tmp_path / "out")[0]["pairs_left_out"] == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kl_coefficient": 0}, "divides by it"),
        ({"length_control": True}, "length_control is for algorithms that sample"),
        ({"epochs_per_step": 2}, "epochs_per_step is for algorithms that sample"),
        ({"micro_batch_size": 6}, "micro_batch_size"),
    ],
)
def test_settings_that_mean_nothing_here_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        settings(**changes)


def test_an_algorithm_that_samples_needs_a_preference_model(tiny_model: Path, tmp_path: Path) -> None:
    set_seed(0)
    with pytest.raises(SolonError, match="score of a preference model"):
        reinforce.train([], str(tiny_model), None, tmp_path, config.Reinforce(), 0, unwatched)
