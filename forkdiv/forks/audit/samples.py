"""Sample texts of an audit: the response cut into pieces, its forks marked, their branches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forkdiv.core.chat import unpack
from forkdiv.core.records import Example
from forkdiv.forks.audit.text import branch_name, percent
from forkdiv.forks.sites import Found, Site

PROMPT_SHOWN = 1500  # characters of a prompt, half from each end
RESPONSE_SHOWN = 6000  # characters of a response, from its beginning
LISTED = 12  # forks of one text whose branches are listed; the table has all

UNSIGNED, SIGNED, PARTS, FLAGGED = "unsigned", "signed", "parts", "flagged"
SYMBOLS = {UNSIGNED: "●", SIGNED: "○", PARTS: "◆", FLAGGED: "△"}
MEANINGS = {
    UNSIGNED: "a fork of the task without a sign",
    SIGNED: "a fork of the task with a sign",
    PARTS: "responses to the same prompt part here",
    FLAGGED: "the model is unsure here",
}
RIGHT, ASTRAY, UNKNOWN = "right", "leads astray", "not known"


@dataclass(frozen=True)
class Mark:
    """One place in a response that one way or several call a fork."""

    number: int
    at: int
    end: int
    sites: tuple[Site, ...]
    known: bool  # to the task, which knows every fork of this response

    @property
    def kinds(self) -> list[str]:
        return [_kind(site) for site in self.sites]

    @property
    def judge(self) -> Site | None:
        """The site that says how well the data covers this fork: the task's where it knows the
        forks of this response, else the model's."""
        asked = [self.task] if self.known else self.sites
        return next((site for site in asked if site and site.wanted), None)

    @property
    def task(self) -> Site | None:
        return next((site for site in self.sites if site.valid is not None), None)

    @property
    def under_covered(self) -> bool:
        return self.judge is not None and self.judge.under_covered


def samples(
    examples: Sequence[Example], found: Mapping[str, Found], count: int, least: float
) -> list[dict[str, Any]]:
    """The texts to show, under-covered forks first, each problem once before any comes again;
    `least` is the probability below which the model's tokens are not listed."""
    by_row: dict[int, list[Site]] = defaultdict(list)
    for one in found.values():  # in the order exact, tree, model: the surest first
        for site in one.sites:
            by_row[site.row].append(site)
    known = found["exact"].read if "exact" in found else frozenset()
    seen: dict[str, int] = defaultdict(int)
    ranked = []
    for row, example in enumerate(examples):
        judges = [mark.judge for mark in marks(example, by_row.get(row, ()), row in known)]
        shares = [site.coverage for site in judges if site and site.coverage is not None]
        ranked.append((not judges, seen[example.problem_id], min(shares, default=2.0), row))
        seen[example.problem_id] += 1
    return [
        _sample(row, examples[row], marks(examples[row], by_row[row], row in known), least)
        for *_, row in sorted(ranked)[:count]
    ]


def marks(example: Example, sites: Sequence[Site], known: bool) -> list[Mark]:
    """The places of the sites in their order, those of several ways at one place together."""
    places: dict[int, list[Site]] = defaultdict(list)
    for site in sites:
        places[site.at].append(site)
    starts = sorted(places)
    out = []
    for number, at in enumerate(starts, 1):
        following = starts[number] if number < len(starts) else len(example.response)
        longest = at + max(len(site.taken) for site in places[at])
        out.append(Mark(number, at, min(longest, max(following, at)), tuple(places[at]), known))
    return out


def _sample(row: int, example: Example, found: Sequence[Mark], least: float) -> dict[str, Any]:
    shown = [mark for mark in found if mark.at <= RESPONSE_SHOWN]
    listed = sorted(shown, key=lambda mark: (not mark.under_covered, mark.number))[:LISTED]
    listed.sort(key=lambda mark: mark.number)
    return {
        "row": row,
        "problem_id": example.problem_id,
        "about": ", ".join(text for text in (example.subset, example.mode) if text),
        "turns": [(turn["role"], _clipped(turn["content"])) for turn in unpack(example.prompt)],
        "pieces": list(_pieces(example.response, shown)),
        "cut": max(len(example.response) - RESPONSE_SHOWN, 0),
        "forks": len(found),
        "listed": [_listing(mark, example, least) for mark in listed],
    }


def _pieces(response: str, found: Sequence[Mark]) -> Iterator[dict[str, Any]]:
    """Plain text and marked text in turns."""
    at = 0
    for mark in found:
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
    if at < min(len(response), RESPONSE_SHOWN):
        yield {"text": response[at:RESPONSE_SHOWN], "mark": None}


def _listing(mark: Mark, example: Example, least: float) -> dict[str, Any]:
    before = example.response[: mark.at].split()
    entropy = next((site.entropy for site in mark.sites if site.entropy is not None), None)
    said = [f"{SYMBOLS[kind]} {MEANINGS[kind]}" for kind in mark.kinds]
    if entropy is not None:
        said[-1] += f" ({entropy:.2f} nats)"
    return {
        "number": mark.number,
        "word": len(before) + 1,
        "said": "; ".join(said),
        "under_covered": mark.under_covered,
        "coverage": _covered(mark.judge) if mark.judge else "",
        "branches": _branches(mark, least),
        "chances": any(site.chances for site in mark.sites),
    }


def _covered(site: Site) -> str:
    what = "right" if site.valid is not None else "likely"
    return f"shows {len(site.wanted) - len(site.missing)} of {len(site.wanted)} {what} branches"


def _branches(mark: Mark, least: float) -> list[dict[str, str]]:
    """Every branch that any way names, the task's first."""
    texts = dict.fromkeys(text for site in mark.sites for text in (*site.branches, *site.shown))
    out = []
    for text in texts:
        times = next((site.shown[text] for site in mark.sites if text in site.shown), 0)
        chance = next((c for site in mark.sites if (c := _chance(site, text)) is not None), None)
        out.append(
            {
                "text": branch_name(text),
                "taken": "this text" if text == mark.sites[0].taken else "",
                "shown": f"shown {times}×" if times else "never shown",
                "right": _right(mark, text),
                "chance": f"under {percent(least)}" if chance is None else percent(chance),
            }
        )
    return out


def _right(mark: Mark, text: str) -> str:
    task = mark.task
    if task is None or task.valid is None:
        return "no fork of the task" if mark.known else UNKNOWN
    if text in task.valid:
        return RIGHT
    return ASTRAY if text in task.branches else "no branch of the task"


def _chance(site: Site, text: str) -> float | None:
    return dict(zip(site.branches, site.chances or (), strict=False)).get(text)


def _kind(site: Site) -> str:
    if site.signed is not None:
        return SIGNED if site.signed else UNSIGNED
    return FLAGGED if site.chances is not None else PARTS


def _clipped(text: str) -> str:
    if len(text) <= PROMPT_SHOWN:
        return text
    half = PROMPT_SHOWN // 2
    return f"{text[:half]} [… {len(text) - PROMPT_SHOWN:,} characters left out …] {text[-half:]}"
