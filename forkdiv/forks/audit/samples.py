"""Sample texts of an audit: each response with its forks marked, and their branches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forkdiv.core.chat import unpack
from forkdiv.core.records import Example
from forkdiv.forks.audit.text import branch_name, percent
from forkdiv.forks.sites import Site, SiteSet

MAX_PROMPT_CHARS = 1500  # characters of a prompt, half from each end
MAX_RESPONSE_CHARS = 6000  # characters of a response, from its beginning
MAX_LISTED = 12  # forks of one text whose branches are listed; forks.parquet has all

UNSIGNED, SIGNED, PARTS, FLAGGED, LEFT = "unsigned", "signed", "parts", "flagged", "left"
SYMBOLS = {UNSIGNED: "●", SIGNED: "○", PARTS: "◆", FLAGGED: "△", LEFT: "◇"}
MEANINGS = {
    UNSIGNED: "unsigned fork of the task",
    SIGNED: "signed fork of the task",
    PARTS: "responses to the same prompt diverge here",
    FLAGGED: "high model entropy",
    LEFT: "cannot be learned as a rule, left to the base",
}
RIGHT, WRONG, UNKNOWN = "right", "wrong", "unknown"


@dataclass(frozen=True)
class Mark:
    """One position in a response that one or more ways identify as a fork."""

    number: int
    at: int
    end: int
    sites: tuple[Site, ...]
    task_knows: bool  # whether the task knows every fork of this response

    @property
    def kinds(self) -> list[str]:
        return [_kind(site) for site in self.sites]

    @property
    def coverage_site(self) -> Site | None:
        """Returns the site that defines the coverage of this fork: that of the task if it knows
        the forks of this response, else that of the model."""
        candidates = [self.task] if self.task_knows else self.sites
        return next((site for site in candidates if site and site.expected), None)

    @property
    def task(self) -> Site | None:
        return next((site for site in self.sites if site.valid is not None), None)

    @property
    def under_covered(self) -> bool:
        return self.coverage_site is not None and self.coverage_site.under_covered


def samples(
    examples: Sequence[Example],
    site_sets: Mapping[str, SiteSet],
    count: int,
    min_probability: float,
) -> list[dict[str, Any]]:
    """Returns the texts to show: those with under-covered forks first, and different problems
    before further texts of the same problem. Model tokens below `min_probability` are not
    listed."""
    by_row: dict[int, list[Site]] = defaultdict(list)
    for site_set in site_sets.values():  # in the order exact, tree, model: most reliable first
        for site in site_set.sites:
            by_row[site.row].append(site)
    task_knows = site_sets["exact"].rows_read if "exact" in site_sets else frozenset()
    seen: dict[str, int] = defaultdict(int)
    ranked = []
    for row, example in enumerate(examples):
        coverage_sites = [
            mark.coverage_site for mark in marks(example, by_row.get(row, ()), row in task_knows)
        ]
        coverages = [site.coverage for site in coverage_sites if site and site.coverage is not None]
        ranked.append(
            (not coverage_sites, seen[example.problem_id], min(coverages, default=2.0), row)
        )
        seen[example.problem_id] += 1
    return [
        _sample(
            row,
            examples[row],
            marks(examples[row], by_row[row], row in task_knows),
            min_probability,
        )
        for *_, row in sorted(ranked)[:count]
    ]


def marks(example: Example, sites: Sequence[Site], task_knows: bool) -> list[Mark]:
    """Returns the marks of a response in order; sites of several ways at one offset share one."""
    sites_at: dict[int, list[Site]] = defaultdict(list)
    for site in sites:
        sites_at[site.at].append(site)
    starts = sorted(sites_at)
    out = []
    for number, at in enumerate(starts, 1):
        following = starts[number] if number < len(starts) else len(example.response)
        longest = at + max(len(site.taken) for site in sites_at[at])
        out.append(
            Mark(number, at, min(longest, max(following, at)), tuple(sites_at[at]), task_knows)
        )
    return out


def _sample(
    row: int, example: Example, all_marks: Sequence[Mark], min_probability: float
) -> dict[str, Any]:
    shown = [mark for mark in all_marks if mark.at <= MAX_RESPONSE_CHARS]
    listed = sorted(shown, key=lambda mark: (not mark.under_covered, mark.number))[:MAX_LISTED]
    listed.sort(key=lambda mark: mark.number)
    return {
        "row": row,
        "problem_id": example.problem_id,
        "about": ", ".join(text for text in (example.subset, example.mode) if text),
        "turns": [(turn["role"], _clip(turn["content"])) for turn in unpack(example.prompt)],
        "pieces": list(_pieces(example.response, shown)),
        "cut": max(len(example.response) - MAX_RESPONSE_CHARS, 0),
        "forks": len(all_marks),
        "listed": [_listing(mark, example, min_probability) for mark in listed],
    }


def _pieces(response: str, shown_marks: Sequence[Mark]) -> Iterator[dict[str, Any]]:
    """Yields plain and marked pieces of the text in order."""
    at = 0
    for mark in shown_marks:
        if mark.at > at:
            yield {"text": response[at : mark.at], "mark": None}
        text = response[mark.at : mark.end]
        yield {
            "text": branch_name(text) if not text.strip() else text,
            "breaks": "\n" * text.count("\n") if not text.strip() else "",
            "mark": mark,
            "symbols": "".join(SYMBOLS[kind] for kind in mark.kinds),
            "style": mark.kinds[0],
        }
        at = mark.end
    if at < min(len(response), MAX_RESPONSE_CHARS):
        yield {"text": response[at:MAX_RESPONSE_CHARS], "mark": None}


def _listing(mark: Mark, example: Example, min_probability: float) -> dict[str, Any]:
    before = example.response[: mark.at].split()
    entropy = next((site.entropy for site in mark.sites if site.entropy is not None), None)
    kinds = [f"{SYMBOLS[kind]} {MEANINGS[kind]}" for kind in mark.kinds]
    if entropy is not None:
        kinds[-1] += f" ({entropy:.2f} nats)"
    return {
        "number": mark.number,
        "word": len(before) + 1,
        "kinds": "; ".join(kinds),
        "under_covered": mark.under_covered,
        "coverage": _coverage_text(mark.coverage_site) if mark.coverage_site else "",
        "branches": _branches(mark, min_probability),
        "chances": any(site.chances for site in mark.sites),
    }


def _coverage_text(site: Site) -> str:
    what = "right" if site.valid is not None else "likely"
    return f"shows {len(site.expected) - len(site.missing)} of {len(site.expected)} {what} branches"


def _branches(mark: Mark, min_probability: float) -> list[dict[str, str]]:
    """Returns the branches of all ways, those of the task first."""
    texts = dict.fromkeys(text for site in mark.sites for text in (*site.branches, *site.shown))
    out = []
    for text in texts:
        count = next((site.shown[text] for site in mark.sites if text in site.shown), 0)
        chance = next(
            (c for site in mark.sites if (c := _probability_of(site, text)) is not None), None
        )
        out.append(
            {
                "text": branch_name(text),
                "taken": "this text" if text == mark.sites[0].taken else "",
                "shown": f"shown {count}×" if count else "never shown",
                "right": _verdict_text(mark, text),
                "chance": f"under {percent(min_probability)}"
                if chance is None
                else percent(chance),
            }
        )
    return out


def _verdict_text(mark: Mark, text: str) -> str:
    task = mark.task
    if task is None or task.valid is None:
        return "not a fork of the task" if mark.task_knows else UNKNOWN
    if text in task.valid:
        return RIGHT
    return WRONG if text in task.branches else "not a branch of the task"


def _probability_of(site: Site, text: str) -> float | None:
    return dict(zip(site.branches, site.chances or (), strict=False)).get(text)


def _kind(site: Site) -> str:
    if site.signed is not None:
        return SIGNED if site.signed else UNSIGNED
    if site.chances is not None:
        return FLAGGED
    return LEFT if site.entropy is not None else PARTS


def _clip(text: str) -> str:
    if len(text) <= MAX_PROMPT_CHARS:
        return text
    half = MAX_PROMPT_CHARS // 2
    return f"{text[:half]} [… {len(text) - MAX_PROMPT_CHARS:,} characters omitted …] {text[-half:]}"
