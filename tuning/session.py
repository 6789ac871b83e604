"""A Ray to run on, and the sampler on it: joined where one is named, else started for the study."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import ray
from ray import serve as ray_serve
from tokenizers import Tokenizer

from forkdiv.core.config.study import PlaceConfig, StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import Checkpoint, read_config
from forkdiv.sample import deployment
from forkdiv.sample.engine_settings import EngineSpec
from forkdiv.tasks.registry import build
from forkdiv.train.pretrain import obtain_base
from tuning.preflight import ray_address

PROOF_PROMPTS, PROOF_TOKENS, SERVED_TOKENS = 4, 256, 16
# A trial waits for workers and replicas and hardly computes: next to no CPU of its own, or
# trials that hold every CPU would wait for ever for their own workers.
TRIAL_CPUS = 0.01
CHECKPOINT = "checkpoint"


@contextmanager
def running(place: PlaceConfig) -> Iterator[None]:
    """A connected Ray for the block. One that was started here takes a token and ends."""
    address = ray_address(place)
    if address:
        ray.init(address=address, log_to_driver=False, ignore_reinit_error=False)
    else:
        _require_token()
        _speed_up_ray_train(place)
        _load_own_packages_first()
        ray.init(
            address="local",  # the default joins whatever `ray start` last left on this machine
            num_cpus=place.num_cpus,
            include_dashboard=place.dashboard,
            dashboard_host="127.0.0.1",
            dashboard_port=place.dashboard_port,
            log_to_driver=False,
            logging_level="ERROR",
        )
    try:
        if not address:  # a cluster may grow; this machine does not
            _check_resources(place)
        yield
    finally:
        ray.shutdown()


def _speed_up_ray_train(place: PlaceConfig) -> None:
    """Ray Train's waits and helpers are made for clusters; read by its processes, which take the
    environment of this one. What the user has set stays."""
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1" if place.dashboard else "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # not 2: it polls for an end
    # a process that waits for this one machine to be taken away
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


def _load_own_packages_first() -> None:
    """Ray puts the current folder before all others on its workers' search path. A folder
    `tuning` or `jobs` of the user's own there would be imported in place of ours, so workers load
    ours as they start, before Ray adds that folder."""
    os.environ.setdefault("RAY_preload_python_modules", "forkdiv,jobs,tuning")


def _check_resources(place: PlaceConfig) -> None:
    """Refuse what would wait for ever for CPUs or GPUs that this machine does not have."""
    trials = place.max_concurrent_trials
    gpu = place.device == "gpu"
    needs = {
        "CPU": trials * (place.workers * place.cpus_per_worker + TRIAL_CPUS)
        + place.engine.replicas * deployment.REPLICA_CPUS,
        "GPU": gpu
        * (trials * place.workers + place.engine.replicas * place.engine.tensor_parallel),
    }
    has = ray.cluster_resources()
    for kind, needed in needs.items():
        if needed > has.get(kind, 0.0):
            raise refuse(
                f"this machine has too few {kind}s for the settings of place",
                f"{needed:g} needed",
                f"at most {has.get(kind, 0.0):g}",
                "lower place.workers, place.cpus_per_worker or place.max_concurrent_trials",
            )


def dashboard(place: PlaceConfig) -> str | None:
    """Where to watch a Ray that was started here, and the token it asks for."""
    if ray_address(place) or not place.dashboard:
        return None
    token = os.environ.get("RAY_AUTH_TOKEN")
    login = f" (token: {token})" if token else ""
    return f"Ray dashboard: http://127.0.0.1:{place.dashboard_port}{login}"


def _require_token() -> None:
    """Ray listens on every interface, and whoever reaches it may run code: no token, no entry.

    RAY_AUTH_MODE itself is left to Ray, which turns tokens on for a cluster that it starts, and
    reads the variable too early for it to be set here. Without a token in the environment it
    would write one into the home directory.
    """
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def prepare_base(
    study: StudyConfig, base: Checkpoint, progress: Progress
) -> tuple[StudyConfig, Checkpoint]:
    """The study with its base where every node can read it: built, or copied into the store.

    On a cluster the driver's folder is not the workers'. The fingerprint of a copy is that of
    its content and stays the same.
    """
    if study.base is None:
        store = Store.of(study.place)
        base = obtain_base(store, build(study.task), study.pretrain, study.place, progress)
    else:
        base = share(study.place, base)
    return study.model_copy(update={"base": base.path}), base


def share(place: PlaceConfig, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint where every node can read it; see `prepare_base`."""
    if not ray_address(place):
        return checkpoint
    what = Identity("base", {}, {"content": checkpoint.fingerprint})
    held = Store.of(place).obtain(what, lambda folder: _copy(checkpoint.path, folder))
    return Checkpoint(held.path / CHECKPOINT, checkpoint.fingerprint)


def _copy(path: Path, folder: Path) -> None:
    shutil.copytree(path, folder / CHECKPOINT)


@contextmanager
def sampler(study: StudyConfig, base: Checkpoint) -> Iterator[str]:
    """The sampler's application for the block, starting in the background; yields its name."""
    name = deployment.deploy(engine_spec(study, base))
    try:
        yield name
    finally:
        ray_serve.delete(name)


def engine_spec(study: StudyConfig, base: Checkpoint) -> EngineSpec:
    """One engine for the base and all that is trained from it; proved on validation prompts."""
    task = build(study.task)
    split = "validation" if task.available("validation") >= PROOF_PROMPTS else study.eval.split
    prompts = [problem.prompt for problem in task.heldout(split)[:PROOF_PROMPTS]]
    return EngineSpec(
        shape_of=base.path,
        dtype=study.decoder.dtype,
        device=study.place.device,
        config=study.place.engine,
        proof_prompts=tuple(tuple(ids) for ids in _token_ids(base.path, prompts)),
        prompt=study.prompt,
    )


def serving_spec(study: StudyConfig, first: Checkpoint) -> EngineSpec:
    """One engine for checkpoints of `first`'s shape that no task is known of: proved on token
    ids drawn from its vocabulary, which tell weights apart as well as prompts do."""
    random = Random("proof")
    words = int(read_config(first.path)["vocab_size"])
    prompts = (
        tuple(random.randrange(words) for _ in range(SERVED_TOKENS)) for _ in range(PROOF_PROMPTS)
    )
    return EngineSpec(
        shape_of=first.path,
        dtype=study.decoder.dtype,
        device=study.place.device,
        config=study.place.engine,
        proof_prompts=tuple(prompts),
        prompt=study.prompt,
    )


def _token_ids(path: Path, prompts: list[str]) -> list[list[int]]:
    # the tokenizers library alone: transformers would take two seconds to import
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    return [tokenizer.encode(prompt).ids[:PROOF_TOKENS] for prompt in prompts]
