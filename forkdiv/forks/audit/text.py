"""What an audit found, in sentences that claim no more than was counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forkdiv.forks.sites import END

WAY_TITLES = {
    "exact": "exact, by the task",
    "tree": "from several solutions",
    "model": "from the model's entropy",
}
# A group of positions is said to look like a fork where at least this share of it is flagged.
MOSTLY = 0.5
SEVERAL = 5  # and of these so many
LOW_NATS = 0.1  # a threshold below calls a position uncertain at which one token has about 98%


def lead(summary: Mapping[str, Any]) -> list[str]:
    """Where the forks are, how dense, and which are under-covered: one sentence per way, that
    of the surest way first."""
    return [
        _sentence(way, numbers, summary)
        for way, numbers in summary["ways"].items()
        if numbers["examples"]
    ]


def lines(summary: Mapping[str, Any]) -> list[str]:
    """The audit in short lines for a terminal."""
    problems, several = summary["problems"], summary["problems_with_several_solutions"]
    out = [
        f"{_many(summary['examples'], 'example')} of {_many(problems, 'problem')}, "
        f"{several:,} of them with several different solutions.",
        *lead(summary),
    ]
    out += [f"Under-covered: {fork}." for fork in worst(summary)[1][:3]]
    return [*out, *agreement(summary), *lookalike_sentences(summary), *summary["notes"]]


def agreement(summary: Mapping[str, Any]) -> list[str]:
    """Precision and recall of the other ways against the exact forks."""
    lines = []
    for way, found in summary["against_exact"].items():
        text = f"Against the exact forks, {WAY_TITLES[way]}: precision {limits(found['precision'])}"
        text += f", recall {limits(found['recall'])}"
        if way == "tree":
            text += (
                f", in problems with several solutions {limits(found['recall_several_solutions'])}"
            )
        lines.append(text + ".")
    return lines


def lookalike_sentences(summary: Mapping[str, Any]) -> list[str]:
    """What looks like a fork to the model without being an unsigned one, as far as the counts
    show it."""
    model, groups = summary["model"], summary["lookalikes"]
    if not model:
        return []
    known = "model" in summary["against_exact"]
    lines = [line for group in groups if (line := _looks_like(group, known))]
    if known:
        lines = [*_unsigned(summary), *lines]
        if not any(group["flagged"] for group in groups):
            lines.append("Every position that it flags is an unsigned fork.")
    if model["threshold"] < LOW_NATS:
        lines.append(
            f"The threshold is only {model['threshold']:.3g} nats: positions at which the model is "
            "all but sure count as forks. audit.min_entropy sets a higher one."
        )
    return lines


def worst(summary: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The most under-covered forks in words, and the way that tells them: the task where it
    knows its forks, else the model."""
    ways = summary["ways"]
    way = "exact" if "exact" in ways else "model" if "model" in ways else "tree"
    return way, [in_words(fork) for fork in ways[way]["most_under_covered"]]


def in_words(fork: Mapping[str, Any]) -> str:
    """An under-covered fork of the summary."""
    before = fork["before"].strip()
    where = f"after “{before}”" if before else "at the beginning"
    shown = ", ".join(f"{branch_name(text)} {count}×" for text, count in fork["shown"].items())
    missing = ", ".join(map(branch_name, fork["missing"]))
    return f"problem {fork['problem_id']}, {where}: shown {shown}; never shown {missing}"


def branch_name(text: str) -> str:
    """A branch as it is named to readers: blanks and the end made visible."""
    if text == END:
        return "(end)"
    return text if text.strip() else text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣")


def limits(rate: Mapping[str, Any], digits: int = 2) -> str:
    """A share with its 95% limits and its count."""
    if rate["share"] is None:
        return "undefined (0 of 0)"
    share, low, high = (f"{rate[name]:.{digits}f}" for name in ("share", "low", "high"))
    return f"{share} ({low} to {high}; {rate['hits']:,} of {rate['of']:,})"


def percent(share: float) -> str:
    """Never rounded to all or to nothing."""
    if 0 < share < 0.005:
        return "under 1%"
    return "over 99%" if 0.995 <= share < 1 else f"{share:.0%}"


def _sentence(way: str, numbers: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    responses = _many(numbers["examples"], "response")
    density = ""
    if numbers["sites"]:
        density = (
            f" ({numbers['forks_per_example']:.3g} per response, "
            f"{numbers['forks_per_100_words']:.3g} per 100 words), {_where(numbers['places'])}"
        )
    passed = _many(numbers["sites"], "fork")
    if way == "exact":
        signs = numbers["fork_density"]
        unsigned = "" if signs is None else f"; {percent(signs)} of them have no sign"
        text = f"The {responses} {_verb(numbers['examples'], 'pass')} {passed}{density}{unsigned}"
        return f"{text}; {_right(numbers)}."
    if way == "tree":
        problems = summary["problems_with_several_solutions"]
        text = f"The {responses} of {_many(problems, 'problem')} with several solutions part at"
        text += f" {passed}{density}"
        missing = "; the data alone does not say which branches are missing"
        return f"{text}{'' if 'exact' in summary['ways'] else missing}."
    text = f"To the model {summary['model']['name']} the {responses} hold {passed}{density}"
    # where the task knows which branches are right, the model's guesses are no news
    return f"{text}." if "exact" in summary["ways"] else f"{text}; {_likely(numbers['coverage'])}."


def _where(places: Mapping[str, Any]) -> str:
    low, _, high = places["words"]
    if low == high:
        whole = places["words_range"] == [low, high]
        return f"{'all' if whole else 'nearly all'} at word {low}"
    if high <= 20:
        return f"nine in ten of them at words {low} to {high}"
    return f"half of them within the first {percent(places['shares'][1])} of the text"


def _right(numbers: Mapping[str, Any]) -> str:
    covered = numbers["coverage"]
    if not numbers["sites"]:
        return "so none can be under-covered"
    if not covered["defined"]:
        return "each has one right branch only, so that branch coverage is undefined"
    several = f"of the {_many(covered['defined'], 'fork')} with several right branches"
    if not covered["under_covered"]:
        return f"none {several} is under-covered: the data shows every right branch of each"
    text = (
        f"{covered['under_covered']:,} {several} are under-covered: on average the data shows "
        f"{percent(covered['mean'])} of the right branches from the same beginning"
    )
    whole = numbers["coverage_in_problem"]
    if whole and whole["mean"] > covered["mean"]:
        text += f", and {percent(whole['mean'])} anywhere in the problem's responses"
    return text


def _likely(covered: Mapping[str, Any]) -> str:
    if not covered["defined"]:
        return "none has two branches that it finds likely"
    return (
        f"at {covered['under_covered']:,} of the {covered['defined']:,} different ones with "
        "several likely branches the data never shows some of these, which may be right or wrong"
    )


def _unsigned(summary: Mapping[str, Any]) -> list[str]:
    kinds = summary["against_exact"]["model"]["kinds"]
    return [
        f"To this model {_some(one)} unsigned forks look like a fork: mean entropy "
        f"{one['mean_entropy']:.2f} nats."
        for one in kinds
        if one["kind"] == "unsigned fork"
    ]


def _looks_like(group: Mapping[str, Any], known: bool) -> str:
    what, mostly = group["what"], group["flagged"] >= MOSTLY * group["of"]
    entropy = f"mean entropy {group['mean_entropy']:.2f} nats"
    if what == "signed fork":
        if mostly:
            return (
                f"To this model a signed fork looks like a fork: {_some(group)} are flagged, "
                f"{entropy}, although a sign in the prompt tells the way."
            )
        return f"To this model most signed forks do not: {_some(group)} are flagged, {entropy}."
    if not mostly or group["flagged"] < SEVERAL:
        return ""
    names = {
        "first token": "the first token of a response",
        "end": "where a response ends",
        "token": f"token {group['text']} of a {group['mode']} response".replace("  ", " "),
        "after": f"what comes after “{branch_name(group['text'])}”",
    }
    if what not in names:
        return ""
    text = f"To this model {names[what]} looks like a fork: {_some(group)} are flagged, {entropy}"
    return f"{text}, although the task has no fork there." if known else f"{text}."


def _some(group: Mapping[str, Any]) -> str:
    return f"{group['flagged']:,} of {group['of']:,}"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _verb(count: int, verb: str) -> str:
    return f"{verb}{'es' if count == 1 else ''}"
