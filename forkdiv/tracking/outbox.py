"""Files of events that wait to be sent to MLflow: one per run, which only grows.

An event counts once its line is complete and on disk. The process that writes a run's events may be
killed at any time; the process that continues the trial continues the file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from forkdiv.tracking.events import Event, RunEnd, of_line, to_line

FOLDER, SUFFIX = "tracking", ".jsonl"


@dataclass(frozen=True)
class Outbox:
    """The file of one run. Only one process may write to it; its threads may share it."""

    path: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def add(self, *events: Event) -> None:
        """Appends events and waits until they are on disk. Raises OSError."""
        lines = b"".join(map(to_line, events))
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                # a writer that was killed may have left half a line, which then ends here
                start = b"" if _ends_with_a_line(self.path) else b"\n"
                file.write(start + lines)
                os.fsync(file.fileno())

    def events(self) -> list[Event]:
        """Returns all complete events; empty if the file does not exist."""
        return [event for event, _ in read(self.path, 0) if event]

    @property
    def is_finished(self) -> bool:
        """Whether the run has finished well: nothing is added to it any more."""
        ends = [event for event in self.events() if isinstance(event, RunEnd)]
        return bool(ends) and ends[-1].status == "FINISHED"


def read(path: Path, position: int) -> Iterator[tuple[Event | None, int]]:
    """Yields the events from a position in the file on, each with the position after it; None in
    place of a line that a killed writer left incomplete. A last line without an end may still be
    being written, and is left for later."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(position)
        for line in file:
            if not line.endswith(b"\n"):
                return
            position += len(line)
            yield _event(line), position


def study_folder(results: Path, fingerprint: str) -> Path:
    """Returns the folder of the events of a study; `results` is the folder of the study's name."""
    return results / FOLDER / fingerprint


def study_folders(results: Path) -> Iterable[Path]:
    """Returns the folders of the events of all studies that had this folder of results, the latest
    last."""
    folders = [path for path in (results / FOLDER).glob("*") if path.is_dir()]
    return sorted(folders, key=lambda folder: folder.stat().st_mtime)


def _event(line: bytes) -> Event | None:
    try:
        return of_line(line)
    except ValueError:
        return None


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
