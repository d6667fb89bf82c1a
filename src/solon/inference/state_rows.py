"""Sequences under way in transformers' own caches, for models whose attention is not the plain kind.

The model computes everything by itself, with its caps, sinks, windows, convolutions and recurrent states.
What is done here is to copy its states at the end of what sequences begin with in common.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, zip_longest

import torch
from torch import Tensor
from transformers import DynamicCache

from solon.errors import UnsupportedModel, first_line
from solon.inference.active import Active
from solon.inference.choice_scores import choice_scores
from solon.inference.known_states import KnownStates
from solon.inference.loaded_model import LoadedModel
from solon.inference.memory import MEMORY_SHARE, device_memory, out_of_memory
from solon.inference.prefill import PASS_TOKENS, Logits
from solon.inference.prefix import LEAST_SAVING, Stretch, Tokens, plan
from solon.inference.rows import Count, Rows, take_out
from solon.inference.scoring import Scored
from solon.inference.states import States, together
from solon.inference.trial import agree


class StateRows(Rows):
    """All sequences under way in one cache, which a decoding step runs at once.

    Where a model does not read its caches padded, only those of one length are together. Prompts are read
    without padding, which recurrent states would take in: stretches of one length go together. Raises
    UnsupportedModel where the model's states cannot be copied: a trial shows whether it goes on from copies
    as it does by itself.
    """

    def __init__(self, model: LoadedModel, rows: int, count: Count) -> None:
        self._model, self._count = model, count
        self._pads = self._try()
        self.forget(rows)

    def forget(self, rows: int) -> None:
        self._groups: list[tuple[list[Active], States]] = []
        # Of each sequence its prompt, its end, and what it has in common with others.
        self._known = KnownStates(4 * rows, device_memory(self._model.device) // MEMORY_SHARE)

    def admit(self, active: Sequence[Active], new: Sequence[Active]) -> Tensor:
        prompts = [sequence.prompt for sequence in new]
        wanted = [len(prompt) - 1 for prompt in prompts]
        states: dict[int, States] = {}
        logits: list[Tensor] = [torch.empty(0)] * len(new)
        for row, _, last in self._read(prompts, wanted, [sequence.tokens for sequence in active], states):
            logits[row] = last
        for row, prompt in enumerate(prompts):
            self._known.keep(prompt, states[row])
        parts = defaultdict(list)
        for group in (*self._groups, *(([sequence], states[row]) for row, sequence in enumerate(new))):
            parts[0 if self._pads else group[1].length].append(group)
        self._groups = [
            (
                list(chain.from_iterable(sequences for sequences, _ in groups)),
                together([own for _, own in groups]),
            )
            for groups in parts.values()
        ]
        return torch.cat(logits)

    def step(self, active: Sequence[Active]) -> Tensor:
        found: dict[int, Tensor] = {}
        for number, (sequences, states) in enumerate(self._groups):
            tokens = torch.tensor([[sequence.generated[-1]] for sequence in sequences])
            lengths = [sequence.length for sequence in sequences]
            after, logits = self._run(states, tokens, lengths, [1] * len(sequences))
            self._groups[number] = (sequences, after)
            found |= zip(map(id, sequences), logits, strict=True)
        return torch.stack([found[id(sequence)] for sequence in active])

    def remove(self, active: list[Active], rows: Sequence[int]) -> None:
        ended = {id(active[row]) for row in rows}
        groups = []
        for sequences, states in self._groups:  # first what takes memory: where it fails, all are still here
            for row, sequence in enumerate(sequences):
                if id(sequence) in ended:
                    self._known.keep(sequence.tokens, states.rows([row], sequence.length))
            left = [row for row, sequence in enumerate(sequences) if id(sequence) not in ended]
            if left:
                others = [sequences[row] for row in left]
                longest = max(sequence.length for sequence in others)
                groups.append((others, states.rows(left, longest) if len(left) < len(sequences) else states))
        self._groups = groups
        take_out(active, rows, lambda old, new: None)

    def scores(self, rows: list[Scored]) -> list[dict[int, float]]:
        sequences, wanted = [row.tokens for row in rows], [row.start for row in rows]
        scores = choice_scores(self._read(sequences, wanted, (), {}), rows, self._model.head)
        # The rows are sorted, so none of them has more in common with the next batch than the last one.
        self._known.keep(sequences[-1], None)
        return scores

    def _read(
        self,
        sequences: Sequence[Tokens],
        wanted: Sequence[int],
        there: Sequence[Tokens],
        states: dict[int, States],
    ) -> Iterator[Logits]:
        """Run each sequence but for what is known of it, and put its states into ``states``, by number.

        Yields the logits of all positions from ``wanted`` on. What a sequence has in common with others that
        were read before, be they under way (``there``), is read by itself, so that it is known next time.
        """
        ends = []
        for number, (sequence, limit) in enumerate(zip(sequences, wanted, strict=True)):
            if known := self._known.longest(sequence, limit):
                states[number] = known
            ends.append([min(end, limit) for end in self._known.branches(sequence, there)])
        lengths = [states[row].length if row in states else 0 for row in range(len(sequences))]
        for stretches in plan(sequences, wanted, lengths):
            for parts in cut(stretches, ends):
                for group in alike(parts, PASS_TOKENS[self._model.device.type], self._pads):
                    yield from self._pass(group, sequences, wanted, states)

    def _pass(
        self,
        group: Sequence[Stretch],
        sequences: Sequence[Tokens],
        wanted: Sequence[int],
        states: dict[int, States],
    ) -> Iterator[Logits]:
        """One forward pass, over stretches of one length, of which either all or none have states before."""
        before = together([states[stretch.row] for stretch in group]) if group[0].start else self._nothing()
        tokens = torch.stack(
            [torch.from_numpy(sequences[stretch.row][stretch.start : stretch.end]) for stretch in group]
        )
        begins = [max(stretch.start, min(wanted[stretch.row], stretch.end)) for stretch in group]
        counts = [stretch.end - begin for stretch, begin in zip(group, begins, strict=True)]
        after, logits = self._run(before, tokens, [stretch.start for stretch in group], counts)
        self._count(tokens.numel())
        for place, stretch in enumerate(group):
            own = after.rows([place], stretch.end) if len(group) > 1 else after
            for row in (stretch.row, *stretch.copies):
                if row not in states or states[row].length < stretch.end:
                    states[row] = own
            if stretch.end < len(sequences[stretch.row]):
                self._known.keep(sequences[stretch.row][: stretch.end], own)
        for stretch, begin, part in zip(group, begins, torch.split(logits, counts), strict=True):
            if len(part):
                yield stretch.row, begin, part

    def _nothing(self) -> States:
        return States(DynamicCache(config=self._model.network.config.get_text_config(decoder=True)), 0)

    def _run(
        self, states: States, tokens: Tensor, lengths: Sequence[int], counts: Sequence[int]
    ) -> tuple[States, Tensor]:
        """Run tokens [rows, length] behind the rows' first ``lengths`` tokens, into the cache of ``states``.

        Logits [sum of counts, vocabulary] of the last tokens of each row, as many as ``counts`` says.
        """
        model, length = self._model, tokens.shape[1]
        width = states.length + length
        positions = torch.tensor(lengths)[:, None] + torch.arange(length)
        padding = width - positions[:, -1:] - 1
        columns = torch.cat([torch.arange(length - count, length) for count in counts])
        places = torch.arange(len(tokens)).repeat_interleave(torch.tensor(counts))
        model.wanted.positions = (places.to(model.device), columns.to(model.device))
        output = model.network(
            input_ids=tokens.to(model.device),
            attention_mask=(torch.arange(width) >= padding).long().to(model.device),
            **model.cached(states.cache),
            **({"position_ids": positions.to(model.device)} if "position_ids" in model.takes else {}),
        )
        return States(states.cache, width), output.logits

    @torch.inference_mode()
    def _try(self) -> bool:
        """Whether copied states of different lengths may be together.

        Raises UnsupportedModel where not even those of one length give the logits that the model gives alone.
        """
        tokens, plain = self._model.tried, self._model.plain
        begin, short, long = tokens.shape[1] // 4, tokens.shape[1] // 2, tokens.shape[1] - 2
        both = torch.tensor([0, 1])
        try:
            first = [self._run(self._nothing(), row[None, :begin], [0], [0])[0] for row in tokens]
            for ends in ([long, short], [long, long]):
                states = [
                    self._run(together([own]), row[None, begin:end], [begin], [0])[0]
                    for own, row, end in zip(first, tokens, ends, strict=True)
                ]
                pads = ends[0] != ends[1]
                if pads and not all(own.may_be_padded for own in states):
                    continue
                joined, found = self._run(together(states), tokens[both, ends][:, None], ends, [1, 1])
                end = ends[1] + 1
                _, last = self._run(joined.rows([1], end), tokens[1, None, end, None], [end], [1])
                if agree(torch.cat([found, last]), torch.cat([plain[both, ends], plain[1, None, end]])):
                    return pads
        except Exception as error:
            if out_of_memory(error):
                raise
            raise UnsupportedModel(f"its states cannot be copied ({first_line(error)})") from error
        raise UnsupportedModel("it does not go on from a copy of its states as it does by itself")


def cut(stretches: Sequence[Stretch], ends: Sequence[Sequence[int]]) -> Iterator[list[Stretch]]:
    """The stretches, cut where ``ends``, by row, says and it is worth it; first parts first."""
    return (
        [part for part in parts if part]
        for parts in zip_longest(*(cut_one(stretch, ends[stretch.row]) for stretch in stretches))
    )


def cut_one(stretch: Stretch, ends: Sequence[int]) -> Iterator[Stretch]:
    start = stretch.start
    for end in ends:
        if end - start >= LEAST_SAVING and end < stretch.end:
            yield replace(stretch, start=start, end=end, copies=())
            start = end
    yield replace(stretch, start=start)


def alike(stretches: Sequence[Stretch], most: int, pads: bool) -> Iterator[list[Stretch]]:
    """Groups of stretches of one length within ``most`` tokens, all or none of which begin a sequence.

    Those of one start, where ``pads`` is not.
    """
    groups = defaultdict(list)
    for stretch in stretches:
        groups[stretch.end - stretch.start, min(stretch.start, 1) if pads else stretch.start].append(stretch)
    for (length, _), group in groups.items():
        size = max(1, most // length)
        yield from (group[start : start + size] for start in range(0, len(group), size))
