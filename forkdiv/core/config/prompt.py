"""How a problem becomes the text that a model reads."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from forkdiv.core.config.base import Frozen


class PromptConfig(Frozen):
    """How a problem becomes the text that a model reads, the same in training and sampling."""

    template: Literal["raw", "plain", "chat"] = Field(
        "raw",
        description="raw: the problem's text unchanged. plain: the text inserted into "
        "`prompt.text`. chat: the tokenizer's chat template, applied once.",
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

    @model_validator(mode="after")
    def _holds_the_prompt(self) -> Self:
        if self.text.count("{prompt}") != 1:
            raise ValueError(
                f"text={self.text!r} must contain {{prompt}} exactly once; allowed: any text "
                "around it; correct prompt.text"
            )
        if self.system is not None and self.template != "chat":
            raise ValueError(
                f"system={self.system!r} needs a chat template; allowed: prompt.template=chat; "
                "set it, or write the text into prompt.text"
            )
        return self
