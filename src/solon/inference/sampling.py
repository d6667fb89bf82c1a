"""From logits to tokens."""

import torch
from torch import Tensor

from solon.errors import NotFinite

NUCLEUS = 1024  # tokens looked at first; a nucleus that is larger has the whole vocabulary sorted
AT_A_TIME = 2**20  # probabilities, on a CPU: more than its caches hold cost several times as much
BELOW_ONE = 1 - 2**-23  # the largest draw, so that in float32 a product with it stays below the total


def not_finite(model: str) -> NotFinite:
    return NotFinite(
        f"the probabilities of model {model!r} are not finite numbers: its weights are damaged, or too large "
        "for the number type it runs in; set engine.dtype to float32, or name another model"
    )


def sample(
    logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor, *, model: str = ""
) -> tuple[Tensor, Tensor]:
    """One token for each row of ``logits`` [rows, vocabulary], by inversion of the distribution function.

    With it comes the log-probability, in nats, that it was drawn with: 0 where it was certain.

    ``temperature`` (0 is greedy), ``top_p`` (Holtzman et al. 2020: the smallest set of likeliest tokens with
    at least this probability) and ``uniform`` (the row's own draw from [0, 1)) are [rows], so that a row's
    token does not depend on the other rows. Raises NotFinite, which names the ``model``, where a probability
    is not a finite number.
    """
    rows = max(1, AT_A_TIME // logits.shape[-1]) if logits.device.type == "cpu" else max(1, len(logits))
    parts = zip(*(torch.split(values, rows) for values in (logits, temperature, top_p, uniform)), strict=True)
    try:
        tokens, logprobs = zip(*(_sample(*part) for part in parts), strict=True)
    except NotFinite:
        raise not_finite(model) from None
    return torch.cat(tokens), torch.cat(logprobs)


def _sample(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    tokens = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    logprobs = torch.zeros(len(logits), device=logits.device)
    greedy = temperature == 0
    if greedy.any():
        tokens[greedy] = logits[greedy].argmax(-1)
        if not logits[greedy].gather(-1, tokens[greedy, None]).isfinite().all():  # NaN is its largest number
            raise NotFinite
    for chosen, draw in ((~greedy & (top_p >= 1), _from_all), (~greedy & (top_p < 1), _from_nucleus)):
        if chosen.any():
            probabilities = (logits[chosen].float() / temperature[chosen, None]).softmax(-1)
            if not probabilities[:, 0].isfinite().all():  # where one of a row is none, none is
                raise NotFinite
            tokens[chosen], drawn = draw(probabilities, top_p[chosen, None], uniform[chosen, None])
            logprobs[chosen] = drawn.log()
    return tokens, logprobs


def _from_all(probabilities: Tensor, _: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens, and the probabilities that they were drawn with."""
    tokens = _invert(probabilities, uniform)[:, None]
    return tokens[:, 0], probabilities.gather(-1, tokens)[:, 0]


def _from_nucleus(probabilities: Tensor, top_p: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    likeliest, tokens = probabilities.topk(min(NUCLEUS, probabilities.shape[-1]))
    if (likeliest.sum(-1, keepdim=True) < top_p).any():
        likeliest, tokens = probabilities.sort(descending=True, stable=True)
    before = likeliest.cumsum(-1) - likeliest
    likeliest = likeliest.where(before < top_p, 0)
    places = _invert(likeliest, uniform)[:, None]
    drawn = likeliest.gather(-1, places)[:, 0] / likeliest.sum(-1)
    return tokens.gather(-1, places)[:, 0], drawn


def _invert(weights: Tensor, uniform: Tensor) -> Tensor:
    cumulative = weights.cumsum(-1)
    target = uniform.clamp(max=BELOW_ONE) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)
