"""The episodes of an iteration: sampled responses with their rewards, stored before they are used.

A repeated iteration, after a kill, reads them again if the weights have the same bits, so that it
has the same rewards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from forkdiv.core.store import write_text

PARQUET = "episodes.parquet"
SCHEMA = pa.schema(
    [
        ("iteration", pa.int32()),
        ("group", pa.int32()),
        ("problem_id", pa.string()),
        ("subset", pa.string()),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
        ("text", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float64())),
        ("finish", pa.string()),
        ("outcome", pa.string()),
        ("detail", pa.string()),
        ("reward", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Episode:
    """A sampled response. `token_ids` include the end token, `logprobs` are the engine's; `reward`
    is None in a group that is left out, because the grader failed on one of its responses."""

    problem_id: str
    subset: str
    prompt: str
    prompt_ids: list[int]
    seed: int
    text: str
    token_ids: list[int]
    logprobs: list[float]
    finish: str
    outcome: str
    detail: str
    reward: float | None


@dataclass(frozen=True)
class Iteration:
    """The episodes of an iteration in whole groups of `group`; `weights` is the fingerprint of the
    checkpoint that they were sampled from."""

    number: int
    weights: str
    group: int
    episodes: list[Episode]

    def groups(self) -> Iterator[Sequence[Episode]]:
        """Yields the groups."""
        for first in range(0, len(self.episodes), self.group):
            yield self.episodes[first : first + self.group]

    @property
    def left_out(self) -> int:
        """The number of groups that are left out."""
        return sum(episodes[0].reward is None for episodes in self.groups())

    @property
    def rewards(self) -> list[float]:
        """The rewards of the episodes that are used."""
        return [one.reward for one in self.episodes if one.reward is not None]

    @property
    def without_signal(self) -> float:
        """The share of the groups in which all rewards are equal, among those that are used."""
        used = [episodes for episodes in self.groups() if episodes[0].reward is not None]
        return sum(len({one.reward for one in each}) == 1 for each in used) / len(used)

    @property
    def tokens(self) -> int:
        """The number of sampled tokens."""
        return sum(len(one.token_ids) for one in self.episodes)


def write(folder: Path, iteration: Iteration) -> None:
    """Stores an iteration atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(_path(folder, iteration.number), json.dumps(asdict(iteration)))


def read(folder: Path, number: int) -> Iteration | None:
    """Returns a stored iteration, or None."""
    path = _path(folder, number)
    if not path.exists():
        return None
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    episodes = [Episode(**each) for each in values.pop("episodes")]
    return Iteration(**values, episodes=episodes)


def gather(folder: Path, iterations: int, out: Path) -> None:
    """Writes all stored iterations to one Parquet file; memory holds one of them. Raises
    FileNotFoundError if one is missing."""
    with pq.ParquetWriter(out, SCHEMA, compression="zstd") as writer:
        for number in range(1, iterations + 1):
            iteration = read(folder, number)
            if iteration is None:
                raise FileNotFoundError(f"no episodes of iteration {number} in {folder}")
            rows = [
                {"iteration": number, "group": i // iteration.group, **asdict(episode)}
                for i, episode in enumerate(iteration.episodes)
            ]
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.json"
