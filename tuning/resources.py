"""The CPUs and GPUs that a command needs, and whether its engine shares a GPU with training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import refuse
from forkdiv.sample.engine_settings import REPLICA_CPUS

# A trial mostly waits for its workers and replicas. It reserves almost no CPU: trials that reserved
# all CPUs would wait for their own workers for ever.
TRIAL_CPUS = 0.01


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


def needs(place: PlaceConfig, work: Work) -> dict[str, float]:
    """Returns the CPUs and GPUs that a command reserves at most at the same time, with
    place.engine.while_training decided."""
    trials = place.max_concurrent_trials if work.trains else 0
    cpus = trials * (place.workers * place.cpus_per_worker + TRIAL_CPUS)
    gpus = float(trials * place.workers)
    if work.samples:
        cpus += place.engine.replicas * REPLICA_CPUS
        gpus += 0 if place.engine.takes_turns else _engine_gpus(place)
    return {"CPU": cpus, "GPU": gpus if place.device == "gpu" else 0.0}


def check_resources(place: PlaceConfig, work: Work, has: Mapping[str, float]) -> None:
    """Raises UserError if a command needs more CPUs or GPUs than there are; it would wait for them
    for ever."""
    for kind, needed in needs(place, work).items():
        if needed > has.get(kind, 0.0):
            raise refuse(
                f"the settings of place need more {kind}s than this machine has",
                f"{needed:g} {kind}s",
                f"at most {has.get(kind, 0.0):g}",
                "lower place.workers, place.cpus_per_worker or place.max_concurrent_trials"
                if work.trains
                else "lower place.engine.replicas or place.engine.tensor_parallel",
            )


def _engine_gpus(place: PlaceConfig) -> int:
    return place.engine.replicas * place.engine.tensor_parallel
