"""`forkdiv store` on S3-compatible storage: what it holds, what is damaged, what can be removed."""

from __future__ import annotations

from collections.abc import Iterator

from forkdiv.core.errors import InvalidResult
from forkdiv.core.files import size_text
from forkdiv.core.remote import contents
from forkdiv.core.remote.artifacts import Remote
from forkdiv.core.remote.contents import RemoteContents, RemoteEntry
from forkdiv.core.store_contents import Kind
from forkdiv.terminal import say, show_table


def list_stages(remote: Remote) -> None:
    """Prints a table with one row for each stage and kind, and how much the cache holds."""
    held = contents.read(remote)
    groups: dict[tuple[str, Kind], list[RemoteEntry]] = {}
    for entry in held.entries:
        stage = entry.stage or entry.fingerprint
        groups.setdefault((stage, entry.kind), []).append(entry)
    rows = [
        [stage, _kind(kind), str(len(entries)), size_text(sum(e.size for e in entries))]
        for (stage, kind), entries in groups.items()
    ]
    show_table(["stage", "kind", "number", "size"], rows, title=remote.objects.url)
    copies = list(remote.cache.copies())
    say(
        f"copies on this machine: {len(copies)}, {size_text(sum(copy.size for copy in copies))} of "
        f"{size_text(remote.cache.limit)} (place.cache_gib), in {remote.cache.folder}"
    )


def verify(remote: Remote) -> None:
    """Reads everything. Raises InvalidResult, after all is listed, if something is damaged."""
    held = contents.read(remote)
    damaged = list(held.damages())
    for damage in damaged:
        say(f"damaged: {damage.entry.name}: {damage.problem}")
        say(f"  in {remote.objects.url}/{damage.entry.prefix}")
    for entry in held.entries:
        if entry.kind is Kind.UNKNOWN:
            say(f"unknown: {entry.fingerprint} is not from forkdiv and is never removed")
    kinds = (Kind.RESULT, Kind.SAMPLES)
    checked = [entry for entry in held.entries if entry.kind in kinds]
    if damaged:
        raise InvalidResult(
            f"{len(damaged)} of {len(checked)} results are damaged; run `forkdiv store gc` to see "
            "what it removes, and `forkdiv store gc --remove` to remove it"
        )
    size = size_text(sum(entry.size for entry in checked))
    say(f"{len(checked)} results are as they were written ({size})")


def collect(remote: Remote, remove: bool) -> None:
    """Shows what can be removed from the storage; with `remove`, removes it."""
    held = contents.read(remote)
    lines = list(_damaged(held, remove)) + list(_left_behind(held, remove))
    for line in lines:
        say(f"{'removed' if remove else 'would remove'}: {line}")
    if not lines:
        say(f"nothing to remove from {remote.objects.url}")
    elif not remove:
        say("run `forkdiv store gc --remove` to remove it")


def _damaged(held: RemoteContents, remove: bool) -> Iterator[str]:
    for damage in held.damages():
        if remove and not held.remove(damage):
            say(f"in use, left alone: {damage.entry.name}")
            continue
        cost = "its samples are drawn again" if damage.part else "made again at its next use"
        yield f"{damage.entry.name}: damaged: {damage.problem}; {cost}"


def _left_behind(held: RemoteContents, remove: bool) -> Iterator[str]:
    for entry, size in held.abandoned():
        if remove:
            held.sweep(entry)
        yield f"{entry.name}: an upload that was never finished ({size_text(size)})"
    if leases := held.dead_leases():
        if remove:
            held.objects.delete(leases)
        yield f"{len(leases)} leases of processes that died"
    for key, upload in held.dead_uploads():
        if remove:
            held.objects.abort_upload(key, upload)
        yield f"{key}: parts of a file whose upload was never finished"


def _kind(kind: Kind) -> str:
    return "being uploaded, or left by a killed process" if kind is Kind.LEFTOVER else kind.value
