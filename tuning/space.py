"""What varies in a study: points of the grid, the base model's own ones among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forkdiv.config import StudyConfig


@dataclass(frozen=True)
class Point:
    """One trial. `fork_density` None is the base model itself, before any fine-tuning."""

    fork_density: float | None
    temperature: float
    seed: int

    @property
    def name(self) -> str:
        if self.fork_density is None:
            return f"base T={_short(self.temperature)}"
        seed = f" seed={self.seed}" if self.seed else ""
        return f"density={_short(self.fork_density)} T={_short(self.temperature)}{seed}"


def _short(value: float) -> str:
    """As short as can be without giving two values one name."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def points(study: StudyConfig) -> list[Point]:
    """The base at every temperature first, then density by density: each trains once."""
    temperatures = study.sweep.temperature or (study.decoder.temperature,)
    densities = study.sweep.fork_density or (study.dataset.fork_density,)
    seeds = study.sweep.seed or (study.sft.seed,)
    base = [Point(None, t, seeds[0]) for t in temperatures]
    tuned = [Point(d, t, s) for s in seeds for d in densities for t in temperatures]
    return base + tuned


def at(study: StudyConfig, point: Point) -> StudyConfig:
    """The study with the point's values in the stages they belong to, and no axes left.

    A sweep's seed varies what fine-tuning may vary by chance: which training problems are
    drawn and in which order they come; without that axis both keep their own seeds. Held-out
    problems stay the same.
    """
    update: dict[str, Any] = {
        "decoder": study.decoder.model_copy(update={"temperature": point.temperature}),
        "sweep": type(study.sweep)(),
    }
    seed = {"seed": point.seed} if study.sweep.seed else {}
    if point.fork_density is not None:
        knobs = {"fork_density": point.fork_density, **seed}
        update["dataset"] = study.dataset.model_copy(update=knobs)
        update["sft"] = study.sft.model_copy(update=seed)
    return study.model_copy(update=update)
