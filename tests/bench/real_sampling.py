"""SmolLM2-135M in bfloat16: the warm sampler against the fastest of vLLM asked directly, with each
number of threads, and transformers' `generate` in one static batch."""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from ray import serve as ray_serve

from forkdiv.core.config.study import DecoderConfig, PlaceConfig, StudyConfig
from forkdiv.core.records import Problem
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.loading import load_model, load_tokenizer
from forkdiv.models.prompting import prompt_ids
from forkdiv.sample import deployment
from forkdiv.sample.sample_sets import Request
from tests.bench import offline
from tests.bench.row import Row
from tests.bench.sampling import tokens_of
from tests.real_model import smollm2
from tuning.session import engine_spec, running

# prompts that few responses end before the limit
TOPICS = ("a lighthouse", "two rivers", "an old clock", "the first snow")
PROMPTS = [f"A long story about {topic} begins like this: Once upon a time" for topic in TOPICS]
N, NEW_TOKENS = 16, 64
ROUNDS = 4  # of each, by turns; the first warms up


def measure() -> list[Row]:
    base, cores = open_checkpoint(smollm2()), torch.get_num_threads()
    decoder = DecoderConfig(dtype="bfloat16", max_new_tokens=NEW_TOKENS)
    study = StudyConfig(base=base.path, decoder=decoder)
    tokenizer = load_tokenizer(base.path)
    ids = [prompt_ids(tokenizer, prompt, study.prompt) for prompt in PROMPTS]
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        vllm = {
            f"vLLM's generate, {number} threads": stack.enter_context(
                offline.running(
                    Path(folder), base.path, ids, N, NEW_TOKENS, dtype="bfloat16", threads=number
                )
            )
            for number in sorted({1, cores})
        }
        generate = _Generate(base.path, ids)
        stack.enter_context(running(PlaceConfig(dashboard=False)))
        served = _Served(study, base)
        for _ in range(ROUNDS):
            _note(rates, "forkdiv", served.round())
            for name, process in vllm.items():
                _note(rates, name, process.round())
            _note(rates, "transformers' generate, one batch", generate.round())
        served.close()
    medians = {name: statistics.median(each[1:]) for name, each in rates.items()}
    ours = medians.pop("forkdiv")
    best = max(medians.values())
    against = "; ".join(f"{name}: {rate:.0f} tokens/s" for name, rate in medians.items())
    return [
        Row("real_sampling_vs_best", ours / best, "times", against),
        Row("real_sampling_tokens_per_s", ours, "tokens/s", f"{len(ids)} prompts, n={N}, Serve"),
    ]


def _note(rates: dict[str, list[float]], name: str, measured: tuple[int, float]) -> None:
    tokens, seconds = measured
    rates.setdefault(name, []).append(tokens / seconds)


class _Served:
    """The sampler as studies use it."""

    def __init__(self, study: StudyConfig, base: Checkpoint) -> None:
        spec = engine_spec(study, base)
        self._base, self._decoder = base, study.decoder
        self._app = deployment.deploy(spec)
        self._client = deployment.ServeSampler(self._app, spec.config)
        deployment.wait_until_ready(self._app, 600)
        self._requests = [
            Request(Problem(str(i), "test", "all", prompt, {}), 0, N, 4096 * i)
            for i, prompt in enumerate(PROMPTS)
        ]

    def round(self) -> tuple[int, float]:
        started = time.perf_counter()
        tokens = tokens_of(self._client, self._base, self._decoder, self._requests)
        return tokens, time.perf_counter() - started

    def close(self) -> None:
        ray_serve.delete(self._app)


class _Generate:
    """transformers' `generate` of all responses in one batch; prompts have equal lengths after
    padding on the left."""

    def __init__(self, path: Path, ids: list[list[int]]) -> None:
        self._model: Any = load_model(path, torch.bfloat16).eval()
        longest = max(map(len, ids))
        padded = [[0] * (longest - len(one)) + one for one in ids]
        shown = [[0] * (longest - len(one)) + [1] * len(one) for one in ids]
        self._rows = torch.tensor(padded).repeat_interleave(N, dim=0)
        self._mask = torch.tensor(shown).repeat_interleave(N, dim=0)

    def round(self) -> tuple[int, float]:
        started = time.perf_counter()
        with torch.inference_mode():
            out = self._model.generate(
                self._rows,
                attention_mask=self._mask,
                do_sample=True,
                top_k=0,
                max_new_tokens=NEW_TOKENS,
            )
        seconds = time.perf_counter() - started
        new = out[:, self._rows.shape[1] :]
        ended = (new == self._model.generation_config.eos_token_id).int()
        # up to the first end token, and with it: what follows is padding
        useful = (ended.cumsum(dim=1) - ended == 0).sum()
        return int(useful), seconds
