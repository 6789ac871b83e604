"""The page of samples: every shown problem with the responses of every model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forkdiv.core.results import ShownProblem, ShownResponse, ShownSamples
from forkdiv.core.store import write_text
from forkdiv.report.grid import shortened
from forkdiv.report.html import rendered

PAGE = "samples.html"
MAX_PAGE_CHARS = 5_000_000  # characters on the page: a phone must open it
OUTCOMES = ("correct", "wrong", "truncated", "unparsable", "error")


@dataclass(frozen=True)
class ProblemAnswers:
    """A problem with the responses of each model."""

    name: str
    prompt: str
    answers: tuple[tuple[str, ShownProblem], ...]

    @property
    def characters(self) -> int:
        texts = (response.text for _, answers in self.answers for response in answers.responses)
        return len(self.prompt) + sum(map(len, texts))

    @property
    def outcomes(self) -> list[str]:
        """Returns the outcomes that occur, for the filter of the page."""
        return [kind for kind in OUTCOMES if any(kind in a.counts for _, a in self.answers)]


def write(shown: ShownSamples, folder: Path) -> Path:
    """Writes `samples.html`, a self-contained page, into the folder of the report. Problems beyond
    MAX_PAGE_CHARS characters are omitted, and the page states how many."""
    shown_problems, remaining = [], MAX_PAGE_CHARS
    for problem in _by_problem(shown):
        remaining -= problem.characters
        if remaining < 0:
            break
        shown_problems.append(problem)
    path = folder / PAGE
    text = rendered(
        "samples.html.j2",
        study=shown.study,
        n=shown.samples,
        models=[problem.name for problem in shown.models],
        problems=shown_problems,
        all_problems=shown.all_problems,
        outcomes=[
            kind for kind in OUTCOMES if any(kind in problem.outcomes for problem in shown_problems)
        ],
        title_of=_title,
    )
    write_text(path, text)
    return path


def _by_problem(shown: ShownSamples) -> list[ProblemAnswers]:
    if not shown.models:
        return []
    rows = zip(*(model.problems for model in shown.models), strict=True)
    return [
        ProblemAnswers(
            shortened(answers[0].id, 60),
            answers[0].prompt,
            tuple((m.name, answer) for m, answer in zip(shown.models, answers, strict=True)),
        )
        for answers in rows
    ]


def _title(response: ShownResponse) -> str:
    """Returns a title such as `wrong, 12 times: a real path with other ends`."""
    times = "once" if response.times == 1 else f"{response.times:,} times"
    reason = f": {response.detail}" if response.detail else ""
    return f"{response.outcome}, {times}{reason}"
