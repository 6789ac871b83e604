"""List, check and clean the store of results.

    forkdiv store ls
    forkdiv store verify place.root=/shared/runs
    forkdiv store gc
    forkdiv store gc --remove
    forkdiv store ls place.store=s3://my-bucket/forkdiv

`ls` shows what the store holds, by stage. `verify` reads every file and names what is damaged; its
status is 1 if something is. `gc` shows what can be removed: damaged results and files of samples,
what killed processes left, and unfinished work that no process continues; with --remove it removes
them. Whatever a process is making or has open is left alone. What is removed is made again when it
is next needed, at the cost that is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from forkdiv import cli
from forkdiv.core import store_contents
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import InvalidResult, UserError, refuse
from forkdiv.core.progress import duration
from forkdiv.core.remote.artifacts import Remote
from forkdiv.core.store import Store
from forkdiv.core.store_contents import Contents, Damage, Entry, Kind
from forkdiv.models.digests import DIGESTS, check_digests
from forkdiv.sample import parts
from forkdiv.terminal import say, show_table
from tuning import remote_contents

ACTIONS = ("ls", "verify", "gc")


def run(study: StudyConfig, actions: Sequence[Path] = (), remove: bool = False) -> None:
    store = Store.of(study.place)
    root = store.root
    names = [str(action) for action in actions]
    if len(names) != 1 or names[0] not in ACTIONS:
        raise refuse(
            "store needs one action",
            " ".join(names) or "none",
            ", ".join(ACTIONS),
            "run `forkdiv store ls`",
        )
    if remove and names[0] != "gc":
        raise refuse(
            f"store {names[0]} removes nothing",
            "--remove",
            "--remove with gc",
            "leave it out, or run `forkdiv store gc --remove`",
        )
    if store.remote:
        _run_remote(names[0], store.remote, remove)
        return
    if not root.is_dir():
        raise refuse(
            "there is no store",
            f"no folder {root}",
            "the output folder of a study that has run",
            "correct place.root",
        )
    contents = store_contents.read(root)
    if names[0] == "ls":
        list_stages(contents)
    elif names[0] == "verify":
        verify(contents)
    else:
        collect(contents, remove)


def _run_remote(action: str, remote: Remote, remove: bool) -> None:
    """As on a disk, on the storage of place.store; `gc` also for unfinished work and leftovers on
    this machine."""
    if action == "ls":
        remote_contents.list_stages(remote)
    elif action == "verify":
        remote_contents.verify(remote)
    else:
        remote_contents.collect(remote, remove)
        for folder in dict.fromkeys((remote.work, remote.cache.folder)):
            local = store_contents.read(folder)
            kinds = (Kind.WORK, Kind.LEFTOVER)
            local.entries = [entry for entry in local.entries if entry.kind in kinds]
            collect(local, remove)


def list_stages(contents: Contents) -> None:
    """Prints a table with one row for each stage and kind."""
    groups: dict[tuple[str, Kind], list[Entry]] = {}
    for entry in contents.entries:
        groups.setdefault((entry.stage or entry.path.name, entry.kind), []).append(entry)
    rows = []
    for (stage, kind), entries in groups.items():
        seconds = [entry.seconds for entry in entries if entry.seconds is not None]
        made_in = duration(sum(seconds)) if seconds else ""
        size = _size(sum(entry.size for entry in entries))
        rows.append([stage, kind.value, str(len(entries)), size, made_in])
    header = ["stage", "kind", "number", "size", "made in"]
    show_table(header, rows, title=f"{contents.root}")


def verify(contents: Contents) -> None:
    """Reads everything. Raises InvalidResult, after all is listed, if something is damaged."""
    found = list(_damages(contents))
    for damage in found:
        say(f"damaged: {damage.entry.name}: {damage.problem}")
        say(f"  in {damage.path}")
        say(f"  {_cost(contents, damage.entry, damage.path)}")
    for entry in contents.entries:
        if entry.kind is Kind.UNKNOWN:
            say(f"unknown: {entry.path} is not from forkdiv and is never removed")
    results = [e for e in contents.entries if e.kind in (Kind.RESULT, Kind.SAMPLES)]
    checked, old = len(results), sum(not entry.has_digests for entry in results)
    if old:
        say(f"{old} results of an older version have no digests: only sizes were compared")
    size = _size(sum(entry.size for entry in contents.entries))
    if found:
        raise InvalidResult(
            f"{len(found)} of {checked} results are damaged; run `forkdiv store gc` to see what it "
            "removes, and `forkdiv store gc --remove` to remove it"
        )
    say(f"{checked} results are as they were written ({size})")


@dataclass(frozen=True)
class Removal:
    """What can be removed, why, and what follows."""

    entry: Entry
    path: Path
    reason: str
    cost: str


def collect(contents: Contents, remove: bool) -> None:
    """Shows what can be removed; with `remove`, removes it."""
    freed = removed = in_use = 0
    for removal in _removals(contents):
        size = store_contents.size_of(removal.path)
        with contents.unused(removal.entry) as unused:
            if not unused:
                say(f"in use, left alone: {removal.path}")
                in_use += 1
                continue
            if remove:
                store_contents.remove(removal.path)
        verb = "removed" if remove else "would remove"
        say(f"{verb}: {removal.entry.name}: {removal.reason} ({_size(size)})")
        say(f"  {removal.path}")
        say(f"  {removal.cost}")
        freed, removed = freed + size, removed + 1
    if not removed:
        say("nothing to remove" + (f"; {in_use} in use" if in_use else ""))
    elif remove:
        say(f"{removed} removed, {_size(freed)} freed")
    else:
        say(f"{removed} can be removed, {_size(freed)}; run `forkdiv store gc --remove`")


def _removals(contents: Contents) -> Iterator[Removal]:
    for entry in contents.entries:
        if entry.kind is Kind.LEFTOVER:
            yield Removal(entry, entry.path, "left by a killed process", "nothing is made again")
        elif entry.kind is Kind.WORK:
            cost = f"{entry.stage} starts from its beginning"
            if seconds := contents.mean_seconds(entry.stage):
                cost += f" (others of this stage took {_about(seconds)})"
            yield Removal(entry, entry.path, "unfinished work", cost)
    for damage in _damages(contents):
        cost = _cost(contents, damage.entry, damage.path)
        yield Removal(damage.entry, damage.path, f"damaged: {damage.problem}", cost)


def _damages(contents: Contents) -> Iterator[Damage]:
    for entry in contents.entries:
        damages = list(store_contents.damages(entry, parts.check))
        yield from damages
        if entry.kind is Kind.RESULT and not damages:
            yield from _changed_weights(entry)


def _changed_weights(entry: Entry) -> Iterator[Damage]:
    """Checkpoints have digests of their own weights, which are too large for the record."""
    for file in sorted(entry.path.rglob(DIGESTS)):
        try:
            check_digests(file.parent)
        except (UserError, ValueError) as error:
            problem, _, _ = " ".join(str(error).split()).partition("; create the checkpoint")
            yield Damage(entry, entry.path, problem)
            return


def _cost(contents: Contents, entry: Entry, path: Path) -> str:
    """Returns what is made again without `path`, and roughly what it costs."""
    if entry.kind is Kind.SAMPLES:
        if path.name == store_contents.SAMPLES_RECORD:
            return "written again at the next sampling; the samples are kept"
        others = len(parts.files(path.parent)) - 1
        return f"its samples are drawn again; the other {others} files of the set are kept"
    if entry.seconds is not None:
        return f"made again at its next use, in {_about(entry.seconds)}"
    mean = contents.mean_seconds(entry.stage)
    as_others = f", in {_about(mean)} as others of this stage" if mean is not None else ""
    return f"made again at its next use{as_others}"


def _about(seconds: float) -> str:
    return f"about {duration(seconds)}" if seconds >= 1 else "less than a second"


def _size(bytes_: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if bytes_ < 1024:
            return f"{bytes_:.0f} {unit}" if unit == "B" else f"{bytes_:.1f} {unit}"
        bytes_ /= 1024
    return f"{bytes_:.1f} TiB"


if __name__ == "__main__":
    cli.run_job("store")
