"""What is watched in each iteration: one row of the log, and one line of progress."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from forkdiv.core.config.rl import RlConfig
from forkdiv.core.progress import Progress, duration
from forkdiv.rl.episodes import Iteration
from forkdiv.rl.job import LOG
from forkdiv.rl.sampling import Seconds

SHOW_EVERY_S = 3.0


@dataclass
class Divergence:
    """The difference between the log-probabilities that the engine and the trainer give to the same
    tokens of one iteration, in nats: its absolute mean and maximum, and the KL divergence of the
    two, estimated as the mean of exp(d) − 1 − d with d = trainer − engine."""

    tokens: int = 0
    absolute: float = 0.0
    largest: float = 0.0
    kl: float = 0.0

    def add(self, absolute: float, largest: float, kl: float, tokens: int) -> None:
        """Adds the sums over the tokens of a forward pass."""
        self.absolute += absolute
        self.largest = max(self.largest, largest) if math.isfinite(largest) else largest
        self.kl += kl
        self.tokens += tokens

    @property
    def mean(self) -> float:
        """The mean absolute difference; NaN if a log-probability is not finite."""
        return self.absolute / max(self.tokens, 1)


@dataclass
class Clock:
    """The seconds of one iteration by what they were used for; `total` is from its start."""

    began: float = field(default_factory=time.perf_counter)
    save: float = 0.0
    optimizer: float = 0.0

    def row(self, seconds: Seconds) -> dict[str, float]:
        """Returns the seconds of the iteration's parts. `other` is the rest: TRL, the log, states
        and checkpoints."""
        total = time.perf_counter() - self.began
        parts = {
            "save": self.save,
            "swap": seconds.swap,
            "sample": seconds.sample,
            "grade": seconds.grade,
            "optimizer": self.optimizer,
        }
        parts |= {"other": total - sum(parts.values()), "total": total}
        return {f"seconds/{name}": round(value, 4) for name, value in parts.items()}


class Meter:
    """Writes the log of a run and shows its progress."""

    def __init__(self, path: Path, config: RlConfig, progress: Progress) -> None:
        self._path, self._config, self._progress = path, config, progress
        self._began, self._first = time.perf_counter(), 0
        self._show_after = 0.0

    def iteration(
        self,
        iteration: Iteration,
        trained: Mapping[str, float],
        divergence: Divergence,
        clock: Clock,
        seconds: Seconds,
    ) -> None:
        """Logs an iteration. `trained` has TRL's metrics of its optimizer step."""
        rewards = iteration.rewards
        drawing = seconds.swap + seconds.sample
        row = {
            "iteration": iteration.number,
            "reward": sum(rewards) / len(rewards),
            "kl": trained.get("kl", 0.0),
            "entropy": trained["entropy"],
            "length": iteration.tokens / len(iteration.episodes),
            "cut_off": sum(one.finish == "length" for one in iteration.episodes)
            / len(iteration.episodes),
            "divergence": divergence.mean,
            "divergence_max": divergence.largest,
            "divergence_kl": divergence.kl / max(divergence.tokens, 1),
            "no_signal": iteration.without_signal,
            "left_out": iteration.left_out,
            "loss": trained["loss"],
            "grad_norm": trained["grad_norm"],
            "learning_rate": trained["learning_rate"],
            "tokens_per_s": iteration.tokens / drawing if drawing else 0.0,
            "memory_gib": _memory_gib(),
            **clock.row(seconds),
        }
        with self._path.open("ab", buffering=0) as file:
            file.write(json.dumps({"time": round(time.time(), 3), **row}).encode() + b"\n")
        self._first = self._first or iteration.number
        now = time.perf_counter()
        if now >= self._show_after or iteration.number == self._config.iterations:
            self._show_after = now + SHOW_EVERY_S
            self._progress(_line(row, self._config) + self._time_left(iteration.number, now))

    def _time_left(self, number: int, now: float) -> str:
        left = self._config.iterations - number
        each = (now - self._began) / (number - self._first + 1)
        return f", {duration(each * left)} left" if left else ""


def read_log(folder: Path) -> list[dict[str, float]]:
    """Returns one row per iteration; for one that was repeated, the last row."""
    rows: dict[int, dict[str, float]] = {}
    for line in (folder / LOG).read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):  # a kill can leave an incomplete line
            row = json.loads(line)
            rows[int(row["iteration"])] = row
    return [rows[number] for number in sorted(rows)]


def _line(row: Mapping[str, float], config: RlConfig) -> str:
    left_out = f", {row['left_out']} groups left out" if row["left_out"] else ""
    rate = f", {row['tokens_per_s']:,.0f} tokens per second" if row["tokens_per_s"] else ""
    return (
        f"rl: iteration {row['iteration']}/{config.iterations}, reward {row['reward']:.3f}, "
        f"KL {row['kl']:.2g}, entropy {row['entropy']:.2g}, length {row['length']:.1f}, "
        f"divergence {row['divergence']:.2g}, groups without signal {row['no_signal']:.0%}"
        f"{left_out}{rate}"
    )


def _memory_gib() -> float:
    """Returns the resident memory of this process, not its peak: it must stay flat."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30
