"""Statistics of one way of finding forks: density, number of branches, and coverage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from forkdiv.core.records import Example
from forkdiv.forks.sites import Site, SiteSet

MAX_WORST = 10  # under-covered forks in the summary; forks.parquet has all
CONTEXT_CHARS = 40  # characters of text before a fork that are shown


def way_statistics(
    site_set: SiteSet, examples: Sequence[Example], tokens: Mapping[int, int]
) -> dict[str, Any]:
    """Returns the statistics of one way; None for unknown values.

    Means of branches and of coverage are over distinct forks. All other values count a fork once
    for each response that contains it.
    """
    sites, forks = site_set.sites, distinct(site_set.sites)
    words = sum(len(examples[row].response.split()) for row in site_set.rows_read)
    with_tokens = [site for site in sites if site.row in tokens]
    signs = Counter(site.signed for site in sites if site.signed is not None)
    return {
        "examples": len(site_set.rows_read),
        "examples_with_a_fork": len({site.row for site in sites}),
        "sites": len(sites),
        "forks": len(forks),
        "forks_per_example": _share(len(sites), len(site_set.rows_read)),
        "forks_per_100_words": _share(100 * len(sites), words),
        "forks_per_100_tokens": _share(
            100 * len(with_tokens), sum(tokens.get(row, 0) for row in site_set.rows_read)
        ),
        "unsigned": signs[False] if signs else None,
        "fork_density": _share(signs[False], signs.total()),
        "mean_branches": _mean([len(site.branches) for site in forks]),
        "mean_shown": _mean([len(site.shown) for site in forks]),
        "coverage": None if site_set.way == "tree" else _coverage(forks),
        "coverage_in_problem": _coverage_in_problem(sites, examples),
        "astray": _count_wrong(sites) if site_set.way == "exact" else None,
        "shown_histogram": {
            str(shown): count
            for shown, count in sorted(Counter(len(site.shown) for site in forks).items())
        },
        "places": _offsets(sites, examples),
        "most_under_covered": [
            under_covered(site, examples) for site in least_covered(forks)[:MAX_WORST]
        ],
    }


def distinct(sites: Iterable[Site]) -> list[Site]:
    """Returns the first site of each fork."""
    return list({site.fork: site for site in reversed(list(sites))}.values())[::-1]


def least_covered(forks: Iterable[Site]) -> list[Site]:
    """Returns the under-covered forks: least covered first, then by the probability, or number, of
    the missing branches."""

    def key(site: Site) -> tuple[float, float, int, int]:
        chances = dict(zip(site.branches, site.chances or (), strict=False))
        missing = sum(chances.get(branch, 1.0) for branch in site.missing)
        return site.coverage or 0.0, -missing, site.row, site.at

    return sorted((site for site in forks if site.under_covered), key=key)


def under_covered(site: Site, examples: Sequence[Example]) -> dict[str, Any]:
    """Returns an under-covered fork in plain values."""
    before = examples[site.row].response[: site.at]
    return {
        "problem_id": site.problem_id,
        "row": site.row,
        "at": site.at,
        "before": before[-CONTEXT_CHARS:],
        "shown": dict(site.shown),
        "missing": list(site.missing),
        "coverage": site.coverage,
        "signed": site.signed,
        "entropy": site.entropy,
    }


def word_at(response: str, at: int) -> int:
    """Returns the number, from 1, of the word that contains the character at an offset; at the end
    of the response, the number of words plus 1."""
    inside = 0 < at < len(response) and not response[at - 1].isspace()
    return len(response[:at].split()) + (0 if inside else 1)


def _coverage(forks: Sequence[Site]) -> dict[str, Any]:
    """Returns the coverage of forks with several expected branches, counted after the same
    prefix."""
    coverages = [site.coverage for site in forks if site.coverage is not None]
    under_covered = sum(1 for share in coverages if share < 1)
    return {
        "defined": len(coverages),
        "mean": _mean(coverages),
        "full": len(coverages) - under_covered,
        "under_covered": under_covered,
        "under_covered_share": _share(under_covered, len(coverages)),
    }


def _coverage_in_problem(
    sites: Sequence[Site], examples: Sequence[Example]
) -> dict[str, Any] | None:
    """Returns the coverage that counts a branch as shown if any response to the problem takes it at
    the same choice, also after a different prefix (another branch of an earlier fork)."""
    shown: dict[tuple[str, str, tuple[str, ...]], set[str]] = {}
    valid: dict[tuple[str, str, tuple[str, ...]], tuple[str, ...]] = {}
    for site in sites:
        if site.valid is not None and site.expected:
            key = (site.problem_id, examples[site.row].prompt, site.branches)
            shown.setdefault(key, set()).add(site.taken)
            valid[key] = site.valid
    if not shown:
        return None
    shares = [len(shown[key] & set(right)) / len(right) for key, right in valid.items()]
    under_covered = sum(1 for share in shares if share < 1)
    return {"defined": len(shares), "mean": _mean(shares), "under_covered": under_covered}


def _count_wrong(sites: Sequence[Site]) -> int:
    return sum(1 for site in sites if site.valid is not None and site.taken not in site.valid)


def _offsets(sites: Sequence[Site], examples: Sequence[Example]) -> dict[str, Any]:
    """Returns the offsets of forks in the responses: counts by tenth of the response, and the 5%,
    50% and 95% quantiles by word and by share."""
    if not sites:
        return {"tenths": [0] * 10, "words": None, "words_range": None, "shares": None}
    responses = [examples[site.row].response for site in sites]
    shares = np.array(
        [site.at / max(len(text), 1) for site, text in zip(sites, responses, strict=True)]
    )
    words = np.array([word_at(text, site.at) for site, text in zip(sites, responses, strict=True)])
    tenths = np.bincount(np.minimum((shares * 10).astype(int), 9), minlength=10)
    quantiles = (0.05, 0.5, 0.95)
    return {
        "tenths": tenths.tolist(),
        "words_range": [int(words.min()), int(words.max())],
        "words": np.quantile(words, quantiles, method="inverted_cdf").tolist(),
        "shares": np.quantile(shares, quantiles, method="inverted_cdf").tolist(),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
