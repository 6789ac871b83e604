"""Leases on S3-compatible storage: of several processes that want one result, one makes it.

A lease is an object. Its holder creates it on the condition that it does not exist, and renews it
by replacing the version that it wrote last. Whoever waits takes it over when it has seen the same
version for longer than a holder may go without renewing.

No clock of a machine is compared with another: a holder measures by its own clock since it began
its last renewal, a waiter by its own since it saw the version first. A holder that was
stopped for that long knows, before its next step, that it may have lost its lease.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from forkdiv.core.errors import InvalidResult
from forkdiv.core.remote.objects import WORK_PATIENCE_S, Stored
from forkdiv.core.remote.storage_errors import StorageFailed

TTL_S = 60.0  # a holder that has not renewed for so long has lost its lease
RENEWALS = 4  # in that time
RESERVE = 0.5  # a lease that ends within this share of it is left to expire, not deleted
MARGIN = 1.25
POLL_S = 2.0


def clock_s() -> float:
    """Returns the seconds since the machine started, those in which it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseLost(InvalidResult):
    """Another process has taken over the lease of this one, which was stopped or cut off."""


class Conditional(Protocol):
    """The operations on objects that a lease needs."""

    def read(self, key: str) -> Stored | None: ...

    def create(self, key: str, data: bytes) -> str | None: ...

    def replace(self, key: str, data: bytes, etag: str) -> str | None: ...

    def delete(self, keys: list[str]) -> None: ...


class Lease:
    """The lease at `key`, as one process sees it. `root` identifies the local folder of the
    process: the caller holds a kernel lock there, so that another holder with the same root is
    dead, and its lease is taken over at once."""

    def __init__(
        self,
        objects: Conditional,
        key: str,
        root: str,
        ttl_s: float = TTL_S,
        clock: Callable[[], float] = clock_s,
    ) -> None:
        self._objects, self._key, self._root = objects, key, root
        self._ttl_s, self._clock = ttl_s, clock
        self._holder, self._written = uuid.uuid4().hex, 0
        self._etag: str | None = None
        self._renewing = threading.Lock()
        self._until = 0.0  # by our clock; the lease is held before it
        self._seen: tuple[str, float] | None = None
        self.other = ""  # the host of the process that we wait for

    def acquire(self) -> bool:
        """Tries once to get the lease; returns whether it is held now. To wait, call it again."""
        began = self._clock()
        found = self._objects.read(self._key)
        seen_at = self._clock()
        if found is None:
            return self._has(self._objects.create(self._key, self._body()), began)
        other = _content(found.data)
        self.other = str(other.get("host", ""))
        if self._seen is None or self._seen[0] != found.etag:
            self._seen = found.etag, seen_at
        is_dead = other.get("root") == self._root
        if is_dead or began - self._seen[1] > self._ttl_s * MARGIN:
            return self._has(self._objects.replace(self._key, self._body(), found.etag), began)
        return False

    def renew(self) -> bool:
        """Renews the lease; returns whether it is still held, also after the time in which it
        could have been taken over. False is final."""
        with self._renewing:
            if self._etag is None:
                return False
            began = self._clock()
            return self._has(self._objects.replace(self._key, self._body(), self._etag), began)

    @property
    def held(self) -> bool:
        """Whether no other process can have taken over the lease."""
        return self._etag is not None and self._clock() < self._until

    def release(self) -> None:
        """Gives the lease back. One that is lost, or about to be, is left alone."""
        with self._renewing:
            self._release()

    def _release(self) -> None:
        safe = self._etag is not None and self._clock() < self._until - self._ttl_s * RESERVE
        self._etag = None
        if safe:  # nobody takes it over while the request is on its way: it deletes no other's
            self._objects.delete([self._key])

    def _has(self, etag: str | None, began: float) -> bool:
        self._etag, self._seen = etag, None
        if etag is not None:
            self._until = began + self._ttl_s
        return etag is not None

    def _body(self) -> bytes:
        self._written += 1
        content = {
            "holder": self._holder,
            "root": self._root,
            "host": socket.gethostname(),
            "written": self._written,
        }
        return json.dumps(content).encode()


@contextmanager
def holding(
    lease: Lease, on_wait: Callable[[str], None], ttl_s: float = TTL_S, poll_s: float = POLL_S
) -> Iterator[Callable[[], None]]:
    """Holds the lease in the block, renewed in the background; yields a function that raises
    LeaseLost if it may have been lost. `on_wait` gets the host of another holder, once."""
    _wait(lease, on_wait, poll_s)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(ttl_s / RENEWALS):
            try:
                if not lease.renew():
                    return
            except StorageFailed:
                pass  # the next time; `check` asks whether it is still held

    def check() -> None:
        if not lease.held and not lease.renew():
            raise LeaseLost(
                "another process has taken over this result, because this one could not renew its "
                f"lease for {ttl_s:g} s (it was stopped, or cut off from the storage); what it "
                "has published is kept: run the same command again"
            )

    thread = threading.Thread(target=renew, daemon=True, name="forkdiv-lease")
    thread.start()
    try:
        yield check
    finally:
        ended.set()
        thread.join()
        with suppress(StorageFailed):  # it then expires
            lease.release()


def _wait(lease: Lease, on_wait: Callable[[str], None], poll_s: float) -> None:
    """Waits for the lease, also through an outage of the storage."""
    shown, answered = False, clock_s()
    while True:
        try:
            if lease.acquire():
                return
            answered = clock_s()
        except StorageFailed:
            if not shown or clock_s() - answered > WORK_PATIENCE_S:
                raise
        if not shown:
            on_wait(lease.other)
            shown = True
        time.sleep(poll_s)


def _content(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
