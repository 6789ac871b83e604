"""How far the tree and a model agree with the exact forks, and what else a model takes for one.

A word or token is at a fork where it holds a character that decides it. The limits of shares
are Wilson's for 95% and take positions as independent, which those of one problem are not quite.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.records import Example
from forkdiv.coverage.stats import wilson
from forkdiv.forks.sites import Found, ModelFound, Site

CONFIDENCE = 0.95
NAMED = 8  # groups of one sort, the largest
NUMBERED = 9  # tokens counted from the beginning; further on a number says little

NO_FORK, SIGNED, UNSIGNED = 0, 1, 2
KINDS = {UNSIGNED: "unsigned fork", SIGNED: "signed fork", NO_FORK: "no fork"}


def rate(hits: int, of: int) -> dict[str, Any]:
    """A share with its limits, in plain values; None where there is nothing to take one of."""
    if not of:
        return {"hits": 0, "of": 0, "share": None, "low": None, "high": None}
    low, high = wilson(hits / of, of, CONFIDENCE)
    return {"hits": int(hits), "of": int(of), "share": hits / of, "low": low, "high": high}


def tree_against(exact: Found, tree: Found, examples: Sequence[Example]) -> dict[str, Any]:
    """Precision over the tree's sites; recall over all exact sites, over those in problems with
    several different solutions, and over those of which the data shows two branches."""
    truth = _by_row(exact.sites)
    guesses = [site for site in tree.sites if site.row in exact.read]
    right = {
        (site.row, site.at)
        for site in guesses
        if any(_holds(site, fork) for fork in truth.get(site.row, ()))
    }
    seen = _by_row(guesses)
    found = [any(_holds(site, fork) for site in seen.get(fork.row, ())) for fork in exact.sites]

    def recall(of: Iterable[bool]) -> dict[str, Any]:
        among = [hit for hit, wanted in zip(found, of, strict=True) if wanted]
        return rate(sum(among), len(among))

    wrong = [site for site in guesses if (site.row, site.at) not in right]
    first = sum(1 for site in wrong if not examples[site.row].response[: site.at].strip())
    end = sum(1 for site in wrong if not site.taken)
    return {
        "precision": rate(len(right), len(guesses)),
        "recall": recall(True for _ in exact.sites),
        "recall_several_solutions": recall(fork.row in tree.read for fork in exact.sites),
        "recall_two_shown": recall(len(fork.shown) > 1 for fork in exact.sites),
        "no_fork_there": {"first word": first, "end": end, "other": len(wrong) - first - end},
        "no_fork_there_by_mode": dict(
            sorted(Counter(examples[site.row].mode for site in wrong).items())
        ),
    }


def model_against(exact: Found, model: ModelFound) -> dict[str, Any]:
    """Precision over flagged positions, recall over exact sites, both by kind of fork; the mean
    entropy of each kind of position, and of the exact sites that were not flagged."""
    here = np.isin(model.positions.row, list(exact.read))
    kinds, flagged, entropy = position_kinds(exact, model), model.flagged, model.positions.entropy
    forks = [site for site in exact.sites if site.row in model.read]
    top = np.array([_highest(model, site) for site in forks])
    hit = top > model.threshold
    signed = np.array([site.signed for site in forks], dtype=bool)
    missed = top[~hit]
    return {
        "precision": rate(
            int((flagged & here & (kinds != NO_FORK)).sum()), int((flagged & here).sum())
        ),
        "recall": rate(int(hit.sum()), len(forks)),
        "recall_unsigned": rate(int(hit[~signed].sum()), int((~signed).sum())),
        "recall_signed": rate(int(hit[signed].sum()), int(signed.sum())),
        "kinds": [
            {
                "kind": name,
                "flagged": int((flagged & ours).sum()),
                "of": int(ours.sum()),
                "mean_entropy": _mean(entropy[ours]),
            }
            for kind, name in KINDS.items()
            if (ours := here & (kinds == kind)).any()
        ],
        "missed": {"forks": len(missed), "mean_entropy": _mean(missed)},
    }


def position_kinds(exact: Found, model: ModelFound) -> NDArray[np.int8]:
    """Of each position: does it decide an unsigned fork, else a signed one, else none?"""
    kinds = np.zeros(len(model.positions.row), dtype=np.int8)
    for site in exact.sites:
        if site.row in model.read:
            at = _deciding(model, site)
            kinds[at] = np.maximum(kinds[at], SIGNED if site.signed else UNSIGNED)
    return kinds


def lookalikes(
    exact: Found | None, model: ModelFound, examples: Sequence[Example]
) -> list[dict[str, Any]]:
    """Flagged positions that are no unsigned fork, in groups: each with its number of flagged
    positions, of all like them, and the mean entropy of all of these.

    The groups `signed fork`, `first token`, `end` and `elsewhere` share all positions out
    between them. Groups `token` split `elsewhere` by its number in the response, and by mode
    where there are several; groups `after` split it by the text of the token before. Without
    exact forks nothing is known of signs.
    """
    where, flagged = model.positions, model.flagged
    kinds = position_kinds(exact, model) if exact else np.zeros(len(where.row), dtype=np.int8)
    known = np.isin(where.row, list(exact.read)) if exact else np.ones(len(where.row), dtype=bool)
    first = np.diff(where.row, prepend=-1) != 0
    last = np.diff(where.row, append=-1) != 0
    plain = known & (kinds == NO_FORK)
    parts = {
        "signed fork": known & (kinds == SIGNED),
        "first token": plain & first,
        "end": plain & last & ~first,
        "elsewhere": plain & ~last & ~first,
    }
    groups = [_group(what, model, ours) for what, ours in parts.items() if ours.any()]
    rest = np.flatnonzero(parts["elsewhere"])
    modes = {example.mode for example in examples}
    starts = np.searchsorted(where.row, where.row)
    tokens: dict[tuple[str, str], list[int]] = defaultdict(list)
    after: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at in rest if flagged[rest].any() else ():
        number, mode = int(at - starts[at]) + 1, examples[int(where.row[at])].mode
        if number <= NUMBERED:
            tokens[f"{number}", mode if len(modes) > 1 else ""].append(int(at))
        after[_text(model, examples, int(at) - 1), ""].append(int(at))
    for what, split in (("token", tokens), ("after", after)):
        found = [
            _group(what, model, np.array(ours), text, mode) for (text, mode), ours in split.items()
        ]
        found.sort(key=lambda group: (-group["flagged"], group["text"], group["mode"]))
        groups += [group for group in found if group["flagged"]][:NAMED]
    return groups


def _group(
    what: str,
    model: ModelFound,
    ours: NDArray[np.bool_] | NDArray[np.int64],
    text: str = "",
    mode: str = "",
) -> dict[str, Any]:
    """`ours` are positions, as a mask or as indices."""
    return {
        "what": what,
        "text": text,
        "mode": mode,
        "flagged": int(model.flagged[ours].sum()),
        "of": len(model.flagged[ours]),
        "mean_entropy": _mean(model.positions.entropy[ours]),
    }


def _text(model: ModelFound, examples: Sequence[Example], at: int) -> str:
    where = model.positions
    text = examples[int(where.row[at])].response[int(where.start[at]) : int(where.end[at])]
    return text.strip() or text


def _by_row(sites: Iterable[Site]) -> Mapping[int, list[Site]]:
    rows: dict[int, list[Site]] = defaultdict(list)
    for site in sites:
        rows[site.row].append(site)
    return rows


def _holds(site: Site, fork: Site) -> bool:
    return any(site.at <= at < site.at + max(len(site.taken), 1) for at in fork.departures)


def _deciding(model: ModelFound, fork: Site) -> NDArray[np.intp]:
    """Positions of the tokens that decide a fork; an end token stands after the last character."""
    ours = model.positions.of(fork.row)
    start, end = model.positions.start[ours], model.positions.end[ours]
    end = np.where(start == end, end + 1, end)
    held = np.zeros(len(start), dtype=bool)
    for at in fork.departures:
        held |= (start <= at) & (at < end)
    decided: NDArray[np.intp] = np.flatnonzero(held) + ours.start
    return decided


def _highest(model: ModelFound, fork: Site) -> float:
    return float(model.positions.entropy[_deciding(model, fork)].max(initial=0.0))


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
