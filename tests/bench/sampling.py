"""The warm sampler against vLLM asked directly, in a fresh engine each time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from ray import serve as ray_serve

from forkdiv.core.config.study import DecoderConfig, PlaceConfig, StudyConfig
from forkdiv.core.records import Problem
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.loading import load_tokenizer
from forkdiv.models.prompting import prompt_ids
from forkdiv.sample import deployment
from forkdiv.sample.sample_sets import Request, Response
from forkdiv.tasks.registry import build
from tests.bench import offline
from tests.bench.row import Row
from tests.bench.swap import disturbed
from tests.stack import BASE
from tuning.session import engine_spec, running

CHECKPOINTS, TEMPERATURES, PROBLEMS, N = 8, (0.7, 0.85, 1.0, 1.3), 100, 64
ROUNDS = 7  # of either, by turns, since a machine's speed drifts; the first warms up
COLD_STARTS = 2  # measured; the published pipeline's 32 are scaled from them


def measure() -> list[Row]:
    study = StudyConfig(base=BASE)
    problems = build(study.task).heldout("test", PROBLEMS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = load_tokenizer(BASE)
        prompts = [prompt_ids(tokenizer, one.prompt, study.prompt) for one in problems]
        # hardly, so that all give responses of the length that the cold starts are timed with
        checkpoints = [disturbed(folder / str(i), 1e-4 * i) for i in range(CHECKPOINTS)]
        starts = []
        for _ in range(COLD_STARTS - 1):
            with offline.running(folder, BASE, prompts, N) as vllm:
                starts.append(vllm.first_s)
        with offline.running(folder, BASE, prompts, N) as vllm:
            starts.append(vllm.first_s)
            warm = _through_serve(checkpoints, problems, vllm)
    theirs = median(tokens / seconds for tokens, seconds in warm.offline)
    first = sum(starts) / COLD_STARTS
    pair = median(seconds for _, seconds in warm.offline)
    pairs = CHECKPOINTS * len(TEMPERATURES)
    measured = f"{COLD_STARTS} of {pairs} cold starts measured and scaled"
    each_pair, each = pairs * (first + pair), CHECKPOINTS * first + pairs * pair
    parts = ", ".join(f"{name} {value:.1f}" for name, value in warm.parts.items())
    return [
        Row(
            "serve_vs_offline",
            warm.rate / theirs,
            "times",
            f"vLLM's generate, {theirs:.0f} tokens/s",
        ),
        Row("sampler_tokens_per_s", warm.rate, "tokens/s", f"{PROBLEMS} prompts, n={N}, Serve"),
        Row(
            "grid_vs_cold_engines",
            each_pair / warm.grid_s,
            "times faster",
            f"a fresh engine per checkpoint and temperature, {each_pair:.0f} s; {measured}",
        ),
        Row(
            "grid_vs_engine_per_checkpoint",
            each / warm.grid_s,
            "times faster",
            f"a fresh engine per checkpoint, {each:.0f} s; {measured}",
        ),
        Row("grid_s", warm.grid_s, "s", f"{pairs} pairs, warm, swaps included"),
        Row("start_to_first_sample_s", warm.first_s, "s", f"cold: {parts}"),
        Row("warm_first_sample_s", warm.again_s, "s", "one request of one sample, engine warm"),
        Row("offline_first_sample_s", first, "s", "a fresh process with vLLM's generate"),
    ]


class Warm:
    """What was measured through Serve, and vLLM's own rounds in between: tokens and seconds."""

    offline: list[tuple[int, float]]

    first_s: float
    again_s: float
    rate: float
    grid_s: float
    parts: dict[str, float]


def _through_serve(
    checkpoints: Sequence[Checkpoint], problems: Sequence[Problem], vllm: offline.Offline
) -> Warm:
    study, found = StudyConfig(base=BASE), Warm()
    base, hot = open_checkpoint(BASE), DecoderConfig()
    requests = [Request(problem, 0, N, 4096 * i) for i, problem in enumerate(problems)]
    with running(PlaceConfig(dashboard=False)):
        spec = engine_spec(study, base)
        started = time.perf_counter()
        app = deployment.deploy(spec)
        client = deployment.ServeSampler(app, spec.config)
        handle = deployment.wait_until_ready(app, 600)
        up = time.perf_counter() - started
        one = [Request(problems[0], 0, 1, 1)]
        tokens_of(client, base, hot, one)
        found.first_s = time.perf_counter() - started
        own = handle.seconds.remote().result()
        found.parts = {
            "Serve and its processes": up - sum(own.values()),
            "vLLM's imports": own["imports"],
            "the engine": own["start"],
            "load, proof and sample": found.first_s - up,
        }
        started = time.perf_counter()
        tokens_of(client, base, hot, one)
        found.again_s = time.perf_counter() - started
        rates, found.offline = [], []
        for _ in range(ROUNDS):
            found.offline.append(vllm.round())
            started = time.perf_counter()
            tokens = tokens_of(client, base, hot, requests)
            rates.append(tokens / (time.perf_counter() - started))
        found.rate, found.offline = median(rates[1:]), found.offline[1:]
        started = time.perf_counter()
        for checkpoint in checkpoints:
            for temperature in TEMPERATURES:
                tokens_of(client, checkpoint, DecoderConfig(temperature=temperature), requests)
        found.grid_s = time.perf_counter() - started
        ray_serve.delete(app)
    return found


def tokens_of(
    client: deployment.ServeSampler,
    checkpoint: Checkpoint,
    decoder: DecoderConfig,
    requests: Sequence[Request],
) -> int:
    tokens = 0
    for answer in client.sample(checkpoint, decoder, requests):
        assert isinstance(answer, Response), answer
        # the end token, which vLLM's own generate counts and we leave out
        tokens += sum(len(ids) + (finish == "stop") for ids, _, finish in answer.samples)
    return tokens
