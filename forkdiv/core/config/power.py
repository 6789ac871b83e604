"""What `forkdiv power` assumes, and which designs it compares."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from forkdiv.core.config.base import AbsolutePath, Frozen, Problems, Samples, Share, Unit

K = Annotated[int, Field(ge=1, le=4096)]
PlainShare = Annotated[float, Unit("share")]  # its limits are those of each field
MOST_PROBLEMS = 100_000


def _listed(value: Any) -> Any:
    """Returns a single number as a list, and `100,200` as two numbers, as an option gives them."""
    if isinstance(value, str):
        return [part.strip() for part in value.strip("[]").split(",")]
    return [value] if isinstance(value, int | float) else value


class PowerConfig(Frozen):
    """What `forkdiv power` assumes, and the numbers of problems and samples that it compares."""

    k: K | None = Field(None, description="The k of pass@k. null: the largest of eval.k.")
    loss: PlainShare = Field(
        0.02,
        gt=0,
        lt=1,
        description="The loss of pass@k to be shown: 0.02 is 2 of every 100 problems.",
    )
    power: PlainShare = Field(
        0.8, ge=0.05, le=0.99, description="The probability with which the loss is to be shown."
    )
    problems: Annotated[
        tuple[Annotated[Problems, Field(ge=10, le=MOST_PROBLEMS)], ...], BeforeValidator(_listed)
    ] = Field((), description="Numbers of problems to compare. Empty: 100 to 5,000.")
    samples: Annotated[
        tuple[Annotated[Samples, Field(le=16384)], ...], BeforeValidator(_listed)
    ] = Field(
        (),
        description="Samples of each problem to compare, each at least k. Empty: k, 2k and 4k.",
    )
    result: AbsolutePath | None = Field(
        None,
        description="The result folder of a finished comparison or study, or its summary.json: the "
        "problems are like those measured there. null: the assumptions below.",
    )
    pass_at_1: Share = Field(
        0.3, gt=0, lt=1, description="Assumption: pass@1 of the base, the mean over problems."
    )
    pass_at_k: Share | None = Field(
        None,
        gt=0,
        lt=1,
        description="Assumption: pass@k of the base; with pass@1 it gives a beta distribution of "
        "the problems' probabilities. null: halfway from pass@1 to 1 - (1 - pass@1)^k, at most "
        "0.95.",
    )
    correlation: Share = Field(
        0.7,
        lt=1,
        description="Assumption: the correlation of base and tuned over problems, of the normal "
        "scores of their probabilities. 0: unrelated models.",
    )
