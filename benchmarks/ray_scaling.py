"""Records a second on Ray: one replica against the same engine without Ray, and two replicas against one.

    python benchmarks/ray_scaling.py [--blocks 4] [--batch 4] [--tokens 12] [--runs 3] > result.json

Every engine has one thread. All make the same critique-revision chains in the same blocks, so they do the
same work, and their records must be equal. The replicas are actors on a local cluster, one on each node
(a raylet each). The engine that is not measured is idle.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial

os.environ["OMP_NUM_THREADS"] = "1"

import ray
import side_by_side
import torch
from ray.cluster_utils import Cluster

from solon import constitution, data
from solon.config import Critique, EngineSettings, Scale
from solon.inference import blocks, open_engine, settled
from solon.inference.engine import Engine
from solon.stages import critique


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="smollm2")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    size = blocks.BATCHES * asked.batch
    prompts = data.select(data.prompts("packaged", "red-team"), "train", asked.blocks * size, 0)
    revise = partial(
        critique.revise,
        constitution=constitution.load("harmless"),
        settings=Critique(rounds=1, few_shot=False, max_tokens=asked.tokens, attempts=1),
        seed=0,
    )
    settings = settled(EngineSettings(device="cpu", batch_size=asked.batch), {})

    def work(engine: Engine) -> Callable[[], int]:
        def revised() -> int:
            records = list(engine.run_blocks(prompts, size, revise))
            found[engine] = sorted(records, key=lambda record: record["id"])
            return len(records)

        return revised

    found: dict[Engine, list[object]] = {}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(3):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        with (
            open_engine(asked.model, settings) as alone,
            open_engine(asked.model, settings, Scale(engine="ray", replicas=1)) as one,
            open_engine(asked.model, settings, Scale(engine="ray", replicas=2)) as two,
        ):
            overhead = side_by_side.compare(lambda: None, work(one), work(alone), asked.runs)
            scaling = side_by_side.compare(lambda: None, work(two), work(one), asked.runs)
            assert found[alone] == found[one] == found[two]
    finally:
        ray.shutdown()
        cluster.shutdown()
    side_by_side.show(
        benchmark="critique-revision records/s on Ray",
        asked=vars(asked) | {"records": len(prompts)},
        dtype=settings.dtype,
        ray=ray.__version__,
        one_replica_to_no_ray=overhead,
        two_replicas_to_one=scaling,
    )


if __name__ == "__main__":
    main()
