"""The CPUs and GPUs that a command needs, and whether its engine shares a GPU with training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forkdiv.core.config.place import ENGINE_SHARE, WORKER_SHARE
from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import refuse
from forkdiv.sample.engine_settings import REPLICA_CPUS

# A trial mostly waits for its workers and replicas. It reserves almost no CPU: trials that reserved
# all CPUs would wait for their own workers for ever.
TRIAL_CPUS = 0.01
ROUNDING = 1e-6  # Ray counts in ten-thousandths


@dataclass(frozen=True)
class Work:
    """What a command does: it trains models, draws samples, or both."""

    trains: bool = True
    samples: bool = True


ALL = Work()


def placed(place: PlaceConfig, work: Work, gpus: float) -> tuple[PlaceConfig, str | None]:
    """Returns the place with place.engine.while_training decided, and a line about it if training
    and sampling take turns. `gpus` is the number of GPUs that there can be."""
    engine = place.engine
    choice = engine.while_training
    if not (work.trains and work.samples):
        choice = "beside"
    elif choice == "auto":
        training = place.max_concurrent_trials * place.workers
        short = training <= gpus < training + _engine_gpus(place)
        sleeps = place.device == "gpu" and short and engine.can_take_turns
        choice = "sleep" if sleeps else "beside"
    decided = place.model_copy(
        update={"engine": engine.model_copy(update={"while_training": choice})}
    )
    return decided, _line(decided, gpus) if decided.engine.takes_turns else None


def _line(place: PlaceConfig, gpus: float) -> str:
    where = "memory" if place.device == "cpu" else "a GPU"
    there = f" ({gpus:g} here)" if place.device == "gpu" else ""
    how = {"sleep": "sleeps", "stop": "is stopped"}[place.engine.while_training]
    return (
        f"training and sampling share {where} in turns{there}: the engine {how} while a model is "
        "trained, and checkpoints are sampled after training "
        f"(place.engine.while_training={place.engine.while_training})"
    )


Bundle = Mapping[str, float]  # CPUs and GPUs that one process reserves, so on one host
KINDS = ("CPU", "GPU")


def bundles(place: PlaceConfig, work: Work) -> list[Bundle]:
    """Returns what each process of a command reserves, for all that run at the same time, with
    place.engine.while_training decided."""
    on_gpu = place.device == "gpu"
    shared = place.engine.takes_turns
    listed: list[Bundle] = []
    if work.samples:
        engine_gpus = ENGINE_SHARE if shared else place.engine.tensor_parallel
        engine = {"CPU": REPLICA_CPUS, "GPU": engine_gpus if on_gpu else 0.0}
        listed += [engine] * place.engine.replicas
    if work.trains:
        worker_gpus = WORKER_SHARE if shared else 1.0
        worker = {"CPU": place.cpus_per_worker, "GPU": worker_gpus if on_gpu else 0.0}
        listed += [worker] * (place.workers * place.max_concurrent_trials)
        listed += [{"CPU": TRIAL_CPUS, "GPU": 0.0}] * place.max_concurrent_trials
    return listed


def needs(place: PlaceConfig, work: Work) -> dict[str, float]:
    """Returns the CPUs and whole GPUs that a command reserves at most at the same time."""
    listed = bundles(place, work)
    cpus, gpus = (round(sum(bundle[kind] for bundle in listed), 4) for kind in KINDS)
    return {"CPU": cpus, "GPU": float(math.ceil(gpus))}


def unplaced(listed: Sequence[Bundle], hosts: Sequence[Bundle]) -> list[Bundle]:
    """Returns the bundles for which no host has room, the largest placed first; `hosts` has the
    CPUs and GPUs of each."""
    free = [{kind: host.get(kind, 0.0) for kind in KINDS} for host in hosts]
    left = []
    for bundle in sorted(listed, key=lambda one: (one["GPU"], one["CPU"]), reverse=True):
        for host in free:
            if all(bundle[kind] <= host[kind] + ROUNDING for kind in KINDS):
                for kind in KINDS:
                    host[kind] -= bundle[kind]
                break
        else:
            left.append(bundle)
    return left


def check_resources(
    place: PlaceConfig,
    work: Work,
    hosts: Sequence[Bundle],
    where: str = "this machine",
    note: str = "",
) -> None:
    """Raises UserError if `hosts`, the CPUs and GPUs of each, have no room for all that a command
    reserves; it would wait for them for ever. `note` is added to what there is."""
    remedy = (
        "lower place.workers, place.cpus_per_worker or place.max_concurrent_trials"
        if work.trains
        else "lower place.engine.replicas or place.engine.tensor_parallel"
    )
    for kind, needed in needs(place, work).items():
        has = sum(host.get(kind, 0.0) for host in hosts)
        if needed > has + ROUNDING:
            raise refuse(
                f"the settings of place need more {kind}s than {where} has",
                f"{needed:g} {kind}s",
                f"at most {has:g}{note}",
                remedy,
            )
    if left := unplaced(bundles(place, work), hosts):
        raise refuse(
            f"no host of {where} has room for a process of this command",
            f"{shown(left[0])} for one process",
            f"what is free on one of them: {'; '.join(shown(host) for host in hosts)}{note}",
            remedy,
        )


def shown(bundle: Bundle) -> str:
    """Returns `2 CPUs and 1 GPUs`."""
    counted = [f"{bundle[kind]:g} {kind}s" for kind in KINDS if bundle.get(kind)]
    return " and ".join(counted) or "0 CPUs"


def _engine_gpus(place: PlaceConfig) -> int:
    return place.engine.replicas * place.engine.tensor_parallel
