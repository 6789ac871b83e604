"""What each decoder makes of a model's logits: the reference that the engine must agree with.

The order is vLLM 0.29's, read from its sampler: what may change the likeliest token works on the
raw logits (the gate, top-nσ, a forced first token; see `logits_processors`), then come the
temperature, min-p, top-k and top-p. numpy in float64, one distribution per row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forkdiv.core.config.decoder import DecoderConfig

Floats = NDArray[np.float64]


def distribution(logits: ArrayLike, decoder: DecoderConfig) -> Floats:
    """The probabilities that `decoder` draws the next token by; shape of `logits`, whose last
    axis is the vocabulary. The designs (first tokens, trees) are not in it."""
    raw = np.asarray(logits, dtype=np.float64)
    kept = raw
    if decoder.top_n_sigma is not None:
        kept = top_n_sigma(raw, decoder.top_n_sigma)
    p = _heated(kept, _temperatures(raw, decoder))
    if decoder.min_p:
        p = _renormed(np.where(p < decoder.min_p * p.max(-1, keepdims=True), 0.0, p))
    if 0 < decoder.top_k < p.shape[-1]:
        least = np.sort(p, axis=-1)[..., -decoder.top_k, None]
        p = _renormed(np.where(p < least, 0.0, p))  # of equals all stay, as in vLLM
    return _renormed(_nucleus(p, decoder.top_p)) if decoder.top_p < 1 else p


def entropy(logits: ArrayLike) -> Floats:
    """Next-token entropy in nats, of the model's own distribution; shape without the last axis."""
    p = softmax(logits)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(p > 0, -p * np.log(p), 0.0).sum(-1))


def softmax(logits: ArrayLike) -> Floats:
    z = np.asarray(logits, dtype=np.float64)
    weights = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def top_n_sigma(logits: ArrayLike, n: float) -> Floats:
    """Logits below max - n·σ become -inf. σ is the standard deviation over the vocabulary
    (arXiv 2411.07641), so the kept set does not depend on the temperature."""
    z = np.asarray(logits, dtype=np.float64)
    least = z.max(-1, keepdims=True) - n * z.std(-1, keepdims=True)
    return np.where(z < least, -np.inf, z)


def first_candidates(logits: ArrayLike, k: int) -> NDArray[np.int64]:
    """The k likeliest tokens, the likeliest first; of equals the smaller id. Shape (..., k).

    Raises ValueError where the vocabulary is smaller.
    """
    z = np.asarray(logits, dtype=np.float64)
    if k > z.shape[-1]:
        raise ValueError(f"no {k} first tokens in a vocabulary of {z.shape[-1]}")
    return np.argsort(-z, axis=-1, kind="stable")[..., :k]


def _temperatures(raw: Floats, decoder: DecoderConfig) -> Floats:
    """One per row, with a last axis of 1."""
    shape = (*raw.shape[:-1], 1)
    if decoder.gate_entropy is None or decoder.hot_temperature is None:
        return np.full(shape, decoder.temperature)
    at_a_fork = entropy(raw)[..., None] >= decoder.gate_entropy
    return np.where(at_a_fork, decoder.hot_temperature, decoder.temperature)


def _heated(logits: Floats, temperature: Floats) -> Floats:
    """At temperature 0 all probability is on the first of the likeliest tokens."""
    hot = softmax(logits / np.where(temperature == 0, 1.0, temperature))
    one = np.arange(logits.shape[-1]) == logits.argmax(-1, keepdims=True)
    return np.where(temperature == 0, one, hot)


def _nucleus(p: Floats, top_p: float) -> Floats:
    """The likeliest tokens that together hold `top_p`, one at least."""
    order = np.argsort(p, axis=-1, kind="stable")
    below = np.cumsum(np.take_along_axis(p, order, -1), axis=-1)
    dropped = below <= 1 - top_p
    dropped[..., -1] = False
    out = p.copy()
    np.put_along_axis(out, order, np.where(dropped, 0.0, np.take_along_axis(p, order, -1)), -1)
    return out


def _renormed(p: Floats) -> Floats:
    return np.asarray(p / p.sum(-1, keepdims=True))
