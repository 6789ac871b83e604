"""The settings of the stage `learnability`: which tokens of the data can be learned as a rule."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from forkdiv.core.config.base import (
    DataPath,
    Epochs,
    Examples,
    Frozen,
    Nats,
    Probability,
    Seed,
    Share,
)
from forkdiv.core.errors import refuse


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
        4, description="Epochs of a short run. Its other settings are those of `sft`."
    )
    rounds: int = Field(
        1,
        ge=1,
        le=4,
        description="Rounds of short runs. From the second on, they are trained on the classes of "
        "the round before, so that they do not memorise coin flips; each round costs as much as "
        "the first.",
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
        description="Largest share of coin flips among the tokens that are called learnable, as "
        "estimated from confident misses of the runs.",
    )
    gain: Nats = Field(
        0.05, ge=0, description="A learnable token gains at least this over the base."
    )
    planted: tuple[Literal["coin-flips", "rules"], ...] = Field(
        (),
        description="Data of a known kind on which the criterion is checked. Each kind takes as "
        "many further runs, and the share that is called learnable is reported. coin-flips: the "
        "prompts of the data with responses that the base draws. rules: with the token of the "
        "smallest id among those that the base finds plausible, at every position.",
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

    @property
    def deciding(self) -> dict[str, Any]:
        """What decides a table: the content of `prompts` in place of their path."""
        values = self.model_dump(exclude={"prompts", "prompt_limit"})
        if self.prompts is None:
            return values
        return values | {"prompts": _content(self.prompts), "prompt_limit": self.prompt_limit}


def _content(path: Path) -> str:
    """Returns a digest of a data file, or of the Parquet files of a dataset folder."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    try:
        for file in files:
            digest.update(file.read_bytes())
    except OSError as error:
        raise refuse(
            "the prompts of learnability.prompts cannot be read",
            f"{path} ({error.strerror})",
            "a data file, or a dataset folder that forkdiv wrote",
            "correct learnability.prompts",
        ) from error
    return digest.hexdigest()
