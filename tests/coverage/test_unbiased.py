"""pass@k under every decoder, on a model of three tokens whose probabilities are all known.

Forty thousand studies of one problem are simulated with each decoder, and their estimates' mean
is held against the truth. A bias of 0.01 would be seen: four standard errors are less than that.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.coverage import estimate, stats
from forkdiv.coverage.stats import Floats
from forkdiv.models.decoding import distribution, first_candidates, softmax
from forkdiv.sample import sample_trees
from forkdiv.score.counts import ProblemCounts

Ints = NDArray[np.int64]

WORDS, LENGTH = 5, 3
SAMPLES, STUDIES = 16, 40_000
KS = (1, 2, 3, 4, 5, 8, 11, 13)
SEEN = 0.01  # a bias that must be noticed
RANDOM = np.random.default_rng(20260101)

# next-token logits after every beginning; sharp at some of them, flat at others
LOGITS = {
    start: RANDOM.normal(size=WORDS) * RANDOM.choice([0.3, 2.5])
    for length in range(LENGTH)
    for start in product(range(WORDS), repeat=length)
}
RESPONSES = list(product(range(WORDS), repeat=LENGTH))
# two after every first word
CORRECT = {
    tuple(map(int, (first, *RANDOM.integers(WORDS, size=2)))) for first in [*range(WORDS)] * 2
}

DECODERS = {
    "plain": DecoderConfig(),
    "cold": DecoderConfig(temperature=0.5),
    "hot": DecoderConfig(temperature=1.7),
    "top_k": DecoderConfig(top_k=3),
    "top_p": DecoderConfig(top_p=0.8),
    "min_p": DecoderConfig(min_p=0.2),
    "top_n_sigma": DecoderConfig(top_n_sigma=2.0),
    "gate": DecoderConfig(temperature=0.5, gate_entropy=1.2, hot_temperature=2.0),
    "first tokens": DecoderConfig(first_tokens=3),
    "cut first tokens": DecoderConfig(first_tokens=5, top_p=0.97, temperature=0.8),
    "trees": DecoderConfig(tree_samples=4, fork_entropy=1.0),
    "hot trees": DecoderConfig(tree_samples=4, fork_entropy=1.2, temperature=1.7, min_p=0.1),
}


def number(start: tuple[int, ...]) -> int:
    """A row per beginning: of one length they follow one another."""
    return sum((1 + word) * WORDS**i for i, word in enumerate(reversed(start)))


STARTS = sorted(LOGITS, key=number)
TABLE = np.array([LOGITS[start] for start in STARTS])


def drawn(decoder: DecoderConfig, forced: Ints, random: np.random.Generator) -> Ints:
    """Responses of shape (…, LENGTH); a word of `forced` that is not -1 is taken as it is."""
    steps = np.cumsum(distribution(TABLE, decoder), axis=-1)
    words = np.empty(forced.shape, dtype=np.int64)
    begin, within = np.zeros(forced.shape[:-1], dtype=np.int64), 0
    for at in range(LENGTH):
        row = within + begin
        chance = random.random(row.shape)[..., None]
        free = np.minimum((chance > steps[row]).sum(-1), WORDS - 1)
        words[..., at] = np.where(forced[..., at] >= 0, forced[..., at], free)
        begin, within = begin * WORDS + words[..., at], within + WORDS**at
    return words


RIGHT = np.array([one in CORRECT for one in RESPONSES])


def right(words: Ints) -> NDArray[np.bool_]:
    return np.asarray(RIGHT[words @ WORDS ** np.arange(LENGTH)[::-1]])


def correct_after(start: tuple[int, ...], decoder: DecoderConfig) -> float:
    """The probability of a correct response, given how it begins."""
    total = 0.0
    for one in CORRECT:
        if one[: len(start)] == start:
            rest = range(len(start), LENGTH)
            total += np.prod([distribution(LOGITS[one[:at]], decoder)[one[at]] for at in rest])
    return float(total)


def branches(probe: tuple[int, ...], decoder: DecoderConfig) -> list[tuple[int, ...]]:
    """How the other samples of a tree begin."""
    logs = [np.log(softmax(LOGITS[probe[:at]])) for at in range(LENGTH)]
    likely = [dict(enumerate(row.tolist())) for row in logs]
    spread = sample_trees.tree_branches(probe, likely, decoder)
    return [probe[: one.at] + (() if one.token is None else (one.token,)) for one in spread]


def truth(decoder: DecoderConfig) -> Floats:
    """pass@k of the decoder's own samples, by enumeration; shape (ks,)."""
    if decoder.first_tokens:
        first = first_candidates(LOGITS[()], decoder.first_tokens)
        p = np.array([correct_after((int(word),), decoder) for word in first])
        return np.array([1 - np.prod((1 - p) ** stats.deal(k, decoder.first_tokens)) for k in KS])
    if not decoder.tree_samples:
        return 1 - (1 - correct_after((), decoder)) ** np.array(KS)
    size = decoder.tree_samples
    none = np.zeros(size + 1)  # that none of a tree's first r samples is correct
    none[0] = 1
    for probe in RESPONSES:
        steps = [distribution(LOGITS[probe[:at]], decoder)[probe[at]] for at in range(LENGTH)]
        wrong = [float(probe not in CORRECT)]
        wrong += [1 - correct_after(start, decoder) for start in branches(probe, decoder)]
        none[1:] += np.prod(steps) * np.cumprod(wrong)
    return np.array([1 - none[size] ** (k // size) * none[k % size] for k in KS])


def simulated(decoder: DecoderConfig, random: np.random.Generator) -> NDArray[np.bool_]:
    """Whether each sample of each study is correct; shape (studies, samples)."""
    forced = np.full((STUDIES, SAMPLES, LENGTH), -1)
    if decoder.first_tokens:
        first = first_candidates(LOGITS[()], decoder.first_tokens)
        forced[..., 0] = [first[decoder.stratum(i) or 0] for i in range(SAMPLES)]
    if decoder.tree_samples:
        size = decoder.tree_samples
        probes = drawn(decoder, forced[:, ::size], random)
        starts = np.full((len(RESPONSES), size, LENGTH), -1)
        for i, probe in enumerate(RESPONSES):
            starts[i, 0] = probe
            for j, start in enumerate(branches(probe, decoder), 1):
                starts[i, j, : len(start)] = start
        numbers = probes @ WORDS ** np.arange(LENGTH)[::-1]
        forced = starts[numbers].reshape(STUDIES, SAMPLES, LENGTH)
    return right(drawn(decoder, forced, random))


def counted(decoder: DecoderConfig, found: NDArray[np.bool_]) -> list[ProblemCounts]:
    """Each study as the counts of one problem."""
    out = []
    for row in found:
        one = ProblemCounts("p", "all", n=SAMPLES, correct=int(row.sum()))
        if strata := decoder.first_tokens:
            groups = [row[s::strata] for s in range(strata)]
            one.strata = {s: (len(g), int(g.sum()), 0) for s, g in enumerate(groups)}
        if size := decoder.tree_samples:
            trees = row.reshape(-1, size)
            places = [int(tree.argmax()) if tree.any() else None for tree in trees]
            one.trees = {i: (size, place, place) for i, place in enumerate(places)}
        out.append(one)
    return out


def off(values: Floats, true: Floats) -> tuple[Floats, Floats]:
    """The mean's distance from the truth, and its standard error."""
    return values.mean(0) - true, values.std(0) / np.sqrt(len(values))


@pytest.mark.parametrize("name", DECODERS)
def test_pass_at_k_is_unbiased(name: str) -> None:
    decoder = DECODERS[name]
    found = simulated(decoder, np.random.default_rng(7))
    # studies that went alike are estimated once
    alike, which = np.unique(found, axis=0, return_inverse=True)
    values = estimate.pass_at(counted(decoder, alike), KS)[which]
    bias, error = off(values, truth(decoder))
    assert (4 * error < SEEN).all(), error
    assert (error > 0).all()
    assert (np.abs(bias) < 4 * error).all(), (bias, error)


@pytest.mark.parametrize("name", ["first tokens", "cut first tokens", "trees", "hot trees"])
def test_samples_that_are_not_exchangeable_bias_the_usual_estimator(name: str) -> None:
    decoder = DECODERS[name]
    found = simulated(decoder, np.random.default_rng(8))
    plain = stats.pass_at_k(SAMPLES, found.sum(1)[:, None], np.array(KS))
    bias, error = off(plain, truth(decoder))
    worst = np.abs(bias).argmax()
    assert abs(bias[worst]) > SEEN
    assert abs(bias[worst]) > 10 * error[worst]


def test_exact_values_of_first_tokens_are_the_truth() -> None:
    decoder = DECODERS["first tokens"]
    first = first_candidates(LOGITS[()], 3)
    p = np.array([[correct_after((int(word),), decoder) for word in first]])
    np.testing.assert_allclose(estimate.exact_pass_at(p, KS)[0], truth(decoder))


def test_the_toys_decoders_differ_and_its_trees_branch_everywhere() -> None:
    at_8 = sorted(float(truth(one)[KS.index(8)]) for one in DECODERS.values())
    assert at_8[0] > 0.02 and at_8[-1] < 0.98
    assert len({round(value, 3) for value in at_8}) >= 10
    depths = {len(start) for probe in RESPONSES for start in branches(probe, DECODERS["trees"])}
    assert depths == set(range(1, LENGTH + 1))
