"""Exact probabilities of a correct response, where a task enumerates its solutions.

The sum over solutions of the teacher-forced probability under the saved checkpoint: what the
sampled pass@k must agree with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forkdiv.artifacts import Artifact, Store
from forkdiv.checkpoint import Checkpoint
from forkdiv.config import DecoderConfig, EvalConfig, PromptConfig
from forkdiv.coverage import Floats
from forkdiv.fingerprint import Identity
from forkdiv.records import Problem
from forkdiv.task_config import TaskConfig
from forkdiv.tasks import build, described

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RAW = PromptConfig()
PROBABILITIES = "probabilities.json"


def identity(
    task: TaskConfig,
    config: EvalConfig,
    problems: int,
    checkpoint: Checkpoint,
    decoder: DecoderConfig,
    prompt: PromptConfig,
) -> Identity:
    knobs = {
        "task": described(task),
        "split": config.split,
        "problems": problems,
        "prompt": prompt,
        "temperature": decoder.temperature,
        "dtype": decoder.dtype,
    }
    return Identity("exact", knobs, {"checkpoint": checkpoint.fingerprint})


def obtain(
    store: Store,
    task: TaskConfig,
    config: EvalConfig,
    problems: Sequence[Problem],
    checkpoint: Checkpoint,
    decoder: DecoderConfig,
    prompt: PromptConfig = RAW,
) -> Artifact:
    """Each problem's probability of a correct response under `decoder`.

    Raises ValueError for a decoder that truncates: its distribution is not the model's.
    """
    check_whole(decoder)

    def make(folder: Path) -> None:
        values = probabilities(task, problems, checkpoint, decoder, prompt)
        (folder / PROBABILITIES).write_text(json.dumps(values.tolist()))

    what = identity(task, config, len(problems), checkpoint, decoder, prompt)
    return store.obtain(what, make)


def read(artifact: Artifact) -> Floats:
    return np.asarray(json.loads((artifact.path / PROBABILITIES).read_text()))


def probabilities(
    task: TaskConfig,
    problems: Sequence[Problem],
    checkpoint: Checkpoint,
    decoder: DecoderConfig,
    prompt: PromptConfig = RAW,
) -> Floats:
    """Float64 of shape (problems,). Raises ValueError where the task cannot list every correct
    response."""
    from forkdiv.model import response_probabilities

    solver = build(task)
    if not solver.exhaustive:
        raise ValueError(f"{task.kind} does not list every correct response")
    traces = [solver.solutions(problem) for problem in problems]
    pairs = [
        (problem.prompt, trace.text)
        for problem, solutions in zip(problems, traces, strict=True)
        for trace in solutions
    ]
    model, tokenizer = load(checkpoint, decoder)
    values = response_probabilities(model, tokenizer, pairs, [decoder.temperature], prompt)[:, 0]
    starts = np.cumsum([0, *(len(solutions) for solutions in traces[:-1])])
    return np.asarray(np.add.reduceat(values, starts))


def check_whole(decoder: DecoderConfig) -> None:
    """Raise ValueError for a decoder that truncates: its distribution is not the model's."""
    if decoder.truncates:
        raise ValueError(f"no exact probabilities under a truncating decoder: {decoder}")


def load(
    checkpoint: Checkpoint, decoder: DecoderConfig
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, computing in the decoder's dtype, and its tokenizer."""
    import torch

    from forkdiv.model import load_model, load_tokenizer

    dtype = torch.bfloat16 if decoder.dtype == "bfloat16" else torch.float32
    return load_model(checkpoint.path, dtype), load_tokenizer(checkpoint.path)
