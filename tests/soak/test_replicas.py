"""Several replicas, tied and untied embeddings, mixed requests: never from the wrong weights."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from ray import serve as ray_serve

from forkdiv.core.config.study import EngineConfig, PlaceConfig, StudyConfig
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.models.loading import load_tokenizer
from forkdiv.sample import deployment
from forkdiv.tasks.registry import build
from tests import small_llama
from tests.checkpoints import greedy_text
from tests.sample.test_deployment import GREEDY, requests, texts
from tests.stack import BASE
from tuning.session import engine_spec, running

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("no_ray"),
]

ROUNDS = 3


def random_checkpoint(folder: Path, seed: int, tied: bool) -> Checkpoint:
    spread = 0.5  # of the weights, so that greedy answers of two seeds differ
    tokenizer = load_tokenizer(BASE)
    small_llama.write(folder, tokenizer, seed, tie_word_embeddings=tied, initializer_range=spread)
    return open_checkpoint(folder)


@pytest.mark.parametrize("tied", [True, False])
def test_two_replicas_answer_mixed_requests_from_the_right_weights(
    tmp_path: Path, tied: bool
) -> None:
    checkpoints = [random_checkpoint(tmp_path / str(seed), seed, tied) for seed in range(3)]
    study = StudyConfig(base=checkpoints[0].path)
    problems = build(study.task).heldout("test", 12)
    want = {
        one.fingerprint: {
            problem.id: [greedy_text(one, problem, GREEDY.max_new_tokens)] for problem in problems
        }
        for one in checkpoints
    }
    assert len({str(answers) for answers in want.values()}) == 3
    place = PlaceConfig(dashboard=False, num_cpus=2, engine=EngineConfig(replicas=2))
    wrong: list[str] = []

    def ask(checkpoint: Checkpoint) -> None:
        for _ in range(ROUNDS):
            found = texts(client.sample(checkpoint, GREEDY, requests(problems, 1)))
            if found != want[checkpoint.fingerprint]:
                wrong.append(checkpoint.fingerprint)

    with running(place):
        spec = engine_spec(study.model_copy(update={"place": place}), checkpoints[0])
        name = deployment.deploy(spec)
        client = deployment.ServeSampler(name, spec.config)
        threads = [threading.Thread(target=ask, args=(one,)) for one in checkpoints]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ray_serve.delete(name)
    assert wrong == []
