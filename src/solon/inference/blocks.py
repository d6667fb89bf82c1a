"""Records made by an engine, the same to the byte however often the work was stopped.

How a result is rounded depends on what is computed beside it and on what is in the cache, and a text or label
may turn on that. So records are made in blocks: which records are in a block depends on nothing but their
order, every block begins with an empty cache, and one that a kill has broken off is made again as a whole,
what is written of it already being kept.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from solon.config import EngineSettings, on_server
from solon.inference.engine import Engine
from solon.store.record_file import RecordFile, complete

# In a block. While its last texts end, the batch is not full: by simulation, chains of 4 revisions take 1 %
# longer where a step's time grows with its sequences, as on a CPU, and 9 % where it does not at all (with 4
# batches 2 % and 18 %, with 16 0.4 % and 4 %). A kill undoes half a block on average.
BATCHES = 8

Make = Callable[[Engine, list[Any]], Iterable[Mapping[str, Any]]]


def generate(
    file: RecordFile,
    wanted: Sequence[Any],
    model: str,
    settings: EngineSettings,
    engine: Callable[[], Engine],
    make: Make,
    progress: Callable[[int, int], None],
    requests: int = 1,
    aside: RecordFile | None = None,
) -> list[Any]:
    """One record for each of ``wanted``, with its id, made by ``make`` where the file lacks it.

    ``engine`` opens ``model`` where it is needed. One record has ``requests`` requests in flight at a time.
    What a server has answered is not asked again: it is paid for, and another answer would be no more right.
    Records that come with a ``problem`` go to the file ``aside`` where there is one.
    """
    size = max(1, BATCHES * settings.batch_size // requests)
    return complete(
        file,
        wanted,
        lambda missing: engine().run_blocks(missing, size, make),
        progress,
        block=1 if on_server(model) else size,
        aside=aside,
    )
