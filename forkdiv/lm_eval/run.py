"""The model and decoder whose samples are written for lm-evaluation-harness."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from forkdiv.core.chat import USER, unpack
from forkdiv.core.config.decoder import KNOBS, LATER, DecoderConfig, lm_eval_name
from forkdiv.core.errors import refuse


def prompt_text(prompt: str) -> str:
    """Returns the prompt as text: a single user turn as it is, several turns as JSON."""
    turns = unpack(prompt)
    single_turn = len(turns) == 1 and turns[0]["role"] == USER
    return turns[0]["content"] if single_turn else json.dumps(turns, ensure_ascii=False)


@dataclass(frozen=True)
class Run:
    """One model, the decoder that drew its samples, and the task.

    `model` names the folder and `checkpoint` is the path of the model. `prompt` returns the text
    that the model received for a problem's prompt. Raises UserError for decoders whose samples
    are not independent.
    """

    task: str
    model: str
    checkpoint: str
    decoder: DecoderConfig
    n: int
    ks: Sequence[int]
    created: datetime
    prompt: Callable[[str], str] = prompt_text

    def __post_init__(self) -> None:
        if self.decoder.design != "independent":
            raise refuse(
                "lm_eval computes pass@k for independent samples, and this decoder draws "
                "dependent samples",
                self.decoder.design,
                "a decoder that draws samples independently",
                "export the samples of another decoder",
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the generation arguments, with the names of lm_eval where it has one."""
        decoder = self.decoder.model_dump()
        return {
            **{name: decoder[name] for name in LATER if name in decoder and name != "stop"},
            "until": list(self.decoder.stop),
            "do_sample": not self.decoder.greedy,
            **{
                lm_eval_name(name): decoder[name]
                for name, knob in KNOBS.items()
                if knob.vllm and name not in LATER
            },
        }

    @property
    def folder(self) -> str:
        return re.sub(r'[\s"<>:/|\\?*\[\]]+', "_", self.model)

    @property
    def date(self) -> str:
        return self.created.replace(tzinfo=None).isoformat().replace(":", "-")
