"""The page of samples beside the report: every problem shown, with every model's answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forkdiv.core.results import ShownProblem, ShownResponse, ShownSamples
from forkdiv.core.store import write_text
from forkdiv.report.grid import cut
from forkdiv.report.html import rendered

PAGE = "samples.html"
MOST_OF_ALL = 5_000_000  # characters on the page: a phone must open it
OUTCOMES = ("correct", "wrong", "truncated", "unparsable", "error")


@dataclass(frozen=True)
class Asked:
    """A problem with what each model answered."""

    name: str
    prompt: str
    answers: tuple[tuple[str, ShownProblem], ...]

    @property
    def characters(self) -> int:
        texts = (one.text for _, answers in self.answers for one in answers.responses)
        return len(self.prompt) + sum(map(len, texts))

    @property
    def outcomes(self) -> list[str]:
        """Those that some answer has, for the filter of the page."""
        return [kind for kind in OUTCOMES if any(kind in a.counts for _, a in self.answers)]


def write(shown: ShownSamples, folder: Path) -> Path:
    """Write `samples.html`, one page that needs no network, into the report's folder. Problems
    beyond MOST_OF_ALL characters are left out, and the page says how many."""
    kept, left = [], MOST_OF_ALL
    for asked in _by_problem(shown):
        left -= asked.characters
        if left < 0:
            break
        kept.append(asked)
    path = folder / PAGE
    text = rendered(
        "samples.html.j2",
        study=shown.study,
        n=shown.samples,
        models=[one.name for one in shown.models],
        problems=kept,
        all_problems=shown.all_problems,
        outcomes=[kind for kind in OUTCOMES if any(kind in one.outcomes for one in kept)],
        title_of=_title,
    )
    write_text(path, text)
    return path


def _by_problem(shown: ShownSamples) -> list[Asked]:
    if not shown.models:
        return []
    rows = zip(*(model.problems for model in shown.models), strict=True)
    return [
        Asked(
            cut(answers[0].id, 60),
            answers[0].prompt,
            tuple((m.name, one) for m, one in zip(shown.models, answers, strict=True)),
        )
        for answers in rows
    ]


def _title(response: ShownResponse) -> str:
    """`wrong, 12 times: a real path with other ends`."""
    times = "once" if response.times == 1 else f"{response.times:,} times"
    reason = f": {response.detail}" if response.detail else ""
    return f"{response.outcome}, {times}{reason}"
