"""How a problem becomes the text that a model reads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from forkdiv.core.chat_template import DATE, check_template_args, template_text
from forkdiv.core.config.base import DataPath, Frozen, Seed, without_defaults

# Settings that were added later: fingerprints omit them at their default, so that existing results
# are still reused.
LATER = ("chat_template", "date", "template_args", "shots", "shots_seed", "shots_data")
SHOTS = ("shots", "shots_seed", "shots_data")


def _date(value: Any) -> str:
    """Returns a date as text. YAML reads an unquoted date as a date."""
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError as error:
        raise ValueError(
            f"date={value!r} is not a date; allowed: YYYY-MM-DD, such as {DATE}; correct "
            "prompt.date"
        ) from error


def _template_args(value: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        check_template_args(value)
    except ValueError as error:
        raise ValueError(f"{error}; correct prompt.template_args") from error
    return value


class PromptConfig(Frozen):
    """How a problem becomes the text that a model reads, the same in training and sampling."""

    template: Literal["raw", "plain", "chat"] = Field(
        "raw",
        description="raw: the problem's text unchanged. plain: the text inserted into "
        "`prompt.text`. chat: the checkpoint's own chat template, applied once.",
    )
    text: str = Field(
        "### Instruction:\n{prompt}\n\n### Response:\n",
        description="The text around a problem for template=plain; it must contain {prompt} once, "
        "which is replaced by the problem.",
    )
    system: str | None = Field(
        None,
        description="System message before the problem, for template=chat only. null: none.",
    )
    chat_template: Annotated[str, AfterValidator(template_text)] | None = Field(
        None,
        description="One chat template for all checkpoints instead of their own, for "
        "template=chat only: a Jinja file, a checkpoint folder whose template is used, or the "
        "template itself. null: each checkpoint's own.",
    )
    template_args: Annotated[dict[str, JsonValue], AfterValidator(_template_args)] = Field(
        {},
        description="Arguments of the chat template by name, for template=chat only, such as "
        "{enable_thinking: false}. An argument that the template does not read has no effect, and "
        "is reported.",
    )
    date: Annotated[str, BeforeValidator(_date)] = Field(
        DATE,
        description="The date that a chat template sees as today (YYYY-MM-DD), so that results do "
        "not depend on the day.",
    )
    shots: int = Field(
        0,
        ge=0,
        le=64,
        description="Number of worked examples (shots) that are shown before each problem when a "
        "model is sampled, the same ones for every problem: as earlier turns with template=chat, "
        "else as text, with an empty line between them. Fine-tuning never uses them. 0: none.",
    )
    shots_seed: Seed = Field(0, description="Seed of the choice of the shots.")
    shots_data: DataPath | None = Field(
        None,
        description="File that the shots are drawn from, or a dataset on the Hugging Face Hub "
        "(org/dataset:split); its rows have a prompt and a completion, or an answer. A problem "
        "that is itself in the file is never its own shot. null: the training problems of the "
        "task.",
    )

    @model_validator(mode="after")
    def _holds_the_prompt(self) -> Self:
        if self.text.count("{prompt}") != 1:
            raise ValueError(
                f"text={self.text!r} must contain {{prompt}} exactly once; allowed: any text "
                "around it; correct prompt.text"
            )
        for name in ("system", "chat_template", "template_args"):
            value = getattr(self, name)
            if value not in (None, {}) and self.template != "chat":
                raise ValueError(
                    f"{name}={str(value)[:80]!r} has an effect with prompt.template=chat only, got "
                    f"prompt.template={self.template}; allowed: prompt.template=chat; set it, or "
                    f"remove prompt.{name}"
                )
        return self

    @model_validator(mode="after")
    def _shots_are_used(self) -> Self:
        for name in ("shots_seed", "shots_data"):
            if not self.shots and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name}={getattr(self, name)} has an effect with prompt.shots only, got "
                    f"prompt.shots=0; allowed: prompt.shots of 1 or more; set it, or remove "
                    f"prompt.{name}"
                )
        return self

    @property
    def without_shots(self) -> PromptConfig:
        """The same settings for prompts without shots, as training uses them."""
        defaults = {name: type(self).model_fields[name].default for name in SHOTS}
        return self.model_copy(update=defaults)

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, plain(self), LATER)
