"""The results of an audit as sentences. Each states only what was counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forkdiv.forks.sites import END

WAY_TITLES = {
    "exact": "exact, by the task",
    "tree": "from several solutions",
    "model": "from the model's entropy",
    "learnability": "not learnable by held-out runs",
}
# A group of positions is reported as a lookalike if at least this share of it is flagged ...
MIN_FLAGGED_SHARE = 0.5
MIN_FLAGGED = 5  # ... and at least this many positions
LOW_THRESHOLD = 0.1  # below this threshold, a position with one token at about 98% is flagged


def lead(summary: Mapping[str, Any]) -> list[str]:
    """Returns one sentence for each way, most reliable first: the position, density and coverage
    of its forks."""
    return [
        _sentence(way, numbers, summary)
        for way, numbers in summary["ways"].items()
        if numbers["examples"]
    ]


def lines(summary: Mapping[str, Any]) -> list[str]:
    """Returns the audit in short lines for a terminal."""
    problems, several = summary["problems"], summary["problems_with_several_solutions"]
    out = [
        f"{_count(summary['examples'], 'example')} of {_count(problems, 'problem')}, "
        f"{several:,} of these problems with several different solutions.",
        *lead(summary),
    ]
    out += [f"Under-covered: {fork}." for fork in most_under_covered(summary)[1][:3]]
    return [*out, *agreement(summary), *lookalike_sentences(summary), *summary["notes"]]


def agreement(summary: Mapping[str, Any]) -> list[str]:
    """Returns precision and recall of the other ways, compared with the exact forks."""
    lines = []
    for way, comparison in summary["against_exact"].items():
        text = f"Compared with the exact forks, {WAY_TITLES[way]}: "
        text += f"precision {limits(comparison['precision'])}"
        text += f", recall {limits(comparison['recall'])}"
        if way == "learnability":
            text += " of unsigned forks"
            text += f"; signed forks left to the base {limits(comparison['signed_left'])}"
        if way == "tree":
            several = limits(comparison["recall_several_solutions"])
            text += f", in problems with several solutions {several}"
        lines.append(text + ".")
    return lines


def lookalike_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Returns sentences about positions with high model entropy that are not unsigned forks."""
    model, groups = summary["model"], summary["lookalikes"]
    if not model:
        return []
    known = "model" in summary["against_exact"]
    lines = [line for group in groups if (line := _lookalike(group, known))]
    if known:
        lines = [*_unsigned(summary), *lines]
        if not any(group["flagged"] for group in groups):
            lines.append("Every position that the model flags is an unsigned fork.")
    if model["threshold"] < LOW_THRESHOLD:
        lines.append(
            f"The entropy threshold is only {model['threshold']:.3g} nats: positions at which the "
            "model is almost certain count as forks. Set audit.min_entropy for a higher threshold."
        )
    return lines


def most_under_covered(summary: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Returns the way that ranks the forks (exact if available, else the model), and the most
    under-covered forks in words."""
    ways = summary["ways"]
    way = next(way for way in ("exact", "model", "tree", "learnability") if way in ways)
    return way, [in_words(fork) for fork in ways[way]["most_under_covered"]]


def in_words(fork: Mapping[str, Any]) -> str:
    """Returns an under-covered fork of the summary in words."""
    before = fork["before"].strip()
    where = f"after “{before}”" if before else "at the beginning"
    shown = ", ".join(f"{branch_name(text)} {count}×" for text, count in fork["shown"].items())
    missing = ", ".join(map(branch_name, fork["missing"]))
    return f"problem {fork['problem_id']}, {where}: shown {shown}; never shown {missing}"


def branch_name(text: str) -> str:
    """Returns a readable name of a branch: whitespace and the end become visible."""
    if text == END:
        return "(end)"
    return text if text.strip() else text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣")


def limits(rate: Mapping[str, Any], digits: int = 2) -> str:
    """Returns a share with its 95% limits and its count."""
    if rate["share"] is None:
        return "undefined (0 of 0)"
    share, low, high = (f"{rate[name]:.{digits}f}" for name in ("share", "low", "high"))
    return f"{share} ({low} to {high}; {rate['hits']:,} of {rate['of']:,})"


def percent(share: float) -> str:
    """Returns a share in percent; never rounds to 0% or 100%."""
    if 0 < share < 0.005:
        return "under 1%"
    return "over 99%" if 0.995 <= share < 1 else f"{share:.0%}"


def _sentence(way: str, numbers: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    responses = _count(numbers["examples"], "response")
    density = ""
    if numbers["sites"]:
        density = (
            f" ({numbers['forks_per_example']:.3g} per response, "
            f"{numbers['forks_per_100_words']:.3g} per 100 words), {_position(numbers['places'])}"
        )
    forks = _count(numbers["sites"], "fork")
    if way == "exact":
        signs = numbers["fork_density"]
        unsigned = "" if signs is None else f"; {percent(signs)} of them are unsigned"
        text = f"The {responses} {_verb(numbers['examples'], 'contain')} {forks}{density}{unsigned}"
        return f"{text}; {_right_coverage(numbers)}."
    if way == "tree":
        problems = summary["problems_with_several_solutions"]
        text = f"The {responses} of {_count(problems, 'problem')} with several solutions diverge at"
        text += f" {forks}{density}"
        missing = "; the data alone does not show which branches are missing"
        return f"{text}{'' if 'exact' in summary['ways'] else missing}."
    if way == "learnability":
        tokens = _count(numbers["sites"], "token")
        return (
            f"In the {responses}, {tokens} cannot be learned as a rule{density}: runs that have "
            "not seen the row do not predict them better than the base does."
        )
    text = f"According to the entropy of the model {summary['model']['name']}, the {responses} "
    text += f"{_verb(numbers['examples'], 'contain')} {forks}{density}"
    # if the task knows the right branches, the coverage of likely branches adds nothing
    return (
        f"{text}."
        if "exact" in summary["ways"]
        else f"{text}; {_likely_coverage(numbers['coverage'])}."
    )


def _position(places: Mapping[str, Any]) -> str:
    low, _, high = places["words"]
    if low == high:
        whole = places["words_range"] == [low, high]
        return f"{'all' if whole else 'nearly all'} at word {low}"
    if high <= 20:
        return f"nine in ten of them at words {low} to {high}"
    return f"half of them within the first {percent(places['shares'][1])} of the text"


def _right_coverage(numbers: Mapping[str, Any]) -> str:
    coverage = numbers["coverage"]
    if not numbers["sites"]:
        return "so no fork can be under-covered"
    if not coverage["defined"]:
        return "each fork has only one right branch, so branch coverage is undefined"
    subject = f"of the {_count(coverage['defined'], 'fork')} with several right branches"
    if not coverage["under_covered"]:
        return f"none {subject} is under-covered: the data shows all of their right branches"
    text = (
        f"{coverage['under_covered']:,} {subject} are under-covered: on average the data shows "
        f"{percent(coverage['mean'])} of the right branches after the same prefix"
    )
    in_problem = numbers["coverage_in_problem"]
    if in_problem and in_problem["mean"] > coverage["mean"]:
        text += f", and {percent(in_problem['mean'])} anywhere in the problem's responses"
    return text


def _likely_coverage(coverage: Mapping[str, Any]) -> str:
    if not coverage["defined"]:
        return "no fork has two likely branches"
    return (
        f"at {coverage['under_covered']:,} of the {coverage['defined']:,} different forks with "
        "several likely branches, some of these branches are never shown in the data (they may be "
        "right or wrong)"
    )


def _unsigned(summary: Mapping[str, Any]) -> list[str]:
    kinds = summary["against_exact"]["model"]["kinds"]
    return [
        f"This model flags {_fraction(kind)} unsigned forks: mean entropy "
        f"{kind['mean_entropy']:.2f} nats."
        for kind in kinds
        if kind["kind"] == "unsigned fork"
    ]


def _lookalike(group: Mapping[str, Any], known: bool) -> str:
    kind, mostly_flagged = group["what"], group["flagged"] >= MIN_FLAGGED_SHARE * group["of"]
    entropy = f"mean entropy {group['mean_entropy']:.2f} nats"
    if kind == "signed fork":
        if mostly_flagged:
            return (
                f"This model flags signed forks, {_fraction(group)}, {entropy}, although a sign in "
                "the prompt indicates the right branch."
            )
        return (
            f"This model does not flag most signed forks: {_fraction(group)} are flagged, "
            f"{entropy}."
        )
    if not mostly_flagged or group["flagged"] < MIN_FLAGGED:
        return ""
    names = {
        "first token": "the first token of a response",
        "end": "the end of a response",
        "token": f"token {group['text']} of a {group['mode']} response".replace("  ", " "),
        "after": f"the token after “{branch_name(group['text'])}”",
    }
    if kind not in names:
        return ""
    text = f"This model flags {names[kind]} as a fork: {_fraction(group)} positions, {entropy}"
    return f"{text}, although the task has no fork there." if known else f"{text}."


def _fraction(group: Mapping[str, Any]) -> str:
    return f"{group['flagged']:,} of {group['of']:,}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _verb(count: int, verb: str) -> str:
    return f"{verb}{'s' if count == 1 else ''}"
