"""The sampler on real Ray Serve and real vLLM: swaps proved, answers from the right weights."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from ray import serve as ray_serve
from safetensors.torch import load_file, save_file

from forkdiv.core.config.study import DecoderConfig, PlaceConfig, StudyConfig
from forkdiv.core.records import Problem
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.loading import load_model, load_tokenizer
from forkdiv.sample import deployment
from forkdiv.sample.engine import PROOF_TOLERANCE
from forkdiv.sample.engine_settings import EngineSpec
from forkdiv.sample.sample_sets import Failed, Request, Response
from forkdiv.tasks.registry import build
from tests.stack import BASE
from tuning.session import engine_spec, running

pytestmark = pytest.mark.stack

STUDY = StudyConfig(base=BASE)
GREEDY = DecoderConfig(temperature=0.0)


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    with running(PlaceConfig(dashboard=False, num_cpus=2)):
        yield


@pytest.fixture(scope="module")
def spec() -> EngineSpec:
    return engine_spec(STUDY, open_checkpoint(BASE))


@pytest.fixture(scope="module")
def sampler(spec: EngineSpec) -> Iterator[deployment.ServeSampler]:
    name = deployment.deploy(spec)
    yield deployment.ServeSampler(name, spec.config)
    ray_serve.delete(name)


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return build(STUDY.task).heldout("test", 12)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The base with noise on every weight: the same shape, other answers."""
    folder = tmp_path_factory.mktemp("checkpoints") / "other"
    return disturbed(folder, scale=0.05)


def disturbed(folder: Path, scale: float) -> Checkpoint:
    shutil.copytree(BASE, folder)
    torch.manual_seed(1)
    state = load_file(BASE / "model.safetensors")
    noisy = {name: value + scale * torch.randn_like(value) for name, value in state.items()}
    save_file(noisy, folder / "model.safetensors", metadata={"format": "pt"})
    return open_checkpoint(folder)


def greedy_text(checkpoint: Checkpoint, problem: Problem, tokens: int) -> str:
    """What transformers generates from the saved files, one most likely token at a time."""
    model, tokenizer = load_model(checkpoint.path).eval(), load_tokenizer(checkpoint.path)
    ids = tokenizer(problem.prompt)["input_ids"]
    start = len(ids)
    with torch.inference_mode():
        while len(ids) < start + tokens:
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
            if token == tokenizer.eos_token_id:
                break
            ids.append(token)
    return str(tokenizer.decode(ids[start:]))


def texts(answers: Iterator[Response | Failed]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for answer in answers:
        assert isinstance(answer, Response), answer
        found[answer.request.problem.id] = [text for _, text, _ in answer.samples]
    return found


def requests(problems: list[Problem], n: int) -> list[Request]:
    return [Request(problem, 0, n, 4096 * i) for i, problem in enumerate(problems)]


def test_a_swap_that_is_not_proved_restarts_the_engine_and_is_answered_from_the_right_weights(
    spec: EngineSpec, problems: list[Problem], other: Checkpoint
) -> None:
    """With the mend of tied embeddings off a swap goes wrong, and a fresh engine is right."""
    broken = replace(spec, mend_tied_embeddings=False)
    name = deployment.deploy(broken)
    try:
        client = deployment.ServeSampler(name, broken.config.model_copy(update={"max_failures": 0}))
        for checkpoint in (open_checkpoint(BASE), other):
            found = texts(client.sample(checkpoint, GREEDY, requests(problems[:1], 1)))
            want = greedy_text(checkpoint, problems[0], GREEDY.max_new_tokens)
            assert found == {problems[0].id: [want]}
        swaps = deployment.wait(name, 10).swaps.remote().result()
        # what it started with is right, mended or not; the swap is far off, the restart right
        errors = [swap["error"] for swap in swaps]
        limit = PROOF_TOLERANCE["float32"]
        assert errors[0] < limit and errors[1] > 100 * limit and errors[2] < limit
        assert [swap["restarted"] for swap in swaps] == [False, False, True]
    finally:
        ray_serve.delete(name)


def test_requests_for_two_checkpoints_at_once_are_answered_from_the_right_weights(
    sampler: deployment.ServeSampler, problems: list[Problem], other: Checkpoint
) -> None:
    base = open_checkpoint(BASE)
    found: dict[str, dict[str, list[str]]] = {}

    def ask(checkpoint: Checkpoint) -> None:
        answers = sampler.sample(checkpoint, GREEDY, requests(problems, 2))
        found[checkpoint.fingerprint] = texts(answers)

    threads = [threading.Thread(target=ask, args=(one,)) for one in (base, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for checkpoint in (base, other):
        for problem in problems:
            want = greedy_text(checkpoint, problem, GREEDY.max_new_tokens)
            assert found[checkpoint.fingerprint][problem.id] == [want, want]
    assert found[base.fingerprint] != found[other.fingerprint]


def test_each_sample_has_its_own_seed_and_the_same_seed_gives_the_same_sample(
    sampler: deployment.ServeSampler, problems: list[Problem]
) -> None:
    base, decoder = open_checkpoint(BASE), DecoderConfig(temperature=1.0)
    whole = texts(sampler.sample(base, decoder, [Request(problems[0], 0, 64, 1000)]))
    late = texts(sampler.sample(base, decoder, [Request(problems[0], 40, 24, 1040)]))
    (first,), (last) = whole.values(), next(iter(late.values()))
    assert first[40:] == last
    assert len(set(first)) >= 3  # the base walks every arm


def test_many_samples_of_short_prompts_do_not_end_the_engine(
    sampler: deployment.ServeSampler, problems: list[Problem]
) -> None:
    """Prompts below one block of the cache are read anew for each of 64 samples: more tokens
    than one step takes, so that some prompts would be read in two parts."""
    short = [replace(p, prompt=" ".join(["edges:", *p.prompt.split()[3:]])) for p in problems]
    tokenizer = load_tokenizer(BASE)
    assert all(20 < len(tokenizer(one.prompt)["input_ids"]) < 32 for one in short)
    asked = [Request(problem, 0, 64, 4096 * i) for i, problem in enumerate(short * 4)]
    answers = list(sampler.sample(open_checkpoint(BASE), DecoderConfig(), asked))
    assert all(isinstance(answer, Response) for answer in answers)
    assert len(answers) == len(asked)


def test_samples_go_on_from_the_beginning_of_a_response(
    sampler: deployment.ServeSampler, problems: list[Problem]
) -> None:
    base = open_checkpoint(BASE)
    for problem in problems[:4]:
        whole = greedy_text(base, problem, GREEDY.max_new_tokens)
        nodes = whole.split()
        for cut in range(len(nodes)):
            prefix = " ".join(nodes[:cut])
            asked = Request(problem, 0, 1, 0, prefix)
            ((rest,),) = texts(sampler.sample(base, GREEDY, [asked])).values()
            assert prefix + rest == whole


def test_a_checkpoint_of_another_shape_is_refused_and_the_others_are_still_served(
    sampler: deployment.ServeSampler, problems: list[Problem], tmp_path: Path
) -> None:
    folder = tmp_path / "wider"
    shutil.copytree(BASE, folder)
    config = (folder / "config.json").read_text()
    changed = config.replace('"intermediate_size": 320', '"intermediate_size": 640')
    assert changed != config
    (folder / "config.json").write_text(changed)
    wider = Checkpoint(folder, "wider")
    (refused,) = list(sampler.sample(wider, GREEDY, requests(problems[:1], 1)))
    assert isinstance(refused, Failed)
    assert "another architecture" in refused.message
    assert texts(sampler.sample(open_checkpoint(BASE), GREEDY, requests(problems[:1], 1)))


def broken_checkpoint(folder: Path, how: str) -> Checkpoint:
    if how == "not numbers":
        return disturbed(folder, scale=float("nan"))
    good = disturbed(folder, scale=0.01)
    weights = folder / "model.safetensors"
    if how == "truncated":
        os.truncate(weights, weights.stat().st_size // 2)
        return Checkpoint(folder, "truncated")
    state = load_file(weights)
    name = "model.layers.1.mlp.up_proj.weight"
    if how == "missing":
        del state[name]
    else:
        state[name] = state[name][:-1].contiguous()
    save_file(state, weights, metadata={"format": "pt"})
    return replace(good, fingerprint=how)


@pytest.mark.parametrize("how", ["not numbers", "truncated", "missing", "of another shape"])
def test_broken_weights_are_refused_by_name_and_the_others_are_still_served(
    sampler: deployment.ServeSampler, problems: list[Problem], tmp_path: Path, how: str
) -> None:
    broken = broken_checkpoint(tmp_path / "broken", how)
    (refused,) = list(sampler.sample(broken, GREEDY, requests(problems[:1], 1)))
    assert isinstance(refused, Failed)
    assert str(broken.path) in refused.message
    assert texts(sampler.sample(open_checkpoint(BASE), GREEDY, requests(problems[:1], 1)))


def test_a_prompt_that_does_not_fit_fails_alone(
    sampler: deployment.ServeSampler, problems: list[Problem]
) -> None:
    long = replace(problems[0], id="long", prompt=" ".join([problems[0].prompt] * 20))
    asked = requests([problems[1], long, problems[2]], 2)
    answers = list(sampler.sample(open_checkpoint(BASE), GREEDY, asked))
    lost = [one for one in answers if isinstance(one, Failed)]
    assert [one.request.problem.id for one in lost] == ["long"] and len(answers) == 3
    assert "failed once" in lost[0].message


@pytest.mark.parametrize("name", ["EngineCore", "ServeReplica"])
def test_sampling_goes_on_after_the_engine_or_its_replica_is_killed(
    sampler: deployment.ServeSampler, problems: list[Problem], name: str
) -> None:
    decoder = DecoderConfig(temperature=1.0)
    many = [Request(problems[i % 12], 64 * i, 64, 4096 * i) for i in range(300)]
    answers = sampler.sample(open_checkpoint(BASE), decoder, many)
    got = [next(answers)]
    os.kill(process_of(name).pid, signal.SIGKILL)
    got += list(answers)
    assert all(isinstance(one, Response) for one in got), [g for g in got if isinstance(g, Failed)]
    starts = sorted(one.request.first_index for one in got)
    assert starts == [64 * i for i in range(300)]


def process_of(name: str) -> psutil.Process:
    """The one of that name among the processes that descend from this test."""
    living = [one for one in psutil.Process().children(recursive=True) if name in command_of(one)]
    assert len(living) == 1, living
    return living[0]


def command_of(process: psutil.Process) -> str:
    """Empty for one that has ended: an engine of another test may not have been waited for."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
