"""What a task is made of, one frozen config per task; `kind` tells which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, TypeAdapter, model_validator

from forkdiv.core.config.base import AbsolutePath, Frozen, Seed

DEFAULT_KIND = "graph_branching"


class GraphBranchingConfig(Frozen):
    """The graph task: `forks` branch nodes in a row, each with `degree` arms of `length` edges,
    of which `valid` lead on; `names` node names to draw from."""

    kind: Literal["graph_branching"] = "graph_branching"
    degree: int = Field(3, ge=2, le=64)
    length: int = Field(3, ge=3, le=64)  # with shorter arms the first node sits next to the goal
    forks: int = Field(1, ge=1, le=16)
    valid: int = Field(1, ge=1, le=64)
    names: int = Field(16, ge=7, le=2600)
    seed: Seed = 0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.valid >= self.degree:
            raise ValueError(
                f"valid={self.valid} of degree={self.degree} arms leave nothing to choose; "
                "allowed: fewer than degree; lower task.valid"
            )
        needed = self.nodes
        if self.names < needed:
            raise ValueError(
                f"names={self.names} is too few for degree={self.degree}, length={self.length} "
                f"and forks={self.forks}; allowed: at least {needed}; raise task.names"
            )
        return self

    @property
    def nodes(self) -> int:
        """Nodes of one graph: valid arms share their last node."""
        per_fork = self.degree * (self.length - 1) + (self.degree - self.valid) + 1
        return 1 + self.forks * per_fork


class ArithmeticChainConfig(Frozen):
    """The published arithmetic-chain task in its text form: `chains` chains of `length`
    equations over one root variable, constants from `low` to `high`; `names` variable names to
    draw from.

    `position_leak` reproduces the published generator's listing, in which the target chain's
    first equation is always the first one: to show what that does, never to measure with.
    """

    kind: Literal["arithmetic_chain"] = "arithmetic_chain"
    chains: int = Field(2, ge=2, le=8)
    length: int = Field(10, ge=3, le=12)
    low: int = Field(1, ge=1)
    high: int = Field(20, ge=2, le=1000)
    names: int = Field(26, ge=7, le=260)
    position_leak: bool = False
    seed: Seed = 0

    @model_validator(mode="after")
    def _names_suffice(self) -> Self:
        needed = self.chains * self.length + 1
        if self.names < needed:
            raise ValueError(
                f"names={self.names} is too few for chains={self.chains} and "
                f"length={self.length}; allowed: at least {needed}; raise task.names"
            )
        return self

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.high <= self.low:
            raise ValueError(
                f"high={self.high} must exceed low={self.low}; allowed: low < high; raise task.high"
            )
        return self


class SearchModesConfig(Frozen):
    """Graph branching told in two modes, chosen by the first token: linear, straight to the
    target, or backtracking, arm by arm until the target is met."""

    kind: Literal["search_modes"] = "search_modes"
    degree: int = Field(3, ge=2, le=16)
    length: int = Field(3, ge=3, le=16)
    names: int = Field(16, ge=7, le=2600)
    seed: Seed = 0

    @model_validator(mode="after")
    def _names_suffice(self) -> Self:
        needed = self.degree * self.length + 1
        if self.names < needed:
            raise ValueError(
                f"names={self.names} is too few for degree={self.degree} and "
                f"length={self.length}; allowed: at least {needed}; raise task.names"
            )
        return self


class WordsOrCodeConfig(Frozen):
    """Chains of small sums, `steps` to each, solved in words or by code that is executed."""

    kind: Literal["words_or_code"] = "words_or_code"
    steps: int = Field(5, ge=2, le=20)
    seed: Seed = 0


class CounterfactualConfig(Frozen):
    """Two-digit additions in unusual bases, for evaluation only."""

    kind: Literal["counterfactual_arithmetic"] = "counterfactual_arithmetic"
    bases: tuple[Annotated[int, Field(ge=3, le=16)], ...] = (7, 9, 11, 12)
    seed: Seed = 0

    @model_validator(mode="after")
    def _some_bases(self) -> Self:
        if not self.bases or len(set(self.bases)) != len(self.bases):
            raise ValueError(
                f"bases={list(self.bases)}; allowed: one base or more, each once; "
                "correct task.bases"
            )
        return self


class FactsConfig(Frozen):
    """Short factual questions, for evaluation only."""

    kind: Literal["short_facts"] = "short_facts"
    seed: Seed = 0


class ColumnsConfig(Frozen):
    """Which columns of a file hold what. Either `messages`, or a prompt and what answers it.

    `completion` is the text to learn from and to grade by where there is no `answer`, which is
    the reference alone. `id` names rows; `subset` splits results. One that is not set is found
    by a usual name, such as question, solution or answer, whatever its case.
    """

    messages: str | None = None
    prompt: str | None = None
    completion: str | None = None
    answer: str | None = None
    id: str | None = None
    subset: str | None = None

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        if self.messages and (self.prompt or self.completion):
            raise ValueError(
                f"messages={self.messages!r} and a prompt or completion are both set; allowed: "
                "messages alone, or prompt and completion; drop one of task.columns"
            )
        return self


class FileConfig(Frozen):
    """Your own data: JSONL, JSON, Parquet, CSV, or a folder saved by Hugging Face datasets.

    `train` holds what is fine-tuned on, `test` what is held out. A tenth of the problems in
    `train` is for validation, and where there is no `test` another tenth for that: which, follows
    from a problem's prompt. Rows with equal prompts are solutions of one problem. `on_bad_row`
    says what to do with rows that cannot be used: refuse to start, or leave them out and say so.
    """

    kind: Literal["file"] = "file"
    train: AbsolutePath | None = None
    test: AbsolutePath | None = None
    format: Literal["auto", "jsonl", "json", "parquet", "csv", "datasets"] = "auto"
    columns: ColumnsConfig = ColumnsConfig()
    # exact numeric boxed hash choice math, or package.module:function; none where nothing is graded
    grader: str = "exact"
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    seed: Seed = 0


def _kind(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get("kind", DEFAULT_KIND)
    return getattr(value, "kind", None)


TaskConfig = Annotated[
    Annotated[GraphBranchingConfig, Tag("graph_branching")]
    | Annotated[ArithmeticChainConfig, Tag("arithmetic_chain")]
    | Annotated[SearchModesConfig, Tag("search_modes")]
    | Annotated[WordsOrCodeConfig, Tag("words_or_code")]
    | Annotated[CounterfactualConfig, Tag("counterfactual_arithmetic")]
    | Annotated[FactsConfig, Tag("short_facts")]
    | Annotated[FileConfig, Tag("file")],
    Discriminator(_kind),
]

TASK_CONFIGS: dict[str, type[Frozen]] = {
    "graph_branching": GraphBranchingConfig,
    "arithmetic_chain": ArithmeticChainConfig,
    "search_modes": SearchModesConfig,
    "words_or_code": WordsOrCodeConfig,
    "counterfactual_arithmetic": CounterfactualConfig,
    "short_facts": FactsConfig,
    "file": FileConfig,
}

task_adapter: TypeAdapter[Any] = TypeAdapter(TaskConfig)


def kinds() -> tuple[str, ...]:
    return tuple(TASK_CONFIGS)


def config_class(kind: str) -> type[Frozen]:
    return TASK_CONFIGS[kind]
