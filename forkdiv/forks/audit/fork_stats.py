"""The numbers of one way of finding forks: how dense, how many branches, how well covered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from forkdiv.core.records import Example
from forkdiv.forks.sites import Found, Site

WORST = 10  # under-covered forks that the summary names; the table has all
CONTEXT = 40  # characters of text before a fork, to recognise it by


def way_numbers(
    found: Found, examples: Sequence[Example], tokens: Mapping[int, int]
) -> dict[str, Any]:
    """The numbers of one way; None where it cannot tell. Means of branches and of coverage are
    over distinct forks, which several responses may pass; all others over each passing."""
    sites, forks = found.sites, distinct(found.sites)
    words = sum(len(examples[row].response.split()) for row in found.read)
    counted = [site for site in sites if site.row in tokens]
    signs = Counter(site.signed for site in sites if site.signed is not None)
    return {
        "examples": len(found.read),
        "examples_with_a_fork": len({site.row for site in sites}),
        "sites": len(sites),
        "forks": len(forks),
        "forks_per_example": _share(len(sites), len(found.read)),
        "forks_per_100_words": _share(100 * len(sites), words),
        "forks_per_100_tokens": _share(
            100 * len(counted), sum(tokens.get(row, 0) for row in found.read)
        ),
        "unsigned": signs[False] if signs else None,
        "fork_density": _share(signs[False], signs.total()),
        "mean_branches": _mean([len(site.branches) for site in forks]),
        "mean_shown": _mean([len(site.shown) for site in forks]),
        "coverage": None if found.way == "tree" else _coverage(forks),
        "coverage_in_problem": _in_problem(sites, examples),
        "astray": _astray(sites) if found.way == "exact" else None,
        "shown_histogram": {
            str(shown): count
            for shown, count in sorted(Counter(len(site.shown) for site in forks).items())
        },
        "places": _places(sites, examples),
        "most_under_covered": [under_covered(site, examples) for site in worst(forks)[:WORST]],
    }


def distinct(sites: Iterable[Site]) -> list[Site]:
    """One site of each fork, the first."""
    return list({site.fork: site for site in reversed(list(sites))}.values())[::-1]


def worst(forks: Iterable[Site]) -> list[Site]:
    """The under-covered ones: least covered first, then by how likely, or how many, the missing
    branches are."""

    def key(site: Site) -> tuple[float, float, int, int]:
        chances = dict(zip(site.branches, site.chances or (), strict=False))
        missing = sum(chances.get(branch, 1.0) for branch in site.missing)
        return site.coverage or 0.0, -missing, site.row, site.at

    return sorted((site for site in forks if site.under_covered), key=key)


def under_covered(site: Site, examples: Sequence[Example]) -> dict[str, Any]:
    """An under-covered fork in plain values."""
    before = examples[site.row].response[: site.at]
    return {
        "problem_id": site.problem_id,
        "row": site.row,
        "at": site.at,
        "before": before[-CONTEXT:],
        "shown": dict(site.shown),
        "missing": list(site.missing),
        "coverage": site.coverage,
        "signed": site.signed,
        "entropy": site.entropy,
    }


def word_at(response: str, at: int) -> int:
    """Which word of a response the character at an offset is in, from 1; one more at its end."""
    inside = 0 < at < len(response) and not response[at - 1].isspace()
    return len(response[:at].split()) + (0 if inside else 1)


def _coverage(forks: Sequence[Site]) -> dict[str, Any]:
    """Over forks with several wanted branches: shown from the same beginning."""
    known = [site.coverage for site in forks if site.coverage is not None]
    under = sum(1 for share in known if share < 1)
    return {
        "defined": len(known),
        "mean": _mean(known),
        "full": len(known) - under,
        "under_covered": under,
        "under_covered_share": _share(under, len(known)),
    }


def _in_problem(sites: Sequence[Site], examples: Sequence[Example]) -> dict[str, Any] | None:
    """Coverage with a branch counted as shown wherever in the problem's responses the same
    choice is met: after other branches of an earlier fork, the beginnings differ."""
    shown: dict[tuple[str, str, tuple[str, ...]], set[str]] = {}
    valid: dict[tuple[str, str, tuple[str, ...]], tuple[str, ...]] = {}
    for site in sites:
        if site.valid is not None and site.wanted:
            key = (site.problem_id, examples[site.row].prompt, site.branches)
            shown.setdefault(key, set()).add(site.taken)
            valid[key] = site.valid
    if not shown:
        return None
    shares = [len(shown[key] & set(right)) / len(right) for key, right in valid.items()]
    under = sum(1 for share in shares if share < 1)
    return {"defined": len(shares), "mean": _mean(shares), "under_covered": under}


def _astray(sites: Sequence[Site]) -> int:
    return sum(1 for site in sites if site.valid is not None and site.taken not in site.valid)


def _places(sites: Sequence[Site], examples: Sequence[Example]) -> dict[str, Any]:
    """How far into the responses: counts by tenth, and the middle 90% by word and by share."""
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


def _share(some: float, of: float) -> float | None:
    return some / of if of else None
