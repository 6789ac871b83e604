"""The settings of a task that is a public benchmark."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from forkdiv.benchmarks.base import Benchmark
from forkdiv.benchmarks.registry import find_benchmark
from forkdiv.core.errors import UserError
from forkdiv.tasks.own_data.config import ColumnsConfig, FileConfig


class BenchmarkConfig(FileConfig):
    """A public benchmark; `forkdiv benchmarks` lists them. Its files are read in its published
    form, and it says how a problem is asked and graded."""

    kind: Literal["benchmark"] = "benchmark"  # type: ignore[assignment]
    benchmark: str = Field(
        "",
        description="Name of the benchmark, or package.module:NAME of one of your own. The same as "
        "--as NAME.",
    )
    wording: Literal["text", "chat"] | None = Field(
        None,
        description="text: a problem is asked as a text that the model continues. chat: as a "
        "request to follow. null: chat with prompt.template=chat, else text.",
    )
    grader: str = Field(
        "",
        description="How responses are graded, as for task.kind=file. Empty: by the benchmark's "
        "own grader.",
    )

    @model_validator(mode="before")
    @classmethod
    def _own_grader(cls, data: Any) -> Any:
        """Fills in the benchmark's grader, so that it is part of every identity."""
        if isinstance(data, dict) and isinstance(data.get("benchmark") or None, str):
            try:
                benchmark = find_benchmark(data["benchmark"])
            except UserError as error:
                raise ValueError(str(error)) from error
            return {**data, "grader": data.get("grader") or benchmark.grader}
        return data

    @model_validator(mode="after")
    def _columns_are_the_benchmarks(self) -> Self:
        if self.columns != ColumnsConfig():
            raise ValueError(
                f"columns cannot be set with benchmark={self.benchmark}, which names its own; "
                "allowed: the columns of its published file; rename those of the file, or read it "
                "without --as"
            )
        return self

    @property
    def found(self) -> Benchmark:
        """The benchmark."""
        return find_benchmark(self.benchmark)

    @model_serializer(mode="wrap")
    def _without_columns(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if key != "columns"}
