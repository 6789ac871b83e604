"""Sends the events of a study to MLflow, and remembers how far it got.

Marks are kept per tracking store beside the events: a file's position after its last sent event. A
lost mark only sends an event twice, which changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from forkdiv.tracking.events import Dataset, Event, File, Metrics, Model, RunStart, Tags
from forkdiv.tracking.outbox import SUFFIX, read
from forkdiv.tracking.server import Refused, RunGone, Server, Unreachable

STUDY = f"study{SUFFIX}"  # the events of the study's run, which is sent before its trials
MAX_TRIES = 4  # of an event that fails although the server answers


@dataclass
class _Mark:
    """How far a file is sent. `in_doubt` says that its next event may have been sent already."""

    position: int = 0
    run: str | None = None
    experiment: str | None = None
    in_doubt: bool = True


@dataclass
class Sender:
    """Sends the events in `folder`, which has one file per run.

    `refused` are the events that MLflow does not take, with its reason.
    """

    folder: Path
    server: Server
    refused: list[str] = field(default_factory=list)
    sent: int = 0
    _experiment: str | None = None
    _is_verified: bool = False
    _marks: dict[str, _Mark] | None = None
    _runs: dict[str, str] | None = None  # ids by key
    _failures: dict[str, int] = field(default_factory=dict)

    def send(self, verify: bool = False) -> int:
        """Sends all events that are complete, and returns their number; 0 as well if another
        process is sending. With `verify`, it also asks MLflow for the study's run if there is
        nothing to send. Raises Unreachable; what was sent until then stays sent."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(self.folder / "send.lock").acquire(timeout=0)
        except Timeout:
            self._marks = None  # another process moves them on
            return 0
        with lock:
            before = self.sent
            if self._marks is None:
                self._marks, self._runs, self._is_verified = self._read_marks(), None, False
            for file in self._files():
                mark = self._marks.setdefault(file.name, _Mark())
                if verify or file.stat().st_size > mark.position:
                    self._verify()
                    self._send_file(file, self._marks.setdefault(file.name, _Mark()))
            return self.sent - before

    def waiting(self) -> int:
        """Returns the number of events that are not sent."""
        marks = self._read_marks()
        return sum(
            event is not None
            for file in self._files()
            for event, _ in read(file, marks.get(file.name, _Mark()).position)
        )

    def study_run(self) -> tuple[str, str] | None:
        """Returns the ids of the experiment and of the study's run; None before they are sent.
        Needs no answer of MLflow."""
        mark = self._read_marks().get(STUDY, _Mark())
        return (mark.experiment, mark.run) if mark.experiment and mark.run else None

    def experiment(self) -> str:
        """Returns the id of the study's experiment. Raises Unreachable."""
        if self._experiment is None:
            first = next((event for event, _ in read(self.folder / STUDY, 0) if event), None)
            if not isinstance(first, RunStart):
                raise Unreachable(f"{self.folder / STUDY} does not start with the study's run")
            self._experiment = self.server.experiment(first.experiment)
        return self._experiment

    def _files(self) -> list[Path]:
        files = sorted(self.folder.glob(f"*{SUFFIX}"))
        return sorted(files, key=lambda file: file.name != STUDY)

    def _send_file(self, file: Path, mark: _Mark) -> None:
        for event, position in read(file, mark.position):
            if event is not None:
                self._send_or_refuse(event, mark)
            mark.position, mark.in_doubt = position, False
            self._write_mark(file.name, mark)

    def _send_or_refuse(self, event: Event, mark: _Mark) -> None:
        """Sends an event, or notes why MLflow does not take it. Raises Unreachable."""
        try:
            self._send_event(event, mark)
        except RunGone as error:
            if mark.run is not None and self.server.state(mark.run) is None:
                self._marks = None
                raise Unreachable(f"{error}; the store is a new one: all is sent again") from error
            self.refused.append(f"{event.kind}: {error}")
        except Refused as error:
            self.refused.append(f"{event.kind}: {error}")
        except Unreachable as error:
            mark.in_doubt = True
            self._runs = None
            if not self._fails_alone(event):
                raise
            self.refused.append(f"{event.kind}: {error}")
        else:
            self.sent += 1

    def _fails_alone(self, event: Event) -> bool:
        """Returns whether this event fails again and again although the store answers."""
        tries = self._failures[event.id] = self._failures.get(event.id, 0) + 1
        run = self._marks[STUDY].run if self._marks and STUDY in self._marks else None
        return tries >= MAX_TRIES and run is not None and self.server.state(run) is not None

    def _send_event(self, event: Event, mark: _Mark) -> None:
        if isinstance(event, RunStart):
            mark.run, mark.experiment = self._started(event), self._experiment
            return
        if mark.run is None:
            raise Refused("its run does not exist")
        run, server = mark.run, self.server
        if isinstance(event, Metrics):
            server.metrics(run, event.values, mark.in_doubt)
        elif isinstance(event, Tags):
            server.tag(self.experiment(), run, event.tags, event.experiment)
        elif isinstance(event, Dataset):
            server.dataset(run, event)
        elif isinstance(event, Model):
            server.model(self.experiment(), run, event)
        elif isinstance(event, File):
            server.file(run, event, self.folder / event.path)
        else:
            server.end(run, event)

    def _started(self, event: RunStart) -> str:
        """Returns the id of the event's run, which is created if it does not exist."""
        study, experiment = self.folder.name, self.experiment()
        if self._runs is None:
            self._runs = self.server.runs(experiment, study)
        run = self._runs.get(event.key)
        if run is None:
            parent = self._runs.get(event.parent) if event.parent else None
            run = self.server.create(experiment, study, event, parent)
            self._runs[event.key] = run
        else:
            self.server.go_on(run)
        self.server.describe(experiment, run, event)
        return run

    # marks

    @property
    def _mark_file(self) -> Path:
        digest = hashlib.sha256(self.server.address.shown.encode()).hexdigest()[:8]
        return self.folder / f"sent-{digest}"

    def _read_marks(self) -> dict[str, _Mark]:
        marks: dict[str, _Mark] = {}
        if self._mark_file.is_file():
            for line in self._mark_file.read_text().splitlines():
                try:
                    row = json.loads(line)
                    marks[row["file"]] = _Mark(int(row["position"]), row["run"], row["experiment"])
                except (ValueError, KeyError, TypeError):
                    continue  # half a line of a sender that was killed
        return marks

    def _write_mark(self, file: str, mark: _Mark) -> None:
        ids = {"run": mark.run, "experiment": mark.experiment}
        line = json.dumps({"file": file, "position": mark.position, **ids})
        with self._mark_file.open("a") as marks:
            marks.write(f"\n{line}\n")

    def _verify(self) -> None:
        """Forgets the marks if the study's run does not exist: the store at this address is a new
        one, and everything is sent again."""
        assert self._marks is not None
        if self._is_verified:
            return
        self._is_verified = True
        mark = self._marks.get(STUDY)
        if mark and mark.run and self.server.state(mark.run) is None:
            self._marks.clear()
            self._mark_file.unlink()
