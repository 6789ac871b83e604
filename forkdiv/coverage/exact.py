"""Exact probabilities of a correct response, for tasks that enumerate their solutions.

The probability is the sum over solutions of the teacher-forced probability under the saved
checkpoint and the decoder. Sampled pass@k must agree with it. With forced first tokens, each first
token has its own probability: that of the remaining tokens of the solutions that begin with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.store import Artifact, Store
from forkdiv.coverage.stats import Floats
from forkdiv.models.asked import OwnTokenizer, own_tokenizer
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.decoding import first_candidates
from forkdiv.models.end_tokens import named_ends
from forkdiv.sample.evaluation import Evaluation

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROBABILITIES = "probabilities.json"


def identity(evaluation: Evaluation, checkpoint: Checkpoint) -> Identity:
    """Returns the identity of the probabilities of the evaluation's problems."""
    decoder = evaluation.decoder
    knobs: dict[str, object] = {
        "task": evaluation.task.identity(),
        "split": evaluation.config.split,
        "problems": len(evaluation.problems),
        "prompt": evaluation.prompt,
        "temperature": decoder.temperature,
        "dtype": decoder.dtype,
    }
    knobs |= evaluation.shots.identity()
    if not decoder.is_plain:
        knobs["decoder"] = decoder
    if len(ends := _named_ends(checkpoint)) > 1:
        knobs["ends"] = ends  # results from before several end tokens were counted have one
    return Identity("exact", knobs, {"checkpoint": checkpoint.fingerprint})


def _named_ends(checkpoint: Checkpoint) -> list[str]:
    """Returns what the checkpoint's files name as end tokens, without loading its tokenizer."""
    folder = checkpoint.token_files
    return named_ends(folder) if folder else []


def obtain(store: Store, evaluation: Evaluation, checkpoint: Checkpoint) -> Artifact:
    """Returns the stored probabilities of a correct response to each problem, computing them if
    needed.

    Raises ValueError for a decoder that draws trees, for which there is no closed form.
    """

    def make(folder: Path) -> None:
        store.whole(checkpoint.path)
        values = probabilities(evaluation, checkpoint)
        (folder / PROBABILITIES).write_text(json.dumps(values.tolist()))

    return store.obtain(identity(evaluation, checkpoint), make)


def read(artifact: Artifact) -> Floats:
    with artifact.reading(PROBABILITIES) as path:
        return np.asarray(json.loads(path.read_text()), dtype=np.float64)


def probabilities(evaluation: Evaluation, checkpoint: Checkpoint) -> Floats:
    """Computes the probabilities, float64 of shape (problems,), or (problems, first tokens) with
    forced first tokens. Raises ValueError if the task cannot list every correct response, and for
    decoders that draw trees."""
    task, decoder, prompt = evaluation.task, evaluation.decoder, evaluation.prompt
    problems = evaluation.problems
    if decoder.tree_samples:
        raise ValueError(f"exact probabilities are undefined for trees of samples: {decoder}")
    from forkdiv.models.loading import next_token_logprobs
    from forkdiv.models.prompting import prompt_ids, response_ids

    if not task.exhaustive:
        raise ValueError(f"{task.config.kind} does not list every correct response")
    traces = [task.solutions(problem) for problem in problems]
    asked = [problem.prompt for problem in evaluation.asked_problems]
    model, own = load(checkpoint, decoder)
    # a response may end with any end token, and these are different responses
    encoded = [
        (prompt_ids(own.tokenizer, text, prompt), [*response, end])
        for text, solutions in zip(asked, traces, strict=True)
        for response in (response_ids(own.tokenizer, trace.text) for trace in solutions)
        for end in own.ends
    ]
    steps = _steps(model, encoded, decoder)
    counts = [len(solutions) * len(own.ends) for solutions in traces]
    owner = np.repeat(np.arange(len(problems)), counts)
    if not decoder.first_tokens:
        values = np.array([np.exp(logs.sum()) for logs in steps])
        return np.asarray(np.bincount(owner, values, len(problems)), dtype=np.float64)
    heads = [prompt_ids(own.tokenizer, text, prompt) for text in asked]
    logprobs = next_token_logprobs(checkpoint.path, heads, decoder.dtype)
    first = [first_candidates(row, decoder.first_tokens).tolist() for row in logprobs]
    out = np.zeros((len(problems), decoder.first_tokens))
    for row, (_, tail), logs in zip(owner, encoded, steps, strict=True):
        if tail[0] in first[row]:
            out[row, first[row].index(tail[0])] += np.exp(logs[1:].sum())
    return out


def _steps(
    model: PreTrainedModel,
    encoded: Sequence[tuple[list[int], list[int]]],
    decoder: DecoderConfig,
) -> list[Floats]:
    """Returns the log-probability of each token of every response, including its end token."""
    from forkdiv.models.loading import token_logprobs

    targets = [
        (row, len(head) + i, token)
        for row, (head, tail) in enumerate(encoded)
        for i, token in enumerate(tail)
    ]
    sampling = decoder.temperature if decoder.is_plain else decoder
    steps = token_logprobs(model, [head + tail for head, tail in encoded], targets, [sampling])[
        :, 0
    ]
    return np.split(steps, np.cumsum([len(tail) for _, tail in encoded])[:-1])


def require_plain_decoder(decoder: DecoderConfig) -> None:
    """Raises ValueError for a decoder that changes the model's distribution by more than a
    temperature."""
    if not decoder.is_plain:
        raise ValueError(f"the decoder truncates or reshapes the model's distribution: {decoder}")


def load(checkpoint: Checkpoint, decoder: DecoderConfig) -> tuple[PreTrainedModel, OwnTokenizer]:
    """Returns the model in the decoder's dtype, and its tokenizer with all end tokens."""
    import torch

    from forkdiv.models.loading import load_model

    return load_model(checkpoint.path, getattr(torch, decoder.dtype)), own_tokenizer(
        checkpoint.path
    )
