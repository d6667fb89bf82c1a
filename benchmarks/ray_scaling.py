"""Records a second on Ray: one replica against the same engine without Ray, and two replicas against one.

    python benchmarks/ray_scaling.py [--blocks 4] [--batch 4] [--tokens 12] [--runs 3] > result.json

Every engine has one thread. All make the same critique-revision chains in the same blocks, so they do the
same work, and their records must be equal. The replicas are actors on a local cluster, one on each node
(a raylet each). They are measured by turns, and those that are not measured are idle. Where other programs
run, the overhead by processor time, of this process and all of Ray's, is the more reliable one.
"""

import argparse
import os
import statistics
import sys
import time
from contextlib import suppress
from functools import partial

os.environ["OMP_NUM_THREADS"] = "1"

import psutil
import ray
import side_by_side
import torch
from ray.cluster_utils import Cluster

from solon import constitution
from solon.config import Critique, EngineSettings, Scale
from solon.inference import blocks, open_engine, settled
from solon.inference.engine import Engine
from solon.sources import data
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

    rates: dict[str, list[float]] = {}
    spent: dict[str, list[float]] = {}
    found = {}

    def measure(name: str, engine: Engine) -> None:
        start, before = time.perf_counter(), processor_seconds()
        records = list(engine.run_blocks(prompts, size, revise))
        rates.setdefault(name, []).append(len(records) / (time.perf_counter() - start))
        spent.setdefault(name, []).append((processor_seconds() - before) / len(records))
        found[name] = sorted(records, key=lambda record: record["id"])
        print(f"{name}: {rates[name][-1]:.2f} records/s", file=sys.stderr, flush=True)

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
            for _ in range(asked.runs):
                for name, engine in (("no ray", alone), ("1 replica", one), ("2 replicas", two)):
                    measure(name, engine)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert found["no ray"] == found["1 replica"] == found["2 replicas"]
    rate = {name: statistics.median(each) for name, each in rates.items()}
    processor = {name: statistics.median(each) for name, each in spent.items()}
    side_by_side.show(
        benchmark="critique-revision records/s on Ray, a thread an engine",
        asked=vars(asked) | {"records": len(prompts)},
        dtype=settings.dtype,
        ray=ray.__version__,
        ratio={
            "1 replica to no ray": round(rate["1 replica"] / rate["no ray"], 3),
            "2 replicas to 1": round(rate["2 replicas"] / rate["1 replica"], 3),
        },
        overhead_by_processor_time=round(processor["1 replica"] / processor["no ray"] - 1, 3),
        rates={name: [round(rate, 3) for rate in each] for name, each in rates.items()},
        processor_seconds_a_record={
            name: [round(seconds, 4) for seconds in each] for name, each in spent.items()
        },
    )


def processor_seconds() -> float:
    """Of this process and all that it started: Ray's own processes and the replicas."""
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


if __name__ == "__main__":
    main()
