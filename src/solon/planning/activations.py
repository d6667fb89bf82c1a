"""What a training pass keeps for its backward pass, and what it works with besides, in bytes.

Counted from what a Llama's layers save: each matrix its input, each norm what it scales, attention its
queries, keys, values and output, and no scores (Dao et al. 2022, arXiv:2205.14135). A test holds it to what
torch saves.
"""

from dataclasses import dataclass

from solon.planning.machine import Device
from solon.planning.model_size import ModelSize

FULL = 4  # bytes of a float32, in which what is trained is held and saved

# Of the head's product at a time, by TRL on a GPU and as ``libraries.trl`` has it elsewhere: tokens, and
# columns of the vocabulary; and float32 tensors of that size that make it a gradient where no kernel does.
ON_A_GPU, ELSEWHERE = (4096, 32768), (256, 8192)
TILES = 7


@dataclass(frozen=True)
class Pass:
    """A forward and a backward pass."""

    device: Device
    tokens: float
    logits: float  # tokens of them whose log-probabilities are computed
    held: int  # bytes of a weight as it is held, and so of what goes from layer to layer
    rank: int = 0  # of adapters; 0 without them
    # Sequences share beginnings. What comes after these has a mask, for which attention repeats keys and
    # values to the queries' width.
    branches: bool = False

    @property
    def computed(self) -> int:
        """Bytes of a number in products, which CUDA makes in bfloat16 under autocast."""
        return 2 if self.device.kind == "cuda" else self.held

    def activations(self, size: ModelSize, checkpointed: bool) -> float:
        """The most at a time: of all layers or, ``checkpointed``, their inputs and one layer."""
        layer = self.tokens * self.of_layer(size)
        last_norm = self.tokens * size.hidden * (2 * FULL + self.held)
        gradients, head = self._gradients(size), self._head(size)  # made one after the other
        if checkpointed:
            inputs = size.layers * self.tokens * size.hidden * self.held
            return inputs + last_norm + max(layer + gradients, head)
        return size.layers * layer + last_norm + max(gradients, head)

    def copies(self, size: ModelSize, checkpointed: bool) -> float:
        """Of weights, in the smaller type of the products: kept as activations are."""
        if self.held == self.computed:
            return 0
        return self.computed * size.multiplied / (size.layers if checkpointed else 1)

    def of_layer(self, size: ModelSize) -> float:
        """What one layer keeps of a token."""
        computed, autocast = self.computed, self.device.kind == "cuda"
        # Adapters are float32, and their inputs are made so. A cast makes each matrix a copy of its own.
        adapted = FULL if self.rank and not autocast else computed
        copies = 5 if autocast or adapted != self.held else 2  # of two norms' outputs
        norms = 2 * (FULL if self.rank else 2 * FULL)  # frozen ones keep their input alone
        return (
            size.hidden * (norms + copies * adapted)
            + size.attention * ((4 if self.branches else 2) * computed + adapted)
            + size.keys * 2 * computed
            + size.inner * (3 * computed + adapted)
            + 7 * self.rank * adapted  # what adapters make of the inputs of seven matrices
        )

    def _gradients(self, size: ModelSize) -> float:
        """Of what a layer keeps, while they are made."""
        return self.tokens * (3 * size.inner + 2 * size.hidden) * self.computed

    def _head(self, size: ModelSize) -> float:
        """In which log-probabilities and their gradients are made, part by part; a score's takes nothing."""
        if not size.head:
            return 0
        on_gpu = self.device.kind == "cuda"
        scored = self.logits if on_gpu else self.tokens  # elsewhere all positions are
        tokens, columns = ON_A_GPU if on_gpu else ELSEWHERE
        part = min(scored, tokens) * min(size.vocabulary, columns)
        work = self.computed + (0 if on_gpu else TILES * FULL)
        trained = 0 if self.rank else size.head * FULL  # the matrix's new gradient, beside the one so far
        return part * work + scored * size.hidden * FULL + trained
