"""The settings of fine-tuning data: its generation by a task, synthesis and audit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from forkdiv.core.config.base import (
    AbsolutePath,
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

# The knobs of the data that a sweep may vary, in the order results are named by.
DATA_AXES = ("fork_density", "direction", "branch_coverage", "structure", "synthesis")


class DatasetConfig(Frozen):
    """The fine-tuning data. Each task reads some of these settings and refuses the others."""

    examples: Examples | None = Field(
        None, description="Number of training examples. null: the task's own number."
    )
    fork_density: Share = Field(
        0.5,
        description="Share of the decision points (forks) that are unsigned, so that nothing in "
        "the prompt says which branch is right; over the forks that responses pass.",
    )
    direction: Share = Field(
        1.0,
        description="Share of the responses that go forward and so choose at each fork; the "
        "others start at the target and never choose.",
    )
    branch_coverage: int | None = Field(
        None,
        ge=1,
        description="How many of a problem's valid branches the data shows. null: one.",
    )
    structure: Literal["data-level", "problem-level"] = Field(
        "problem-level",
        description="How reasoning modes are spread: data-level shows each problem in one mode, "
        "problem-level in every mode.",
    )
    solutions: int = Field(
        2, ge=2, le=8, description="Responses shown for each problem, for tasks with modes."
    )
    mode_share: Share = Field(
        0.5, description="Share of the examples in the first of the task's two modes."
    )
    synthesis: Literal["none", "enumerator", "samples"] = Field(
        "none",
        description="Whether missing branches are added to the data before training: enumerator "
        "takes them from the task, samples from verified samples of the base model. The number "
        "of examples stays the same.",
    )
    seed: Seed = Field(0, description="Seed of the training data.")

    @classmethod
    def knobs(cls) -> frozenset[str]:
        """The settings that shape the data, without its size and seed."""
        return frozenset(cls.model_fields) - {"examples", "seed"}


class SynthesisConfig(Frozen):
    """Data synthesis: solutions added at decision points of which the data shows too few
    branches."""

    budget: Examples | None = Field(
        None,
        description="Largest number of examples after synthesis. null: as many as before.",
    )
    samples: Samples = Field(
        16,
        le=4096,
        description="Samples drawn from each decision point that misses branches; the grader "
        "keeps the correct ones.",
    )
    forks_per_problem: int = Field(
        1,
        ge=1,
        description="For a task that does not know its decision points: the number of positions "
        "in a response, those of highest entropy under the base model, taken for them.",
    )
    temperature: Temperature = Field(1.0, description="Temperature of these samples.")
    max_new_tokens: Tokens = Field(64, ge=1, description="Largest length of one sample.")
    seed: Seed = Field(0, description="Seed of these samples.")


class AuditConfig(Frozen):
    """Where the decision points (forks) of a dataset are, and how they are looked for."""

    ways: tuple[Literal["exact", "tree", "model"], ...] = Field(
        (),
        description="How forks are found. exact: the task knows them. tree: several solutions of "
        "one prompt part there. model: `audit.model` has high entropy there. Empty: every way "
        "that the data allows.",
    )
    model: AbsolutePath | None = Field(
        None, description="Checkpoint whose next-token entropy the way `model` reads."
    )
    quantile: float = Field(
        0.8,
        ge=0,
        lt=1,
        description="The way `model` takes positions whose entropy is above this quantile of all "
        "response positions (0.8: the forking tokens of arXiv 2506.01939).",
    )
    min_entropy: Nats | None = Field(
        None, ge=0, description="Entropy threshold used in place of `quantile`. null: unused."
    )
    min_probability: Probability = Field(
        0.05,
        gt=0,
        lt=1,
        description="Smallest probability of a token that counts as a branch.",
    )
    limit: Examples | None = Field(
        None, description="Largest number of examples that are read. null: all."
    )
    shown: int = Field(20, ge=1, le=500, description="Number of example texts on the audit's page.")
