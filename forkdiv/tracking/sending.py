"""The thread that sends a study's events while the study runs. Nothing waits for it but its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from forkdiv.tracking.address import Address
from forkdiv.tracking.sender import Sender
from forkdiv.tracking.server import Server, Unreachable

EVERY_S = 2.0
LONGEST_PAUSE_S = 30.0  # between two tries while MLflow does not answer
PATIENCE_S = 20.0  # at the end of a study, without an event that is sent


class Sending:
    """Sends the events in `folder` until the end of its `with` block, and then what is left, as
    long as MLflow takes it. Failures are shown in one line; they never reach the study."""

    def __init__(
        self, folder: Path, address: Address, study: str, show: Callable[[str], None]
    ) -> None:
        self._sender = Sender(folder, Server(address))
        self._study, self._show = study, show
        self._over = threading.Event()
        self._is_down = False
        self._shown_refused = 0
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def __enter__(self) -> Sending:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        last, since = self._sender.sent, time.monotonic()
        while self._thread.is_alive() and time.monotonic() - since < PATIENCE_S:
            self._thread.join(0.2)
            if self._sender.sent != last:
                last, since = self._sender.sent, time.monotonic()
        if self._thread.is_alive():
            self._show(f"MLflow is slow ({self._sender.server.address.shown}); {self._remedy}")

    @property
    def _remedy(self) -> str:
        return (
            "results do not depend on it, and what it has not taken waits in "
            f"{self._sender.folder}; `forkdiv track --send {self._study}` sends it"
        )

    def _run(self) -> None:
        pause = EVERY_S
        while True:
            is_last = self._over.is_set()
            try:
                self._sender.server.check()
                self._sender.send()
            except Unreachable as error:
                self._failed(str(error))
                pause = min(2 * pause, LONGEST_PAUSE_S)
            except Exception as error:  # noqa: BLE001 - a defect here must not end a study
                self._failed(f"{type(error).__name__}: {error}")
                pause = LONGEST_PAUSE_S
            else:
                self._succeeded()
                pause = EVERY_S
            if is_last:
                return
            self._over.wait(pause)

    def _failed(self, reason: str) -> None:
        if not self._is_down:
            address = self._sender.server.address.shown
            self._show(f"MLflow at {address} does not take records ({reason}); {self._remedy}")
        self._is_down = True

    def _succeeded(self) -> None:
        if self._is_down:
            self._show("MLflow takes records again")
        self._is_down = False
        if new := self._sender.refused[self._shown_refused :]:
            self._show(f"MLflow refused {len(new)} records, of which the first: {new[0]}")
            self._shown_refused = len(self._sender.refused)
