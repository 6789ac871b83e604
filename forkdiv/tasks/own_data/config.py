"""The settings of a task that is a user's own file."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from forkdiv.core.config.base import AxisWords, DataPath, Frozen, without_defaults
from forkdiv.core.config.tasks import TaskConfig


class ColumnsConfig(Frozen):
    """The role of each column of a file. A column that is not set is found by a usual name, such as
    question, solution or answer, in upper or lower case. A field inside a column is named by its
    path: `answer[0]`, `choices.label`.
    """

    @model_serializer(mode="wrap")
    def _without_unset_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out columns that came later where they are not set: results from before stay
        valid."""
        return without_defaults(self, dump(self), ("input", "reasoning"))

    messages: str | None = Field(
        None,
        description="Column of chat messages (OpenAI's or ShareGPT's form); the last one is the "
        "completion.",
    )
    prompt: str | None = Field(None, description="Column of the prompt.")
    input: str | None = Field(
        None,
        description="Column of text that belongs to the prompt and follows it after a blank line, "
        "as Alpaca's `input` follows its `instruction`.",
    )
    completion: str | None = Field(
        None,
        description="Column of the text to learn from; the reference answer is read from it if "
        "there is no answer column.",
    )
    reasoning: str | None = Field(
        None,
        description="Column of the thinking before the completion. It is set before the completion "
        "in <think> tags; null: completions as they are, and no thinking but that of messages.",
    )
    answer: str | None = Field(None, description="Column of the reference answer.")
    id: str | None = Field(None, description="Column of the row's name.")
    subset: str | None = Field(
        None, description="Column of the row's subset; results are given for each subset."
    )

    @model_validator(mode="after")
    def _messages_or_prompt(self) -> Self:
        if self.messages and (self.prompt or self.completion):
            raise ValueError(
                f"messages={self.messages!r} and a prompt or completion are both set; allowed: "
                "messages alone, or prompt and completion; remove one of them from task.columns"
            )
        if self.messages and self.reasoning:
            raise ValueError(
                f"messages={self.messages!r} and reasoning={self.reasoning!r} are both set; "
                "allowed: a reasoning column beside a completion; the messages' own "
                "reasoning_content is read without it"
            )
        return self


class FileConfig(TaskConfig):
    """Your own data: JSONL, JSON, CSV, TSV, Parquet, Arrow, or a folder that datasets saved.

    Rows with equal prompts are several solutions of one problem. A tenth of the problems in `train`
    is held out for validation and, if there is no `test`, a further tenth for testing; the text of
    a prompt determines which problems these are.
    """

    kind: Literal["file"] = "file"
    train: Annotated[DataPath | None, AxisWords(title="training file", of_data=True)] = Field(
        None,
        description="File to fine-tune on, or the name of a dataset on the Hugging Face Hub: "
        "org/dataset, org/dataset:split or org/dataset/subset:split, each with @revision. Without "
        "a split: its only one, or train.",
    )
    test: DataPath | None = Field(
        None,
        description="File of held-out problems, or the name of a dataset as in `train`. Without a "
        "split: its only one, or test.",
    )
    format: Literal["auto", "jsonl", "json", "parquet", "csv", "tsv", "arrow", "datasets"] = Field(
        "auto", description="Format of the files. auto: from the ending of the file's name."
    )
    columns: ColumnsConfig = Field(ColumnsConfig(), description="The role of each column.")
    grader: str = Field(
        "exact",
        description="How responses are graded: exact, numeric, boxed, hash, choice, math or none, "
        "or your own function as package.module:function.",
    )
    on_bad_row: Literal["refuse", "skip"] = Field(
        "refuse",
        description="If rows cannot be used, or do not fit the model's context: refuse to start, "
        "or skip them and report how many.",
    )
    skip_train: tuple[int, ...] = Field(
        (),
        description="Rows of task.train that are left out, by line (or item of a JSON list, or row "
        "of a table), from 1. task.on_bad_row=skip sets it for rows that do not fit the context.",
    )
    skip_test: tuple[int, ...] = Field(
        (), description="Rows of task.test that are left out, by line, from 1."
    )
