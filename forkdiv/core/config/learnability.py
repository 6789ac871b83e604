"""The settings of the stage `learnability`: which tokens of the data can be learned as a rule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from forkdiv.core.config.base import DataPath, Epochs, Examples, Frozen, Probability, Seed, Share

MASKS = ("held-out", "in-sample", "base-entropy", "random", "exact", "none")


def _pairs(runs: int) -> int:
    if runs % 2:
        raise ValueError(
            f"got {runs}; allowed: even numbers, because each pair of runs trains on two halves of "
            "the data; correct learnability.runs"
        )
    return runs


class LearnabilityConfig(Frozen):
    """How the tokens of a dataset are classified by short fine-tuning runs on halves of it."""

    runs: Annotated[int, AfterValidator(_pairs)] = Field(
        8,
        ge=2,
        le=64,
        description="Number of short runs, an even number. Each pair splits the data into two new "
        "halves, so that half of the runs have not seen a given row.",
    )
    epochs: Epochs = Field(
        2, description="Epochs of a short run. Its other settings are those of `sft`."
    )
    mask: Literal["held-out", "in-sample", "base-entropy", "random", "exact", "none"] = Field(
        "held-out",
        description="Which tokens are not trained on their label. held-out: those that the runs "
        "which have not seen the row cannot predict. The others are controls, with as many tokens "
        "as held-out finds. in-sample: as held-out, by the runs that have seen the row. "
        "base-entropy: tokens with the highest entropy under the base. random: drawn from those "
        "that the base does not know. exact: the unsigned forks, for a task that knows its forks. "
        "none: no token.",
    )
    unit: Literal["token", "word", "line"] = Field(
        "token",
        description="What is classified: single tokens, or words or lines, whose log-probabilities "
        "are added. Of an indecipherable word or line, the first token that the base does not know "
        "is left to the base, and the others are trained on.",
    )
    floor: Probability = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="Added to probabilities before their logarithm is taken, so that a gain from "
        "1e-9 to 1e-6 does not count. A base that gives the label less than this does not know it.",
    )
    known: Probability = Field(
        0.9,
        gt=0.5,
        lt=1,
        description="Labels that the base predicts with at least this probability are known to it.",
    )
    error_rate: Share = Field(
        0.05,
        gt=0,
        lt=1,
        description="Largest share of coin flips that may be called learnable.",
    )
    planted: Share = Field(
        0.05,
        lt=0.5,
        description="Share of the rows of which copies with a planted coin flip, and copies with a "
        "planted rule, are added to the data of the short runs, to calibrate the criterion.",
    )
    near: Share = Field(
        0.8,
        gt=0,
        description="Rows whose prompts share at least this much of their text (Jaccard similarity "
        "of groups of three words) stay in the same half. 1: equal prompts only.",
    )
    prompts: DataPath | None = Field(
        None,
        description="A data file or dataset folder whose prompts are used without their responses: "
        "the base draws one response to each, on which the model is kept near the base. null: "
        "none.",
    )
    prompt_limit: Examples | None = Field(
        None, description="Largest number of these prompts that are used. null: all."
    )
    seed: Seed = Field(0, description="Seed of the halves, the planted rows and the controls.")
