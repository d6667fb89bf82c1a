"""What measuring judge and labeller on people's labels takes."""

from solon.constitution import Constitution
from solon.evaluation import trust
from solon.evaluation.paper_evals import drawn
from solon.planning.counting import together
from solon.planning.stage_work import Prompts, StageWork, sampled, size_of
from solon.planning.workload import Workload
from solon.records import Aspect


def work(planned: Workload) -> list[StageWork]:
    """That of the stage, if no pair opens like what the run trains on; [] without ``evaluation.trust``."""
    asked, sample = planned.config, planned.assumptions.sample
    if asked.evaluation.trust is None:
        return []
    pairs = drawn(trust.people(asked.evaluation.trust), asked.evaluation.trust_pairs, asked.seed)
    laws: dict[Aspect, Constitution] = {"harmlessness": planned.law, "helpfulness": planned.helpful_labels}
    ways = trust.ways(asked, laws, laws | {"helpfulness": planned.helpful_evaluation})
    stage = StageWork("trust")
    known: list[trust.Way] = []
    for role, way in ways:
        if way in known:  # asked once
            continue
        known.append(way)
        of_aspect = [pair for pair in pairs if pair["aspect"] == way.aspect]
        engine = planned.engine(trust.PLAYED_AS[role])
        questions = way.method.questions(way.settings, len(way.law.comparison))
        some = Prompts(of_aspect[:sample], len(of_aspect))
        made, loads = sampled(engine, some, trust.judge, way, asked.seed, requests=questions)
        stage.loads = together(stage.loads, loads)
        stage.records += len(of_aspect)
        stage.written += size_of(made, len(of_aspect))
        stage.sequence = max(stage.sequence, engine.longest)
    return [stage]
