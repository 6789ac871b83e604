"""The settings of fine-tuning data: its generation by a task, synthesis and audit."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from forkdiv.core.config.base import (
    AbsolutePath,
    AxisWords,
    Examples,
    Frozen,
    Nats,
    Probability,
    Samples,
    Seed,
    Share,
    Temperature,
    Tokens,
)
from forkdiv.core.config.shipped import CheckpointPath

# The knobs of the data that a sweep may vary, in the order results are named by.
DATA_AXES = ("fork_density", "direction", "branch_coverage", "structure", "synthesis")


class DatasetConfig(Frozen):
    """The fine-tuning data. Each task reads some of these settings and refuses the others."""

    examples: Examples | None = Field(
        None,
        le=10_000_000,  # all examples are tokenized in memory before training starts
        description="Number of training examples. null: the task's own number.",
    )
    fork_density: Annotated[
        Share,
        AxisWords(
            short="density",
            meaning="is the share of the forks in the fine-tuning data that are unsigned",
            forks=True,
            signs=True,
        ),
    ] = Field(
        0.5,
        description="Share of unsigned forks among the decision points (forks) that responses "
        "pass. Unsigned: nothing in the prompt shows which branch is correct.",
    )
    direction: Annotated[
        Share,
        AxisWords(
            meaning="is the share of forward traces in the fine-tuning data; forward traces "
            "contain the forks, reverse traces (from the target back to the start) contain none",
            forks=True,
        ),
    ] = Field(
        1.0,
        description="Share of the responses that go forward and so choose a branch at each fork; "
        "the others go backward from the target and contain no fork.",
    )
    branch_coverage: Annotated[
        int | None,
        AxisWords(
            short="coverage",
            meaning="is the number of valid branches of a fork that the fine-tuning data shows "
            "for one problem",
            forks=True,
        ),
    ] = Field(
        None,
        ge=1,
        description="Number of valid branches that the data shows for each problem. null: one.",
    )
    structure: Annotated[
        Literal["data-level", "problem-level"],
        AxisWords(
            meaning="is the distribution of solution modes in the fine-tuning data: data-level has "
            "one mode for each problem, problem-level has every mode for each problem",
            phrase="{} diversity",
            stands_alone=True,
        ),
    ] = Field(
        "problem-level",
        description="How reasoning modes are spread over the data. data-level: each problem is "
        "shown in one mode. problem-level: each problem is shown in every mode.",
    )
    solutions: int = Field(
        2,
        ge=2,
        le=8,
        description="Number of responses shown for each problem, for tasks with modes.",
    )
    mode_share: Share = Field(
        0.5, description="Share of the examples in the first of the task's two modes."
    )
    synthesis: Annotated[
        Literal["none", "enumerator", "samples"],
        AxisWords(
            meaning="is the source of the fine-tuning examples that are added at under-covered "
            "forks: the enumerator of the task, or verified samples of the base",
            phrases={
                "none": "no synthesis",
                "enumerator": "synthesis from the enumerator",
                "samples": "synthesis from samples",
            },
            forks=True,
        ),
    ] = Field(
        "none",
        description="Whether solutions are added to the data where branches are missing, before "
        "training. enumerator: the task lists them. samples: they are samples of the base model "
        "that the grader accepts. The number of examples stays the same.",
    )
    seed: Seed = Field(0, description="Seed of the training data.")

    @classmethod
    def knobs(cls) -> frozenset[str]:
        """The settings that shape the data, without its size and seed."""
        return frozenset(cls.model_fields) - {"examples", "seed"}


class SynthesisConfig(Frozen):
    """Data synthesis: solutions are added at decision points where the data shows too few
    branches."""

    budget: Examples | None = Field(
        None,
        description="Largest number of examples after synthesis. null: the number before it.",
    )
    samples: Samples = Field(
        16,
        le=4096,
        description="Samples drawn at each decision point at which branches are missing; those "
        "that the grader accepts are kept.",
    )
    forks_per_problem: int = Field(
        1,
        ge=1,
        description="For a task that does not know its decision points: this many positions of a "
        "response, those with the highest entropy under the base model, count as decision points.",
    )
    temperature: Temperature = Field(1.0, description="Temperature of these samples.")
    max_new_tokens: Tokens = Field(64, ge=1, description="Largest length of one sample.")
    seed: Seed = Field(0, description="Seed of these samples.")


class AuditConfig(Frozen):
    """How the decision points (forks) of a dataset are found."""

    ways: tuple[Literal["exact", "tree", "model", "learnability"], ...] = Field(
        (),
        description="How forks are found. exact: the task knows them. tree: several solutions of "
        "one prompt diverge there. model: `audit.model` has a high next-token entropy there. "
        "learnability: runs that have not seen the row cannot predict the token (`audit.table`). "
        "Empty: every way that the data allows.",
    )
    table: AbsolutePath | None = Field(
        None,
        description="The learnability table of the data, for the way `learnability`: the folder "
        "that `forkdiv learnability` names.",
    )
    model: CheckpointPath | None = Field(
        None,
        description="Checkpoint whose next-token entropy is used by the way `model`: a "
        "folder, or the name of a model on the Hugging Face Hub.",
    )
    quantile: float = Field(
        0.8,
        ge=0,
        lt=1,
        description="For the way `model`: positions with an entropy above this quantile of all "
        "response positions are forks (0.8: the forking tokens of arXiv 2506.01939).",
    )
    min_entropy: Nats | None = Field(
        None, ge=0, description="Entropy threshold, used instead of `quantile`. null: not used."
    )
    min_probability: Probability = Field(
        0.05,
        gt=0,
        lt=1,
        description="Tokens with at least this probability count as branches.",
    )
    limit: Examples | None = Field(
        None, description="Largest number of examples that are read. null: all."
    )
    shown: int = Field(20, ge=1, le=500, description="Number of example texts on the audit's page.")
