"""Reference implementation of each decoder on a model's logits; the engine must agree with it.

The order is that of vLLM 0.29's sampler: steps that may change the likeliest token work on the raw
logits (the entropy gate, top-nσ, a forced first token; see `logits_processors`), followed by
temperature, min-p, top-k and top-p. numpy in float64, one distribution per row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forkdiv.core.config.decoder import DecoderConfig

Floats = NDArray[np.float64]


def distribution(logits: ArrayLike, decoder: DecoderConfig) -> Floats:
    """Returns the next-token probabilities of `decoder`, in the shape of `logits`, whose last axis
    is the vocabulary. Dependent designs (first tokens, trees) are not included."""
    raw = np.asarray(logits, dtype=np.float64)
    filtered = raw
    if decoder.top_n_sigma is not None:
        filtered = top_n_sigma(raw, decoder.top_n_sigma)
    p = _at_temperature(filtered, _temperatures(raw, decoder))
    if decoder.min_p:
        p = _normalised(np.where(p < decoder.min_p * p.max(-1, keepdims=True), 0.0, p))
    if 0 < decoder.top_k < p.shape[-1]:
        least = np.sort(p, axis=-1)[..., -decoder.top_k, None]
        p = _normalised(np.where(p < least, 0.0, p))  # ties are all kept, as in vLLM
    return _normalised(_nucleus(p, decoder.top_p)) if decoder.top_p < 1 else p


def entropy(logits: ArrayLike) -> Floats:
    """Returns the next-token entropy of the model in nats; the last axis is removed."""
    p = softmax(logits)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(p > 0, -p * np.log(p), 0.0).sum(-1))


def softmax(logits: ArrayLike) -> Floats:
    z = np.asarray(logits, dtype=np.float64)
    weights = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def top_n_sigma(logits: ArrayLike, n: float) -> Floats:
    """Sets logits below max - n·σ to -inf. σ is the standard deviation over the vocabulary
    (arXiv 2411.07641), so the tokens that remain do not depend on the temperature."""
    z = np.asarray(logits, dtype=np.float64)
    least = z.max(-1, keepdims=True) - n * z.std(-1, keepdims=True)
    return np.where(z < least, -np.inf, z)


def first_candidates(logits: ArrayLike, k: int) -> NDArray[np.int64]:
    """Returns the k likeliest tokens in descending order, ties by id. Shape (..., k).

    Raises ValueError if k exceeds the vocabulary.
    """
    z = np.asarray(logits, dtype=np.float64)
    if k > z.shape[-1]:
        raise ValueError(f"first_tokens={k} exceeds the vocabulary of {z.shape[-1]} tokens")
    return np.argsort(-z, axis=-1, kind="stable")[..., :k]


def _temperatures(raw: Floats, decoder: DecoderConfig) -> Floats:
    """Returns a temperature per row, with a last axis of 1."""
    shape = (*raw.shape[:-1], 1)
    if decoder.gate_entropy is None or decoder.hot_temperature is None:
        return np.full(shape, decoder.temperature)
    gate_open = entropy(raw)[..., None] >= decoder.gate_entropy
    return np.where(gate_open, decoder.hot_temperature, decoder.temperature)


def _at_temperature(logits: Floats, temperature: Floats) -> Floats:
    """Returns probabilities; at temperature 0 the first of the likeliest tokens has all."""
    sampled = softmax(logits / np.where(temperature == 0, 1.0, temperature))
    greedy = np.arange(logits.shape[-1]) == logits.argmax(-1, keepdims=True)
    return np.where(temperature == 0, greedy, sampled)


def _nucleus(p: Floats, top_p: float) -> Floats:
    """Keeps the likeliest tokens whose probabilities add up to `top_p`, at least one token."""
    order = np.argsort(p, axis=-1, kind="stable")
    below = np.cumsum(np.take_along_axis(p, order, -1), axis=-1)
    dropped = below <= 1 - top_p
    dropped[..., -1] = False
    out = p.copy()
    np.put_along_axis(out, order, np.where(dropped, 0.0, np.take_along_axis(p, order, -1)), -1)
    return out


def _normalised(p: Floats) -> Floats:
    return np.asarray(p / p.sum(-1, keepdims=True))
