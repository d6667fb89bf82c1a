"""Decoding steps as CUDA graphs.

A step of a batch makes hundreds of small kernels. Launched one by one from Python they take several times
as long as the GPU needs for them; recorded once as a graph, all of them are launched together.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from solon.inference.cache import COLUMN_BLOCK


class DecodeGraphs:
    """One token for each of the cache's ``rows``, by a graph for each number of blocks of columns in use.

    ``forward`` takes tokens and positions, both [rows, 1] on the GPU (-1: no sequence in that row), and how
    many columns to read, and returns logits [rows, vocabulary]. It must not ask the GPU for anything, and
    must use the same memory at each call: made anew when the cache's tensors are.
    """

    def __init__(
        self, rows: int, device: torch.device, forward: Callable[[Tensor, Tensor, int], Tensor]
    ) -> None:
        self._tokens = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._positions = torch.full_like(self._tokens, -1)
        self._forward = forward
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Logits [sequences, vocabulary] of the first rows; they hold until the next call.

        ``tokens`` and ``positions`` are [sequences, 1] on the CPU. Raises RuntimeError for a model whose pass
        cannot be recorded.
        """
        width = (int(positions.max()) // COLUMN_BLOCK + 1) * COLUMN_BLOCK
        if width not in self._graphs:
            self._graphs[width] = self._record(width)
        graph, logits = self._graphs[width]
        self._tokens[: len(tokens)] = tokens.to(self._tokens.device)
        self._positions.fill_(-1)
        self._positions[: len(tokens)] = positions.to(self._tokens.device)
        graph.replay()
        return logits[: len(tokens)]

    def _record(self, width: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """Of rows without a sequence: the pass changes nothing that is read."""
        self._positions.fill_(-1)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries set themselves up at their first call
            self._forward(self._tokens, self._positions, width)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = self._forward(self._tokens, self._positions, width)
        return graph, logits
