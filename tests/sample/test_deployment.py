"""The sampler on real Ray Serve and real vLLM: swaps proved, answers from the right weights."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ray import serve as ray_serve

from forkdiv.core.config.study import DecoderConfig
from forkdiv.core.records import Problem
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.loading import load_tokenizer
from forkdiv.sample import deployment
from forkdiv.sample.sample_sets import FailedRequest, Request, Response
from forkdiv.tasks.registry import build
from tests import checkpoints
from tests.checkpoints import greedy_text
from tests.serving import STUDY, Ask, Engine
from tests.stack import BASE
from tuning.session import engine_spec

pytestmark = pytest.mark.stack

GREEDY = DecoderConfig(temperature=0.0)


@pytest.fixture(scope="module")
def sampler(engine: Engine) -> deployment.ServeSampler:
    return engine.sampler


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return build(STUDY.task).heldout("test", 12)


@pytest.fixture(scope="module")
def other(engine: Engine) -> Checkpoint:
    """The base with noise on every weight: the same shape, other answers."""
    return engine.served["run/epoch-0001"]


def texts(answers: Iterator[Response | FailedRequest]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for answer in answers:
        assert isinstance(answer, Response), answer
        found[answer.request.problem.id] = [text for _, text, _ in answer.samples]
    return found


def requests(problems: list[Problem], n: int) -> list[Request]:
    return [Request(problem, 0, n, 4096 * i) for i, problem in enumerate(problems)]


def test_a_swap_that_fails_its_proof_restarts_the_engine_and_samples_use_the_right_weights(
    problems: list[Problem], other: Checkpoint
) -> None:
    spec = engine_spec(STUDY, open_checkpoint(BASE))
    broken = replace(spec, worker_extension="tests.sample.broken_swap.StaleFourthSwap")
    name = deployment.deploy(broken)
    try:
        client = deployment.ServeSampler(name, broken.config.model_copy(update={"max_failures": 0}))
        for checkpoint in (open_checkpoint(BASE), other):
            found = texts(client.sample(checkpoint, GREEDY, requests(problems[:1], 1)))
            want = greedy_text(checkpoint, problems[0], GREEDY.max_new_tokens)
            assert found == {problems[0].id: [want]}
        swaps = deployment.wait_until_ready(name, 10).swaps.remote().result()
        assert [bool(swap["problems"]) for swap in swaps] == [False, True, False]
        assert [swap["restarted"] for swap in swaps] == [False, False, True]
    finally:
        ray_serve.delete(name)


def test_an_engine_that_does_not_compute_with_all_of_its_weights_samples_nothing(
    problems: list[Problem],
) -> None:
    spec = engine_spec(STUDY, open_checkpoint(BASE))
    broken = replace(spec, worker_extension="tests.sample.broken_swap.OutputLayerNotPacked")
    name = deployment.deploy(broken)
    try:
        client = deployment.ServeSampler(name, broken.config.model_copy(update={"max_failures": 0}))
        (answer,) = client.sample(open_checkpoint(BASE), GREEDY, requests(problems[:1], 1))
        assert isinstance(answer, FailedRequest)
        assert "does not compute" in answer.message and "slope" in answer.message
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


def test_samples_continue_the_prefix_of_a_response(
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


def test_each_checkpoint_is_asked_with_its_own_tokenizer_and_ends_with_its_own_end_token(
    engine: Engine, sampler: deployment.ServeSampler, problems: list[Problem]
) -> None:
    base, other = engine.served["base"], engine.served["renumbered"]
    first, second = (
        texts(sampler.sample(checkpoint, GREEDY, requests(problems, 2)))
        for checkpoint in (base, other)
    )
    assert first == second
    decoder = DecoderConfig(tree_samples=4)
    (tree,) = engine.samples(Ask(other, problems[0].prompt, 8, 0, decoder))
    assert {one.finish for one in tree} == {"stop"}
    assert not any("<" in one.text for one in tree)


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
    assert isinstance(refused, FailedRequest)
    assert "a different architecture" in refused.message
    assert texts(sampler.sample(open_checkpoint(BASE), GREEDY, requests(problems[:1], 1)))


@pytest.mark.parametrize("how", ["not numbers", "truncated", "missing", "of another shape"])
def test_broken_weights_are_refused_by_name_and_the_others_are_still_served(
    sampler: deployment.ServeSampler, problems: list[Problem], tmp_path: Path, how: str
) -> None:
    broken = checkpoints.broken(tmp_path / "broken", how)
    (refused,) = list(sampler.sample(broken, GREEDY, requests(problems[:1], 1)))
    assert isinstance(refused, FailedRequest)
    assert str(broken.path) in refused.message
    assert texts(sampler.sample(open_checkpoint(BASE), GREEDY, requests(problems[:1], 1)))


def test_a_prompt_that_does_not_fit_fails_alone(
    sampler: deployment.ServeSampler, problems: list[Problem]
) -> None:
    long = replace(problems[0], id="long", prompt=" ".join([problems[0].prompt] * 20))
    asked = requests([problems[1], long, problems[2]], 2)
    answers = list(sampler.sample(open_checkpoint(BASE), GREEDY, asked))
    lost = [one for one in answers if isinstance(one, FailedRequest)]
    assert [one.request.problem.id for one in lost] == ["long"] and len(answers) == 3
    assert "after 1 attempt" in lost[0].message


@pytest.mark.parametrize("name", ["engine", "replica"])
def test_sampling_continues_after_the_engine_or_its_replica_is_killed(
    engine: Engine, problems: list[Problem], name: str
) -> None:
    decoder = DecoderConfig(temperature=1.0)
    process = engine.core() if name == "engine" else engine.replica()
    many = [Request(problems[i % 12], 64 * i, 64, 4096 * i) for i in range(300)]
    answers = engine.sampler.sample(open_checkpoint(BASE), decoder, many)
    got = [next(answers)]
    os.kill(process.pid, signal.SIGKILL)
    got += list(answers)
    assert all(isinstance(one, Response) for one in got), [
        g for g in got if isinstance(g, FailedRequest)
    ]
    starts = sorted(one.request.first_index for one in got)
    assert starts == [64 * i for i in range(300)]
