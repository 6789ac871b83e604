"""Replies to HTTP requests in OpenAI's format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from forkdiv.core.errors import shortened

MAX_MESSAGE = 1000  # characters
Reply = dict[str, Any]


class RequestRefused(Exception):
    """A request that cannot be answered. `reply` is the reply with its status and message."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.reply = problem(status, message, param)


def problem(status: int, message: str, param: str | None = None) -> Reply:
    """Returns an error reply in OpenAI's format; `param` is the argument that is wrong. A long
    message, which repeats a value of the request, is shortened."""
    message = shortened(message, MAX_MESSAGE)
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": status}
    return {"status": status, "body": {"error": error}}


def models(served: Mapping[str, Path]) -> dict[str, Any]:
    """Returns the body of GET /v1/models."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "forkdiv", "root": str(path)}
        for name, path in served.items()
    ]
    return {"object": "list", "data": data}


def first_names(names: Iterable[str]) -> str:
    """Returns the first eight names, and how many more there are."""
    every = list(names)
    return ", ".join(every[:8]) + (f" and {len(every) - 8} more" if len(every) > 8 else "")
