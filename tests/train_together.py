"""Does the tasks in several folders one after another, for test_launch.py: started once in each process.

accelerate has FSDP for GPUs alone. Here processes on the CPU are told to have them; all else is FSDP's own.
"""

import os
import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType

from solon.pipeline import launch
from solon.policy import rollouts


class Told(PartialState):
    def __init__(self, *given: Any, **named: Any) -> None:
        begin(self, *given, **named)
        if self._shared_state["distributed_type"] == DistributedType.MULTI_CPU:
            self._shared_state["distributed_type"] = DistributedType.MULTI_GPU


begin = PartialState.__init__
if os.environ.get("ACCELERATE_USE_FSDP"):
    PartialState.__init__ = Told.__init__

rollouts.number_type = lambda: "float32"  # bfloat16 makes other samples of what differs by rounding alone

if __name__ == "__main__":  # vLLM's workers read this file again
    for given in sys.argv[1:]:
        if Path(given).is_dir():  # not what is meant for the module that this stands for
            launch.main(Path(given))
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()  # as launch does; without it a process that ends late may abort
