"""Planted responses of which it is known whether they can be learned: on the prompts of the data,
drawn by the base. They calibrate the criterion and show its power on this data.

A *coin flip* is a token as the base draws it: nothing that other rows show tells which it is. A
*rule* takes, at every token, the one with the smallest id among those that the base finds
plausible: other rows show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.errors import refuse
from forkdiv.core.records import Example
from forkdiv.data import tokenized
from forkdiv.learnability.predictions import draw
from forkdiv.learnability.short_runs import Runs
from forkdiv.models.asked import own_tokenizer

COINS, RULES = "coin-flips", "rules"
LEAST_PLAUSIBLE = 0.05


def drawn(
    runs: Runs, examples: Sequence[Example], kind: str
) -> tuple[NDArray[np.int64], list[Example]]:
    """Returns copies of the examples with planted responses, and the row that each copies. A
    response that is empty or that did not end within the longest response of the data is left out.

    Raises UserError if the base ends no response.
    """
    runs.progress(f"learnability: the base draws responses ({kind})")
    prompt, base = runs.study.prompt.without_shots, runs.base
    rows = tokenized.encode_examples(examples, base.path, prompt)
    own = own_tokenizer(base.path)
    longest = max(len(response) for _, response in rows)
    least = LEAST_PLAUSIBLE if kind == RULES else None
    prompts = [ids for ids, _ in rows]
    seed = runs.config.seed
    device = runs.study.place.device
    responses = draw(base.path, prompts, longest, own.ends, seed, device, least)
    chosen, copies = [], []
    for row, (_, response) in enumerate(responses):
        text = str(own.tokenizer.decode(response[:-1], skip_special_tokens=True)).strip()
        if response[-1] in own.ends and text:
            chosen.append(row)
            copy = replace(examples[row], response=text, forks=0, unsigned_forks=0)
            copies.append(copy)
    if not copies:
        raise refuse(
            "the base ends none of the responses that it draws, so no coin flips can be planted",
            f"{len(responses):,} responses of at most {longest} tokens without an end",
            "a base that can answer these prompts",
            "set learnability.planted=[]",
        )
    return np.array(chosen, dtype=np.int64), copies
