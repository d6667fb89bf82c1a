"""A model of plain attention, run over the rows of a cache."""

from collections.abc import Sequence

import torch
from torch import Tensor

from solon.errors import UnsupportedModel, first_line
from solon.inference.attention import NAME, Pass, Trunk
from solon.inference.cache import RowCache, Stored
from solon.inference.loaded_model import LoadedModel
from solon.inference.memory import out_of_memory
from solon.inference.prefix import Tokens, alike
from solon.inference.trial import agree
from solon.libraries.transformers import attention_of

Group = tuple[list[int], int]
"""Some sequences of a pass, by their places in it, and how many cached tokens they have in common."""


class CachedModel:
    """A transformers causal language model on one device, which reads and writes the rows of a ``RowCache``.

    Raises UnsupportedModel, and leaves the model as it was, where it is not a plain attention model: a trial
    shows whether it can be run so, and gives the logits that it gives by itself.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded, self.network = loaded, loaded.network
        self.name, self.device, self.head = loaded.name, loaded.device, loaded.head
        config = self.network.config.get_text_config()
        self.window: int | None = getattr(config, "sliding_window", None)
        self._layers: int = config.num_hidden_layers
        self._layer_types = set(getattr(config, "layer_types", None) or ())
        if unknown := self._layer_types - {"full_attention", "sliding_attention"}:
            raise UnsupportedModel(f"model {self.name!r} has {' and '.join(sorted(unknown))} layers")
        own = attention_of(self.network)
        self.network.set_attn_implementation(NAME)
        try:
            self._try(self.name, loaded.tried[0], loaded.plain[0])
        except UnsupportedModel:
            self.network.set_attn_implementation(own)
            raise
        loaded.attention = NAME

    @torch.inference_mode()
    def _try(self, name: str, tokens: Tensor, plain: Tensor) -> None:
        """Raises UnsupportedModel where tokens in rows of a cache do not get the ``plain`` logits."""
        last, middle = len(tokens) - 1, len(tokens) // 2
        cache = self.cache(2)
        cache.reserve(2, len(tokens), used=0)
        positions = torch.arange(last).repeat(2, 1)
        positions[1, middle:] = -1
        ends, rows = torch.tensor([last, middle]), torch.tensor([0, 1])
        both: list[Group] = [([0, 1], 0)]
        try:
            before = tokens[:last].repeat(2, 1)
            self.forward(cache, slice(0, 2), before, positions, (rows, ends - 1), both)
            step = tokens[ends][:, None]
            found = self.forward(
                cache, slice(0, 2), step, ends[:, None], (rows, torch.zeros_like(rows)), both
            )
        except Exception as error:
            if isinstance(error, UnsupportedModel) or out_of_memory(error):
                raise
            raise UnsupportedModel(
                f"model {name!r} cannot be run over the rows of a cache ({first_line(error)})"
            ) from error
        if not agree(found, plain[ends.to(plain.device)]):
            raise UnsupportedModel(f"over the rows of a cache, model {name!r} computes something else")

    def cache(self, rows: int, base: Stored | None = None) -> RowCache:
        """For the keys and values of at most ``rows`` sequences, which may all begin with ``base``."""
        return RowCache(self._layers, rows, self.device, base)

    def forward(
        self,
        cache: RowCache,
        rows: slice | Tensor,
        tokens: Tensor,
        positions: Tensor,
        wanted: tuple[Tensor, Tensor],
        groups: Sequence[Group],
    ) -> Tensor:
        """Run tokens [rows, length] at their positions (-1: padding); logits [wanted, vocabulary]."""
        # The widths are asked for here, on the CPU: asking a GPU is waiting for it.
        width = int(positions.max()) + 1
        trunks = [Trunk(places, length, int(positions[places].max()) + 1) for places, length in groups]
        places, columns = (indices.to(self.device) for indices in wanted)
        return self._run(
            cache, rows, tokens.to(self.device), positions.to(self.device), (places, columns), width, trunks
        )

    def step(self, cache: RowCache, tokens: Tensor, positions: Tensor, width: int) -> Tensor:
        """One token for every row of the cache, in use or not, so that a graph serves any of them.

        Tokens and positions, both [rows, 1], are on the device, and the first ``width`` columns of the cache
        are read; logits [rows, vocabulary].
        """
        rows = torch.arange(len(tokens), device=self.device)
        wanted = (rows, torch.zeros_like(rows))
        return self._run(cache, slice(0, len(tokens)), tokens, positions, wanted, width, ())

    def alike(self, sequences: Sequence[Tokens], known: Sequence[int]) -> list[Group]:
        """What the sequences of a pass share of their ``known`` tokens: nothing in windowed attention.

        Accelerators read all sequences' own rows.
        """
        if self.device.type != "cpu":
            return []
        if self.window is not None:
            known = [0] * len(sequences)
        return alike(sequences, known)

    def _run(
        self,
        cache: RowCache,
        rows: slice | Tensor,
        tokens: Tensor,
        positions: Tensor,
        wanted: tuple[Tensor, Tensor],
        width: int,
        trunks: Sequence[Trunk],
    ) -> Tensor:
        """``forward`` with all on the device, and the first ``width`` columns of the cache read."""
        cache.place(rows, positions)
        self._loaded.wanted.positions = wanted
        output = self.network(
            input_ids=tokens,
            attention_mask=self._masks(positions, cache.before, width),
            position_ids=positions.clamp(min=0),
            cached=Pass(rows, trunks, cache.base),
            **self._loaded.cached(cache),
        )
        logits: Tensor = output.logits
        return logits

    def _masks(self, positions: Tensor, first: int, width: int) -> Tensor | dict[str, Tensor]:
        """Added to attention scores, [rows, 1, length, positions]: a token sees itself and what is before it.

        The positions are those from ``first`` to ``width``.
        """
        columns = torch.arange(first, width, device=self.device)
        visible = columns <= positions[:, :, None]
        full = self._mask(visible)
        if self.window is None or (self._layer_types and "sliding_attention" not in self._layer_types):
            return full
        sliding = self._mask(visible & (columns > positions[:, :, None] - self.window))
        return {"full_attention": full, "sliding_attention": sliding} if self._layer_types else sliding

    def _mask(self, visible: Tensor) -> Tensor:
        dtype = self.network.dtype
        mask = torch.zeros(visible.shape, dtype=dtype, device=self.device)
        return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]
