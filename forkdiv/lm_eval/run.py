"""A run: whose samples are written for lm-evaluation-harness, and how they were drawn."""

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


def plain(prompt: str) -> str:
    """A prompt as a reader of the files sees it: one turn alone, more of them as JSON."""
    turns = unpack(prompt)
    alone = len(turns) == 1 and turns[0]["role"] == USER
    return turns[0]["content"] if alone else json.dumps(turns, ensure_ascii=False)


@dataclass(frozen=True)
class Run:
    """Whose samples they are. `model` names the folder, `checkpoint` is where the model lies;
    `prompt` makes of a problem's prompt the text that the model saw."""

    task: str
    model: str
    checkpoint: str
    decoder: DecoderConfig
    n: int
    ks: Sequence[int]
    created: datetime
    prompt: Callable[[str], str] = plain

    def __post_init__(self) -> None:
        if self.decoder.design != "independent":
            raise refuse(
                "the tool's pass@k takes any samples of a problem for any others, which those of "
                "this decoder are not",
                self.decoder.design,
                "a decoder that draws every sample by itself",
                "export another decoder's samples",
            )

    @property
    def settings(self) -> dict[str, Any]:
        """The generation arguments under the tool's names; those it has none for under ours."""
        decoder = self.decoder.model_dump()
        return {
            **{name: decoder[name] for name in LATER if name in decoder},
            "until": [],
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
