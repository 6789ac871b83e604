"""What happens to a run, as events that are written to a file and sent to MLflow later.

All events of a file belong to one run; the first is a RunStart. Sending an event twice changes
nothing: runs and models are found by a tag, and equal metrics, parameters, tags and inputs are
kept once.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter

from forkdiv.core.config.base import Frozen

Status = Literal["FINISHED", "FAILED", "KILLED"]
# a place in a text that the sender replaces by the ids that MLflow gave
RUN, EXPERIMENT = "{run}", "{experiment}"


class Value(NamedTuple):
    """One value of a metric; `ms` is in milliseconds since the epoch."""

    name: str
    value: float
    ms: int
    step: int = 0


class _Event(Frozen):
    id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    time: float = Field(default_factory=time.time)


class RunStart(_Event):
    """The run exists from now on, or its trial is repeated. `key` identifies it among all runs of
    the experiment, `parent` is the key of its study's run; `started_ms` is in milliseconds since
    the epoch. RUN and EXPERIMENT in tags stand for the ids that MLflow gives."""

    kind: Literal["start"] = "start"
    key: str
    parent: str | None = None
    experiment: str
    name: str
    started_ms: int
    params: dict[str, str] = Field({})
    tags: dict[str, str] = Field({})


class Metrics(_Event):
    kind: Literal["metrics"] = "metrics"
    values: tuple[Value, ...]


class Tags(_Event):
    """Tags of the run, with places as in RunStart; `experiment` are tags of the experiment."""

    kind: Literal["tags"] = "tags"
    tags: dict[str, str] = Field({})
    experiment: dict[str, str] = Field({})


class Dataset(_Event):
    """A dataset that the run reads. `profile` are its counts, `context` is training or
    evaluation."""

    kind: Literal["dataset"] = "dataset"
    name: str
    digest: str
    source: str
    context: str
    profile: dict[str, Any] = Field({})


class Model(_Event):
    """A checkpoint that the run has trained or sampled, and its metrics in this run. `key`
    identifies it among all models of the experiment."""

    kind: Literal["model"] = "model"
    key: str
    name: str
    step: int = 0
    params: dict[str, str] = Field({})
    tags: dict[str, str] = Field({})
    values: tuple[Value, ...] = ()
    dataset: tuple[str, str] | None = None  # name and digest of the dataset of its metrics


class File(_Event):
    """A file of the run; `path` is relative to the folder of the events, so that it can move."""

    kind: Literal["file"] = "file"
    path: str
    folder: str | None = None


class RunEnd(_Event):
    kind: Literal["end"] = "end"
    status: Status
    ended_ms: int


Event = Annotated[
    RunStart | Metrics | Tags | Dataset | Model | File | RunEnd, Field(discriminator="kind")
]
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def to_line(event: Event) -> bytes:
    """Returns the event as a line of JSON, in which numbers may be NaN or infinite."""
    return json.dumps(event.model_dump(), separators=(",", ":")).encode() + b"\n"


def of_line(line: bytes) -> Event:
    """Returns the event of a line. Raises ValueError if it is not complete."""
    return _EVENT.validate_python(json.loads(line))


def values_now(numbers: Mapping[str, float], step: int = 0) -> Iterable[Value]:
    """Yields the numbers as values of metrics at this moment."""
    now = milliseconds(time.time())
    for name, value in numbers.items():
        yield Value(name, float(value), now, step)


def milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
