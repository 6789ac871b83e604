"""The process that renders chat templates. It runs as a script, and imports jinja2 only.

A chat template is a program that comes with a checkpoint. jinja2's sandbox keeps it from files and
Python's internals, but not from looping for ever or allocating all memory. So it runs in a process
with limits: exceeding the memory raises MemoryError in here, and the CPU timer ends the process.

Reads one JSON object a line from standard input and writes one a line to standard output; ends with
its parent.
"""

from __future__ import annotations

import json
import os
import random
import resource
import select
import signal
import sys
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jinja2.parser import Parser

MEMORY_BYTES = 2**30  # address space of this process, some 50 MiB of it for Python itself
CPU_SECONDS = 2.0  # of one rendering
MAX_CHARACTERS = 2**22  # of a rendered prompt


class TooLong(Exception):
    """A prompt has more than MAX_CHARACTERS characters."""


class GenerationBlocks(jinja2.ext.Extension):
    """Accepts `{% generation %}` blocks, which mark the assistant's text for training with
    transformers, and renders their content."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's interface)

    def parse(self, parser: Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment(today: datetime) -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """Returns the environment in which transformers renders chat templates, with a given date."""

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[GenerationBlocks, jinja2.ext.loopcontrols],
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = today.strftime
    return env


@lru_cache(maxsize=16)
def compiled(template: str, date: str) -> jinja2.Template:
    return environment(datetime.fromisoformat(date)).from_string(template)


def rendered(request: dict[str, Any]) -> str:
    """Returns the prompt. Raises TooLong for one that exceeds the limit."""
    template = compiled(request["template"], request["date"])
    random.seed(0)  # for jinja2's filter `random`: the same prompt every time
    parts, length = [], 0
    for part in template.generate(
        **{
            **request["special_tokens"],
            **request["args"],
            "messages": request["messages"],
            "tools": None,
            "documents": None,
            "add_generation_prompt": True,
        }
    ):
        length += len(part)
        if length > MAX_CHARACTERS:
            raise TooLong
        parts.append(part)
    return "".join(parts)


def variables(template: str) -> list[str]:
    """Returns the names that the template reads and does not define."""
    env = environment(datetime.min)
    return sorted(jinja2.meta.find_undeclared_variables(env.parse(template)))


def reply(request: dict[str, Any]) -> dict[str, str]:
    """Returns the prompt, or what went wrong in the template's or jinja2's words."""
    try:
        with timed():
            if "variables_of" in request:
                return {"text": json.dumps(variables(request["variables_of"]))}
            text = rendered(request)
            text.encode()
            return {"text": text}
    except jinja2.TemplateSyntaxError as error:
        return {"syntax": f"line {error.lineno}: {error.message}"}
    except MemoryError:
        return {"limit": f"more than {MEMORY_BYTES // 2**20} MiB of memory"}
    except TooLong:
        return {"limit": f"a prompt of more than {MAX_CHARACTERS} characters"}
    except UnicodeEncodeError:
        return {"words": "the prompt has an unpaired surrogate, which is not text"}
    except RecursionError:
        return {"limit": "an endless recursion"}
    except jinja2.TemplateError as error:
        return {"words": str(error.message or type(error).__name__)}
    except Exception as error:  # noqa: BLE001 (what a foreign program raises is its own error)
        return {"words": f"{type(error).__name__}: {error}"}


@contextmanager
def timed() -> Iterator[None]:
    """Ends this process if the block takes more than CPU_SECONDS. The signal's default action also
    ends a single operation that never returns to Python."""
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    parent = os.getppid()
    while True:
        # another process may hold the pipe's other end, so the end of the parent is checked too
        if not select.select([sys.stdin], [], [], 30.0)[0]:
            if os.getppid() != parent:
                return
            continue
        line = sys.stdin.buffer.readline()
        if not line:
            return
        answer = json.dumps(reply(json.loads(line)))
        sys.stdout.buffer.write(answer.encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
