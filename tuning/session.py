"""Ray and the sampler of a study: joins the Ray cluster that is set, or starts a local Ray."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import psutil
import ray
from ray import serve as ray_serve
from tokenizers import Tokenizer

from forkdiv.core.config.study import PlaceConfig, StudyConfig
from forkdiv.core.errors import refuse, shortened
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import Checkpoint, read_config
from forkdiv.models.shape import vocabulary_size
from forkdiv.sample import deployment
from forkdiv.sample.engine_settings import EngineSpec
from forkdiv.sample.trainings import start_trainings
from forkdiv.tasks.registry import build
from forkdiv.train.pretrain import obtain_base
from tuning.check_ray import ray_address
from tuning.resources import ALL, Work, check_resources, placed

PROOF_PROMPTS, PROOF_TOKENS, SERVED_TOKENS = 4, 256, 16
CHECKPOINT = "checkpoint"


@contextmanager
def running(
    place: PlaceConfig, work: Work = ALL, show: Callable[[str], None] = lambda line: None
) -> Iterator[PlaceConfig]:
    """Connects to Ray for the block; yields the place with place.engine.while_training decided and
    the cluster's address, and shows a line if training and sampling take turns. A local Ray
    requires a token and ends with the block.

    Raises UserError if the cluster cannot run the command; if its autoscaler can add hosts, it
    waits for them."""
    address = ray_address(place)
    if address:
        _join(address)
    else:
        _require_token()
        _speed_up_ray_train(place)
        _preload_forkdiv()
        _start(place, show)
    try:
        decided, line = placed(place, work, _most_gpus(place))
        if line:
            show(line)
        if address:
            _check_cluster(decided, work, show)
            # set for the processes on other hosts, where RAY_ADDRESS is not
            decided = decided.model_copy(update={"ray_address": address})
        else:
            check_resources(decided, work, [ray.cluster_resources()])
        yield decided
    finally:
        ray.shutdown()


def _start(place: PlaceConfig, show: Callable[[str], None]) -> None:
    """Starts a local Ray. On a loaded machine its processes may not answer in the time that Ray
    gives them; then it is started again, until place.ray_start_timeout_s.

    Raises UserError if it did not start.
    """
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", str(round(place.ray_start_timeout_s)))
    ends = time.monotonic() + place.ray_start_timeout_s
    others = {process.pid for process in psutil.Process().children()}
    while True:
        try:
            ray.init(
                address="local",  # the default would join a Ray that `ray start` left here
                num_cpus=place.num_cpus,
                include_dashboard=place.dashboard,
                dashboard_host="127.0.0.1",
                dashboard_port=place.dashboard_port,
                log_to_driver=False,
                logging_level="ERROR",
            )
            return
        except Exception as error:  # Ray raises plain Exceptions here, too
            ray.shutdown()
            _end_children(others)
            text = shortened(" ".join(str(error).split()), 300)
            reason = f"{type(error).__name__}: {text}"
            if time.monotonic() < ends and not isinstance(error, ValueError):
                show(f"Ray did not start and is started again ({reason})")
                continue
            load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
            raise refuse(
                "Ray did not start on this machine",
                f"{reason}; load average {load} on {os.cpu_count()} CPUs",
                "a machine whose CPUs and memory are not all in use",
                "run the command again when the machine is less loaded, raise "
                f"place.ray_start_timeout_s={place.ray_start_timeout_s:g}, or join a Ray that runs "
                "(place.ray_address)",
            ) from error


def _end_children(others: Collection[int]) -> None:
    """Ends the children of this process but `others`: those of a Ray that did not start, which Ray
    would leave until this process ends, where they slow down the next start."""
    for process in psutil.Process().children():
        if process.pid not in others:
            with suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait(10)


@contextmanager
def joined(place: PlaceConfig) -> Iterator[None]:
    """Connects to the cluster of `place` for the block, without any check of its hosts."""
    address = ray_address(place)
    assert address
    _join(address)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            ignore_reinit_error=False,
        )
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        raise refuse(
            "the Ray cluster cannot be joined",
            f"{address} ({type(error).__name__}: {shortened(' '.join(str(error).split()), 300)})",
            "a running cluster with the same versions of Ray and Python, and its token "
            "(RAY_AUTH_TOKEN)",
            "correct place.ray_address (or RAY_ADDRESS), the versions or the token",
        ) from error


def _check_cluster(place: PlaceConfig, work: Work, show: Callable[[str], None]) -> None:
    # for clusters only
    from tuning.capacity import wait_for_room
    from tuning.hosts import check_hosts

    wait_for_room(place, work, show)
    check_hosts(place)


def _speed_up_ray_train(place: PlaceConfig) -> None:
    """Shortens waits of Ray Train that are meant for clusters. Its processes inherit the variables
    from this process; variables that the user set are not changed."""
    tracked = place.dashboard and not _another_ray().exists()
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1" if tracked else "0")
    # 0.5 instead of 2 s: Ray Train detects the end of training by this poll
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    # a process that watches for preempted nodes; there is only this machine
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


def _another_ray() -> Path:
    """Returns the file in which `ray start` notes its address, and which a killed Ray leaves.

    Ray Train's state tracking asks the Ray of that address, not the one it runs in: each run would
    wait 40 s for a Ray that is gone, or take its state from another one.
    """
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray/ray_current_cluster"


def _preload_forkdiv() -> None:
    """Makes workers import forkdiv's packages when they start. Ray then puts the current folder
    first on their search path, and a folder `tuning` or `jobs` of the user there would be imported
    instead of forkdiv's."""
    os.environ.setdefault("RAY_preload_python_modules", "forkdiv,jobs,tuning")


def _most_gpus(place: PlaceConfig) -> float:
    """Returns the number of GPUs that there can be, as far as Ray knows: a cluster's autoscaler may
    have told it what it can add."""
    has = float(ray.cluster_resources().get("GPU", 0.0))
    if not ray_address(place):
        return has
    most = ray._private.state.state.get_max_resources_from_cluster_config()
    return has if most is None else max(has, float(most.get("GPU", 0.0)))


def dashboard(place: PlaceConfig) -> str | None:
    """Returns a line with the address of the local dashboard; None if there is none. It has the
    token only on a terminal: other outputs are kept, and passed on."""
    if ray_address(place) or not place.dashboard:
        return None
    token = os.environ.get("RAY_AUTH_TOKEN")
    login = ""
    if token:
        shown = token if sys.stdout.isatty() else "that of RAY_AUTH_TOKEN, if you set it"
        login = f" (token: {shown})"
    return f"Ray dashboard: http://127.0.0.1:{place.dashboard_port}{login}"


def _require_token() -> None:
    """Sets a token for Ray, which listens on every interface and runs the code of anyone who can
    connect.

    RAY_AUTH_MODE is not set: Ray requires tokens by default for a local cluster, and reads the
    variable too early to set it here. Without a token in the environment, Ray would write one to
    the home directory.
    """
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def prepare_base(
    study: StudyConfig, base: Checkpoint, progress: Progress
) -> tuple[StudyConfig, Checkpoint]:
    """Returns the study and its base, which is pretrained if the study has none and copied to the
    store on a cluster, where the driver's folders may not exist on other nodes.

    A copy keeps its fingerprint, which depends only on the content.
    """
    if study.base is None:
        store = Store.of(study.place)
        base = obtain_base(store, build(study.task), study.pretrain, study.place, progress)
    else:
        base = share(study.place, base)
    return study.model_copy(update={"base": base.path}), base


def share(place: PlaceConfig, checkpoint: Checkpoint) -> Checkpoint:
    """Returns the checkpoint in a folder that every node can read; see `prepare_base`."""
    if not ray_address(place):
        return checkpoint
    copy_identity = Identity("base", {}, {"content": checkpoint.fingerprint})
    store = Store.of(place)
    copy = store.obtain(copy_identity, lambda folder: _copy(store.whole(checkpoint.path), folder))
    return Checkpoint(copy.path / CHECKPOINT, checkpoint.fingerprint)


def _copy(path: Path, folder: Path) -> None:
    shutil.copytree(path, folder / CHECKPOINT)


@contextmanager
def sampler(study: StudyConfig, base: Checkpoint) -> Iterator[str]:
    """Starts the sampler's Serve application in the background for the block; yields its name."""
    spec = engine_spec(study, base)
    takes_turns = study.place.engine.takes_turns
    trainings = start_trainings(deployment.app_name(spec)) if takes_turns else None
    name = deployment.deploy(spec, trainings)
    try:
        yield name
    finally:
        ray_serve.delete(name)


def engine_spec(study: StudyConfig, base: Checkpoint) -> EngineSpec:
    """Returns the settings of the engine for the base and the checkpoints tuned from it. Swaps are
    proved on prompts of the validation split, if it has enough."""
    task = build(study.task)
    split = "validation" if task.available("validation") >= PROOF_PROMPTS else study.eval.split
    prompts = [problem.prompt for problem in task.heldout(split)[:PROOF_PROMPTS]]
    return EngineSpec(
        shape_of=base.path,
        dtype=study.decoder.dtype,
        device=study.place.device,
        config=study.place.engine,
        proof_prompts=tuple(tuple(ids) for ids in _token_ids(base.path, prompts)),
        prompt=study.prompt.without_shots,
        store=Store.remote_of(study.place),
    )


def serving_spec(study: StudyConfig, first: Checkpoint) -> EngineSpec:
    """Returns the settings of the engine for checkpoints like `first`, without a task. Swaps are
    proved on random token ids, which distinguish weights as well as prompts do."""
    random = Random("proof")
    words = vocabulary_size(read_config(first.path)) or 1
    prompts = (
        tuple(random.randrange(words) for _ in range(SERVED_TOKENS)) for _ in range(PROOF_PROMPTS)
    )
    return EngineSpec(
        shape_of=first.path,
        dtype=study.decoder.dtype,
        device=study.place.device,
        config=study.place.engine,
        proof_prompts=tuple(prompts),
        prompt=study.prompt.without_shots,
        store=Store.remote_of(study.place),
    )


def _token_ids(path: Path, prompts: list[str]) -> list[list[int]]:
    # with tokenizers only, because importing transformers takes two seconds
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    return [tokenizer.encode(prompt).ids[:PROOF_TOKENS] for prompt in prompts]
