"""A real chromium, driven through its DevTools protocol."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import connect

START_S, ANSWER_S = 60.0, 120.0


class Browser:
    """One page without a window, `width` by `height` pixels."""

    def __init__(self, profile: Path, width: int = 1700, height: int = 1500) -> None:
        self._process = subprocess.Popen(
            [
                *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                *("--disable-sync", "--disable-quic", "--remote-debugging-port=0"),
                *(f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port_file, deadline = profile / "DevToolsActivePort", time.monotonic() + START_S
        while not port_file.exists() or not port_file.read_text().strip():
            assert time.monotonic() < deadline, "chromium does not start"
            time.sleep(0.1)
        port = port_file.read_text().split()[0]
        pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30))
        page = next(page for page in pages if page["type"] == "page")
        self._socket = connect(page["webSocketDebuggerUrl"], max_size=None)
        self._calls = 0
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def open(self, address: str, until: str, timeout: float = 120.0) -> str:
        """Opens a page and returns its text once that has `until`."""
        self._call("Page.navigate", url="about:blank")  # an address that differs after `#` only
        self._call("Page.navigate", url=address)
        deadline = time.monotonic() + timeout
        while until not in (text := str(self.run("document.body?.innerText ?? ''"))):
            assert time.monotonic() < deadline, f"{address} does not show {until!r}: {text[:2000]}"
            time.sleep(0.5)
        return text

    def run(self, script: str) -> Any:
        """Returns the value of a script's last expression."""
        done = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=ANSWER_S))
            if answer.get("id") == self._calls:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
