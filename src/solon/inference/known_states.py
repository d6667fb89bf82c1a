"""States at the ends of sequences' beginnings, so that what comes again is not computed again."""

from collections import OrderedDict
from collections.abc import Iterable

from solon.inference.prefix import Tokens, common_length
from solon.inference.states import States


class KnownStates:
    """Sequences lately read, each with the model's states at its end, or without.

    States cannot be cut back to fewer tokens as keys and values can: what two sequences begin with is known
    where it was read by itself. At most ``count`` sequences and ``most_bytes`` bytes; the least recently used
    go first.
    """

    def __init__(self, count: int, most_bytes: int) -> None:
        self._count, self._most_bytes, self._size = count, most_bytes, 0
        self._kept: OrderedDict[bytes, tuple[Tokens, States | None]] = OrderedDict()

    def keep(self, tokens: Tokens, states: States | None) -> None:
        key = tokens.tobytes()
        self._drop(key)
        self._kept[key] = (tokens, states)
        self._size += states.size if states else 0
        while len(self._kept) > self._count or self._size > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def longest(self, tokens: Tokens, most: int) -> States | None:
        """Those at the end of the longest beginning of it that there are any of, up to ``most`` tokens."""
        first = tokens[:most]
        ends = [
            (len(kept), key)
            for key, (kept, states) in self._kept.items()
            if states and common_length(kept, first) == len(kept)
        ]
        if not ends:
            return None
        _, key = max(ends)
        self._kept.move_to_end(key)
        return self._kept[key][1]

    def branches(self, tokens: Tokens, others: Iterable[Tokens]) -> list[int]:
        """After how many tokens sequences that were read, and ``others``, part from it; in rising order."""
        kept = [each for each, _ in self._kept.values()]
        return sorted({common_length(each, tokens) for each in (*kept, *others)})

    def _drop(self, key: bytes) -> None:
        _, states = self._kept.pop(key, (None, None))
        self._size -= states.size if states else 0
