"""Samples with their verdicts, as the page beside the report shows them."""

from __future__ import annotations

from forkdiv.core.results.cell import Result


class ShownResponse(Result):
    """A response that was drawn `times` times, and its verdict: `outcome` is correct, wrong,
    truncated, unparsable or error, `detail` says why. `hidden` characters of `text` are cut."""

    outcome: str
    detail: str
    times: int
    text: str
    hidden: int = 0


class ShownProblem(Result):
    """What one model answered to one problem. `counts` are samples by outcome; `more` distinct
    responses are not in `responses`."""

    id: str
    prompt: str
    counts: dict[str, int]
    responses: tuple[ShownResponse, ...]
    more: int = 0


class ShownModel(Result):
    """A model under one decoder."""

    name: str
    problems: tuple[ShownProblem, ...]


class ShownSamples(Result):
    """The samples of all models on the same problems: the first of the `all_problems`."""

    study: str
    samples: int
    all_problems: int
    models: tuple[ShownModel, ...]
