"""Renders chat templates within limits of time and memory, in a process of their own."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any

from forkdiv.core.errors import UserError, refuse

NO_ARGS: Mapping[str, Any] = MappingProxyType({})
CHILD = Path(__file__).with_name("template_child.py")
WALL_SECONDS = 15.0  # the child limits its CPU time to 2 s; this also covers a loaded machine


class TemplateRenderer:
    """Renders templates with one child process, which is started when it is first needed and
    replaced when a template exceeds a limit. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0  # the process that started the child; a fork must start its own

    def render(
        self,
        template: str,
        messages: Sequence[Mapping[str, str]],
        special_tokens: Mapping[str, Any],
        date: str,
        whose: str,
        args: Mapping[str, Any] = NO_ARGS,
    ) -> str:
        """Returns the text of the conversation with the generation prompt. `date` is today for the
        template, `args` are its own arguments, and `whose` names it in errors.

        Raises UserError, with the template's own words, if it does not parse, raises, or needs too
        much time or memory.
        """
        request = {
            "template": template,
            "messages": list(messages),
            "special_tokens": dict(special_tokens),
            "date": date,
            "args": dict(args),
        }
        return self._answer(request, whose)

    def variables(self, template: str, whose: str) -> frozenset[str]:
        """Returns the names of all variables that the template reads and does not define itself.
        Raises UserError if it does not parse, or needs too much time or memory."""
        return frozenset(json.loads(self._answer({"variables_of": template}, whose)))

    def _answer(self, request: Mapping[str, Any], whose: str) -> str:
        with self._lock:
            try:
                answer = self._ask(json.dumps(request).encode() + b"\n")
            except BaseException:  # an interrupt would leave the answer to the next request
                self.close()
                raise
        if "text" in answer:
            return answer["text"]
        raise _refusal(whose, answer)

    def close(self) -> None:
        """Ends the child process."""
        child, self._child = self._child, None
        if child is not None and self._owner == os.getpid():
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                assert pipe is not None
                pipe.close()

    def _ask(self, line: bytes) -> dict[str, str]:
        child = self._running()
        assert child.stdin is not None
        try:
            child.stdin.write(line)
            child.stdin.flush()
            answer = self._read_line(child)
        except BrokenPipeError:
            answer = b""
        if answer.endswith(b"\n"):
            reply: dict[str, str] = json.loads(answer)
            return reply
        if child.poll() is None and not answer:
            time.sleep(0.1)  # the pipe closes before the process has ended
        code = child.poll()
        self.close()
        if code is None or code == -signal.SIGPROF:
            return {"limit": "more than 2 s of CPU time"}
        return {"limit": f"a process that ended with status {code}"}

    def _read_line(self, child: subprocess.Popen[bytes]) -> bytes:
        """Returns the child's answer; without a line feed at its end if the child ended or did not
        answer in time."""
        assert child.stdout is not None
        end = time.monotonic() + WALL_SECONDS
        parts: list[bytes] = []
        while not (parts and parts[-1].endswith(b"\n")):
            left = end - time.monotonic()
            if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
                break
            part = os.read(child.stdout.fileno(), 2**20)
            if not part:
                break
            parts.append(part)
        return b"".join(parts)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._owner != os.getpid() or self._child.poll() is not None:
            self._child = subprocess.Popen(
                [sys.executable, "-I", str(CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._owner = os.getpid()
        return self._child


RENDERER = TemplateRenderer()
atexit.register(RENDERER.close)


def _refusal(whose: str, answer: Mapping[str, str]) -> UserError:
    remedy = "correct the template, or set prompt.chat_template to another one"
    (kind, text), *_ = answer.items()
    words = " ".join(text.split())[:300]
    if kind == "syntax":
        return refuse(
            f"the chat template of {whose} does not parse",
            words,
            "a Jinja template",
            remedy,
        )
    if kind == "limit":
        return refuse(
            f"the chat template of {whose} exceeds a limit",
            words,
            "2 s, 1024 MiB and 4194304 characters for a prompt",
            remedy,
        )
    return refuse(
        f"the chat template of {whose} refuses a prompt",
        words,
        "conversations that this template accepts",
        "change the conversations (a system turn, prompt.system, the order of roles), or set "
        "prompt.chat_template to another template",
    )
