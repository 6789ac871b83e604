"""Runs commands, each in a process of its own that is forked from this one, which has imported what
commands import: a command takes a tenth of a second then, not ten.

Reads one JSON object a line: `arguments`, `folder` (the working directory and TMPDIR), `out` and
`error` (files). Writes one a line: `status` (negative: the signal), `seconds`, `silent` (the
longest time without new output) and `peak` (bytes of memory).
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0
MEMORY_BYTES = 32 * 2**30  # of addresses
IMPORTED = (
    *("forkdiv.cli", "forkdiv.core.config.load", "forkdiv.cli.listing", "forkdiv.terminal"),
    *("forkdiv.lm_eval.measuring", "forkdiv.lm_eval.writing", "forkdiv.models.interpolate"),
    *("forkdiv.models.loading", "forkdiv.forks.audit.audit", "forkdiv.forks.audit.page"),
    *("forkdiv.report.page", "tuning.preflight", "tuning.row_lengths", "tuning.infer_settings"),
    *("jobs.dataset", "jobs.audit", "jobs.coverage", "jobs.report", "jobs.plan", "jobs.export"),
)


def main() -> None:
    for module in IMPORTED:
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def answer(request: dict[str, Any]) -> dict[str, float]:
    started = time.monotonic()
    files = [Path(request[name]) for name in ("out", "error")]
    for file in files:
        file.touch()
    child = os.fork()
    if child == 0:
        run(request)
    heard, silent, size = started, 0.0, 0
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        now = time.monotonic()
        if (written := sum(file.stat().st_size for file in files)) != size:
            heard, size = now, written
        silent = max(silent, now - heard)
        if pid:
            break
        if now - started > PATIENCE_S:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - started,
        "silent": silent,
        "peak": usage.ru_maxrss * 1024,
    }


def run(request: dict[str, Any]) -> None:
    import resource

    from forkdiv import cli

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    os.chdir(request["folder"])
    os.environ["TMPDIR"] = request["folder"]
    import tempfile

    tempfile.tempdir = None  # reads TMPDIR again
    for name, number, flags in (
        (os.devnull, 0, os.O_RDONLY),
        (request["out"], 1, os.O_WRONLY | os.O_APPEND),
        (request["error"], 2, os.O_WRONLY | os.O_APPEND),
    ):
        handle = os.open(name, flags)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, closefd=False)  # noqa: SIM115
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    sys.argv = ["forkdiv", *request["arguments"]]
    status = 99
    try:
        cli.main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
