"""Prompts without labels: the base draws a response to each, and fine-tuning keeps the model near
the base along it. They reach the forks that the data never shows."""

from __future__ import annotations

from itertools import islice

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.data import inputs
from forkdiv.data.tokenized import Row
from forkdiv.learnability.predictions import draw
from forkdiv.models.asked import own_tokenizer
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.prompting import prompt_ids

SEED = 2**31  # apart from that of planted responses


def rows(study: StudyConfig, base: Checkpoint, longest: int) -> list[Row]:
    """Returns the token ids of the prompts of learnability.prompts, each once, and of a response of
    at most `longest` tokens that the base draws; empty without them.

    Raises UserError if the file has no prompts.
    """
    config = study.learnability
    if config.prompts is None:
        return []
    named = study.model_copy(update={"data": config.prompts})
    examples = inputs.examples(inputs.with_task_of_data(named, grades=False))
    prompts = list(islice(dict.fromkeys(row.prompt for row in examples), config.prompt_limit))
    if not prompts:
        raise refuse(
            "learnability.prompts has no prompts",
            config.prompts,
            "one prompt or more",
            "use another file, or remove learnability.prompts",
        )
    own = own_tokenizer(base.path)
    prompt = study.prompt.without_shots
    ids = [prompt_ids(own.tokenizer, text, prompt) for text in prompts]
    seed = (SEED + config.seed) % 2**32
    return draw(base.path, ids, longest, own.ends, seed, study.place.device)
