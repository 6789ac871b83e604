"""Measures the checkpoints of a run while another program trains it, each as it appears."""

from __future__ import annotations

import queue
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from forkdiv.core.config.study import StudyConfig, WatchConfig
from forkdiv.core.errors import InvalidResult, UserError, refuse
from forkdiv.core.results import Summary
from forkdiv.models import complete
from forkdiv.models.adapter.config import has_adapter
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.saved import is_checkpoint, unit_of
from forkdiv.report import page
from forkdiv.tasks.registry import build
from tuning import adapters, preflight, snapshots
from tuning.comparison import Pair
from tuning.outcome import write_summary
from tuning.series import GrowingTable, Series, open_series

NAMES = re.compile(r"(epoch|checkpoint|step|global_step)[-_]?(\d+)")
MERGED = "merged"  # in the snapshot of an adapter: the whole model
# A folder that its writer leaves without trainer_state.json is complete after this many looks.
PATIENCE = 6
QUIET = 3  # looks after which a run that has ended has nothing more

Show = Callable[[str], None]


@dataclass(frozen=True)
class Item:
    """A complete checkpoint: its number, its own folder, and that of its snapshot."""

    number: float
    source: Path
    snapshot: Path


@dataclass
class Looker:
    """Looks at a run's folder in a thread, and puts snapshots of complete checkpoints into `items`:
    at once, because a trainer may delete them while others are measured."""

    run: Path
    snapshots: Path
    pattern: str | None
    every_s: float
    known: set[str]
    show: Show
    items: queue.Queue[Item | Exception] = field(default_factory=queue.Queue)
    waiting: dict[str, str] = field(default_factory=dict)  # what folders lack, by name
    last_new: float = field(default_factory=time.monotonic)  # something was new or being written
    is_gone: bool = False
    had_ended: bool = False  # an earlier watch met the last checkpoint
    quiet_looks: int = 0  # looks in which nothing was new or being written, up to now
    _seen: dict[str, tuple[complete.Seen, int]] = field(default_factory=dict)
    _is_busy: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Looks once. A folder must be the same at two looks, and complete."""
        self.is_gone, self._is_busy = not self.run.is_dir(), False
        for number, folder in [] if self.is_gone else candidates(self.run, self.pattern):
            if folder.name in self.known:
                continue
            try:
                self._look_at(number, folder)
            except FileNotFoundError:
                if folder.name in self._seen:
                    self.known.add(folder.name)
                    self.waiting.pop(folder.name, None)
                    self.show(f"{folder.name} was deleted before it could be measured")
        for name in [name for name in self.waiting if not (self.run / name).is_dir()]:
            del self.waiting[name]
            self.show(f"{name} was deleted before it was complete")
        self.quiet_looks = 0 if self._is_busy else self.quiet_looks + 1
        if self._is_busy:
            self.last_new = time.monotonic()

    def _look_at(self, number: float, folder: Path) -> None:
        before, looks = self._seen.get(folder.name, ((), 0))
        now = complete.state_of(folder)
        same = looks + 1 if now == before else 0
        self._seen[folder.name] = (now, same)
        self._is_busy |= not same
        lacks = complete.missing(folder) if same else "it is still being written"
        if lacks == complete.STATE and same >= PATIENCE:
            lacks = None
        if lacks:
            self.waiting[folder.name] = lacks
            return
        snapshot = self.snapshots / folder.name
        snapshots.take(folder, number, snapshot)
        if complete.state_of(folder) != now:  # written again meanwhile
            self._seen[folder.name] = ((), 0)
            return
        self.waiting.pop(folder.name, None)
        self.known.add(folder.name)
        self._is_busy = True
        self.items.put(Item(number, folder, snapshot))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Looks every `every_s` seconds during the block, at whose start the idle time begins."""
        self.last_new = time.monotonic()
        thread = threading.Thread(target=self._run, daemon=True, name="watch")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        try:
            while True:
                self.look()
                if self._stop.wait(self.every_s):
                    return
        except Exception as error:  # noqa: BLE001 - raised where items are read
            self.items.put(error)


def candidates(run: Path, pattern: str | None) -> list[tuple[float, Path]]:
    """Returns the folders of a run that are meant as checkpoints, by number and in its order."""
    found: list[tuple[float, Path]] = []
    for folder in run.glob(pattern) if pattern else run.iterdir():
        digits = re.findall(r"\d+", folder.name)
        named = bool(digits) if pattern else NAMES.fullmatch(folder.name) is not None
        if named and not folder.name.startswith((".", "tmp")) and folder.is_dir():
            found.append((int(digits[-1]), folder))
    return sorted(found)


def check_run(run: Path) -> None:
    """Raises UserError unless the folder can be that of a run: it may be empty still."""
    if not run.is_dir():
        raise refuse(
            "the folder to watch does not exist",
            run,
            "the folder into which a trainer writes its checkpoints",
            "start the training first, or make the folder",
        )
    if is_checkpoint(run) and not candidates(run, None):
        raise refuse(
            "the folder to watch is a checkpoint itself",
            run,
            "the folder above, which gets folders such as checkpoint-500",
            "give that folder, or compare this checkpoint with --tuned",
        )


def watch(study: StudyConfig, base: Checkpoint, run: Path, show: Show) -> tuple[Summary, Pair]:
    """Measures the checkpoints of `run` until it ends (see `WatchConfig`) or Ctrl-C is pressed;
    returns the summary of what was measured.

    Raises InvalidResult if nothing could be measured.
    """
    began = time.perf_counter()
    run, folder = run.resolve(), study.folder / "watched"
    show(f"watching {run}; Ctrl-C ends it and keeps what is measured")
    with open_series(study, base, "step", show) as series:
        series.pipeline.evaluated(series.evaluation, series.pipeline.base)
        table = GrowingTable(series, show)
        looker = Looker(run, folder, study.checkpoint_pattern, study.watch.every_s, set(), show)
        _restore(series, looker, table)
        try:
            with looker.running():
                _measure_all(series, looker, table, show)
        except KeyboardInterrupt:
            show("stopping")
        for name, lacks in looker.waiting.items():
            show(f"{name} was not measured: it lacks something or cannot be read: {lacks}")
        if not series.measured:
            raise InvalidResult(f"no checkpoint of {run} was measured")
        pair = series.pair()
        return series.finished(pair, {"total": time.perf_counter() - began}, show), pair


def _measure_all(series: Series, looker: Looker, table: GrowingTable, show: Show) -> None:
    rules = series.study.watch
    while True:
        has_file = bool(rules.end_file and (looker.run / rules.end_file).exists())
        ended = has_file or looker.had_ended
        try:
            item = looker.items.get(timeout=min(looker.every_s, 1.0))
        except queue.Empty:
            idle = time.monotonic() - looker.last_new
            if looker.is_gone:
                show(f"{looker.run} is gone: the watch ends")
                return
            # some looks after the end was seen: the last checkpoint may have come before it
            if (ended and looker.quiet_looks > QUIET) or (rules.idle_s and idle > rules.idle_s):
                show(f"no new checkpoint for {idle:.0f} s: the watch ends")
                return
            continue
        if isinstance(item, Exception):
            raise item
        is_last = _is_last(rules, item.number, item.snapshot)
        _measure(series, item, table, show)
        looker.last_new = time.monotonic()
        if is_last and looker.items.empty():
            show(f"{item.source.name} is the last checkpoint: the watch ends")
            return


def _is_last(rules: WatchConfig, number: float, snapshot: Path) -> bool:
    return complete.has_ended(snapshot) or (rules.until is not None and number >= rules.until)


def _measure(series: Series, item: Item, table: GrowingTable, show: Show) -> None:
    """Measures one checkpoint and writes the report again, or shows why it cannot be measured."""
    name = item.source.name
    try:
        checkpoint = _whole(series, item, show)
        series.sources[checkpoint.path] = item.source
        if not series.measured:
            series.unit = unit_of([name])
        result = series.measure(item.number, checkpoint)
    except (UserError, InvalidResult) as error:
        show(f"{name} was not measured: {error}")
        shutil.rmtree(item.snapshot)
        return
    table.add(item.number, result)
    _write_report(series)
    snapshots.release(item.snapshot, checkpoint.fingerprint)


def _whole(series: Series, item: Item, show: Show) -> Checkpoint:
    """Returns the checkpoint of a snapshot: with a tokenizer, and with its adapter merged in."""
    study, path = series.study, item.snapshot
    if has_adapter(path):
        from forkdiv.models.adapter import merge  # torch: seconds

        adapter, base = adapters.opened(study, path, show, named_from=item.source)
        merge.write(adapter, base.path, path / MERGED)
        path = path / MERGED
    elif snapshots.add_tokenizer(path, series.pipeline.base.path):
        show(f"{item.source.name} has no tokenizer: that of the base is used")
    task = build(study.task)
    checkpoint = preflight.check_checkpoint(path, task)
    preflight.check_prompts(study, path, task)
    return checkpoint


def _write_report(series: Series) -> None:
    done = series.summary(series.pair())
    write_summary(done, series.study.folder)
    page.write(done, series.study.folder, [])


def _restore(series: Series, looker: Looker, table: GrowingTable) -> None:
    """Finds the results of an earlier watch of this run, and the snapshots that it did not measure
    and whose checkpoints are gone."""
    folders = looker.snapshots.iterdir() if looker.snapshots.is_dir() else ()
    found = [(watched, path) for path in folders if (watched := snapshots.recorded(path))]
    for watched, path in sorted(found, key=lambda pair: pair[0].number):
        source = Path(watched.source)
        if source.parent != looker.run or snapshots.has_changed(watched):
            continue  # of another run, or trained again in the same folder
        if not watched.fingerprint:
            if not source.is_dir():
                looker.known.add(watched.name)
                looker.items.put(Item(watched.number, source, path))
            continue
        whole = path / MERGED if has_adapter(path) else path
        if not series.measured:
            series.unit = unit_of([watched.name])
        try:
            result = series.restore(watched.number, Checkpoint(whole, watched.fingerprint))
        except InvalidResult as error:
            if not source.is_dir():
                looker.known.add(watched.name)
                looker.show(
                    f"{watched.name} is gone, and was measured with other settings: {error}"
                )
            continue
        series.sources[whole] = source
        looker.known.add(watched.name)
        looker.had_ended |= _is_last(series.study.watch, watched.number, path)
        table.add(watched.number, result)
