"""Agreement of the tree way and the model way with the exact forks, and lookalikes.

A word or token is at a fork if it contains a character that decides the fork. Lookalikes are
positions with high model entropy that are not unsigned forks. The limits of shares are 95% Wilson
limits. They treat positions as independent, which is not exact for positions of one problem.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.records import Example
from forkdiv.coverage.stats import wilson
from forkdiv.forks.sites import ModelSiteSet, Site, SiteSet
from forkdiv.forks.table_sites import TableSiteSet

CONFIDENCE = 0.95
MAX_GROUPS = 8  # the largest groups of one kind that are listed
MAX_TOKEN_NUMBER = 9  # token numbers from the beginning; later numbers are not informative

NO_FORK, SIGNED, UNSIGNED = 0, 1, 2
KINDS = {UNSIGNED: "unsigned fork", SIGNED: "signed fork", NO_FORK: "no fork"}


def rate(hits: int, of: int) -> dict[str, Any]:
    """Returns a share with its limits in plain values; None if `of` is 0."""
    if not of:
        return {"hits": 0, "of": 0, "share": None, "low": None, "high": None}
    low, high = wilson(hits / of, of, CONFIDENCE)
    return {"hits": int(hits), "of": int(of), "share": hits / of, "low": low, "high": high}


def tree_agreement(exact: SiteSet, tree: SiteSet, examples: Sequence[Example]) -> dict[str, Any]:
    """Returns precision over the sites of the tree way; recall over all exact sites, over those in
    problems with several different solutions, and over those with two branches in the data."""
    exact_by_row = _by_row(exact.sites)
    tree_sites_read = [site for site in tree.sites if site.row in exact.rows_read]
    correct = {
        (site.row, site.at)
        for site in tree_sites_read
        if any(_contains(site, fork) for fork in exact_by_row.get(site.row, ()))
    }
    tree_by_row = _by_row(tree_sites_read)
    recalled = [
        any(_contains(site, fork) for site in tree_by_row.get(fork.row, ())) for fork in exact.sites
    ]

    def recall(of: Iterable[bool]) -> dict[str, Any]:
        selected = [hit for hit, included in zip(recalled, of, strict=True) if included]
        return rate(sum(selected), len(selected))

    wrong = [site for site in tree_sites_read if (site.row, site.at) not in correct]
    first = sum(1 for site in wrong if not examples[site.row].response[: site.at].strip())
    end = sum(1 for site in wrong if not site.taken)
    return {
        "precision": rate(len(correct), len(tree_sites_read)),
        "recall": recall(True for _ in exact.sites),
        "recall_several_solutions": recall(fork.row in tree.rows_read for fork in exact.sites),
        "recall_two_shown": recall(len(fork.shown) > 1 for fork in exact.sites),
        "no_fork_there": {"first word": first, "end": end, "other": len(wrong) - first - end},
        "no_fork_there_by_mode": dict(
            sorted(Counter(examples[site.row].mode for site in wrong).items())
        ),
    }


def model_agreement(exact: SiteSet, model: ModelSiteSet) -> dict[str, Any]:
    """Returns precision over flagged positions and recall over exact sites by kind of fork; also
    the mean entropy of each kind of position, and of the exact sites that were not flagged."""
    rows_known = np.isin(model.positions.row, list(exact.rows_read))
    kinds, flagged, entropy = position_kinds(exact, model), model.flagged, model.positions.entropy
    forks = [site for site in exact.sites if site.row in model.rows_read]
    peak_entropy = np.array([_peak_entropy(model, site) for site in forks])
    recalled = peak_entropy > model.threshold
    signed = np.array([site.signed for site in forks], dtype=bool)
    missed = peak_entropy[~recalled]
    return {
        "precision": rate(
            int((flagged & rows_known & (kinds != NO_FORK)).sum()),
            int((flagged & rows_known).sum()),
        ),
        "recall": rate(int(recalled.sum()), len(forks)),
        "recall_unsigned": rate(int(recalled[~signed].sum()), int((~signed).sum())),
        "recall_signed": rate(int(recalled[signed].sum()), int(signed.sum())),
        "kinds": [
            {
                "kind": name,
                "flagged": int((flagged & selected).sum()),
                "of": int(selected.sum()),
                "mean_entropy": _mean(entropy[selected]),
            }
            for kind, name in KINDS.items()
            if (selected := rows_known & (kinds == kind)).any()
        ],
        "missed": {"forks": len(missed), "mean_entropy": _mean(missed)},
    }


def table_agreement(exact: SiteSet, table: TableSiteSet) -> dict[str, Any]:
    """Returns precision and recall of the tokens that a learnability table leaves to the base: a
    token is right if it decides an unsigned fork. Signed forks, which can be learned, count as
    wrong, and their share that is left to the base is reported."""
    known = np.isin(table.positions.row, list(exact.rows_read))
    right = known & (position_kinds(exact, table) == UNSIGNED)
    forks = [site for site in exact.sites if site.row in table.rows_read]
    left = np.array([bool(table.left[_deciding_positions(table, site)].any()) for site in forks])
    signed = np.array([site.signed for site in forks], dtype=bool)
    return {
        "precision": rate(int((table.left & right).sum()), int((table.left & known).sum())),
        "recall": rate(int(left[~signed].sum()), int((~signed).sum())),
        "signed_left": rate(int(left[signed].sum()), int(signed.sum())),
    }


def position_kinds(exact: SiteSet, model: ModelSiteSet | TableSiteSet) -> NDArray[np.int8]:
    """Returns the kind of each position: UNSIGNED if it decides an unsigned fork, else SIGNED if it
    decides a signed fork, else NO_FORK."""
    kinds = np.zeros(len(model.positions.row), dtype=np.int8)
    for site in exact.sites:
        if site.row in model.rows_read:
            at = _deciding_positions(model, site)
            kinds[at] = np.maximum(kinds[at], SIGNED if site.signed else UNSIGNED)
    return kinds


def lookalikes(
    exact: SiteSet | None, model: ModelSiteSet, examples: Sequence[Example]
) -> list[dict[str, Any]]:
    """Returns groups of positions that are not unsigned forks: each with the number of flagged
    positions, the number of all positions, and their mean entropy.

    The groups `signed fork`, `first token`, `end` and `elsewhere` partition these positions. Groups
    `token` split `elsewhere` by the number of the token in the response, and by mode if there are
    several modes; groups `after` split it by the text of the previous token. Without exact forks,
    there is no group of signed forks.
    """
    positions, flagged = model.positions, model.flagged
    kinds = position_kinds(exact, model) if exact else np.zeros(len(positions.row), dtype=np.int8)
    rows_known = (
        np.isin(positions.row, list(exact.rows_read))
        if exact
        else np.ones(len(positions.row), dtype=bool)
    )
    first = np.diff(positions.row, prepend=-1) != 0
    last = np.diff(positions.row, append=-1) != 0
    no_fork = rows_known & (kinds == NO_FORK)
    masks = {
        "signed fork": rows_known & (kinds == SIGNED),
        "first token": no_fork & first,
        "end": no_fork & last & ~first,
        "elsewhere": no_fork & ~last & ~first,
    }
    groups = [_group(what, model, selected) for what, selected in masks.items() if selected.any()]
    rest = np.flatnonzero(masks["elsewhere"])
    modes = {example.mode for example in examples}
    starts = np.searchsorted(positions.row, positions.row)
    by_number: dict[tuple[str, str], list[int]] = defaultdict(list)
    by_previous: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index in rest if flagged[rest].any() else ():
        number, mode = int(index - starts[index]) + 1, examples[int(positions.row[index])].mode
        if number <= MAX_TOKEN_NUMBER:
            by_number[f"{number}", mode if len(modes) > 1 else ""].append(int(index))
        by_previous[_text(model, examples, int(index) - 1), ""].append(int(index))
    for what, split in (("token", by_number), ("after", by_previous)):
        split_groups = [
            _group(what, model, np.array(selected), text, mode)
            for (text, mode), selected in split.items()
        ]
        split_groups.sort(key=lambda group: (-group["flagged"], group["text"], group["mode"]))
        groups += [group for group in split_groups if group["flagged"]][:MAX_GROUPS]
    return groups


def _group(
    what: str,
    model: ModelSiteSet,
    selected: NDArray[np.bool_] | NDArray[np.int64],
    text: str = "",
    mode: str = "",
) -> dict[str, Any]:
    """Returns the counts of one group; `selected` are its positions, as a mask or as indices."""
    return {
        "what": what,
        "text": text,
        "mode": mode,
        "flagged": int(model.flagged[selected].sum()),
        "of": len(model.flagged[selected]),
        "mean_entropy": _mean(model.positions.entropy[selected]),
    }


def _text(model: ModelSiteSet, examples: Sequence[Example], at: int) -> str:
    positions = model.positions
    text = examples[int(positions.row[at])].response[
        int(positions.start[at]) : int(positions.end[at])
    ]
    return text.strip() or text


def _by_row(sites: Iterable[Site]) -> Mapping[int, list[Site]]:
    rows: dict[int, list[Site]] = defaultdict(list)
    for site in sites:
        rows[site.row].append(site)
    return rows


def _contains(site: Site, fork: Site) -> bool:
    return any(site.at <= at < site.at + max(len(site.taken), 1) for at in fork.deciding_offsets)


def _deciding_positions(model: ModelSiteSet | TableSiteSet, fork: Site) -> NDArray[np.intp]:
    """Returns the positions of the tokens that decide a fork. An end token counts as the character
    after the last."""
    row_slice = model.positions.slice_of(fork.row)
    start, end = model.positions.start[row_slice], model.positions.end[row_slice]
    end = np.where(start == end, end + 1, end)
    decides = np.zeros(len(start), dtype=bool)
    for at in fork.deciding_offsets:
        decides |= (start <= at) & (at < end)
    indices: NDArray[np.intp] = np.flatnonzero(decides) + row_slice.start
    return indices


def _peak_entropy(model: ModelSiteSet, fork: Site) -> float:
    return float(model.positions.entropy[_deciding_positions(model, fork)].max(initial=0.0))


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
