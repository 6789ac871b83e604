"""vLLM asked directly, in a process of its own: what people do without a warm engine.

    python -m tests.bench.offline REQUEST.json DESCRIPTOR

Answers go to the open file descriptor, a line of JSON each: first the seconds from the start of
the process to the first sample, then, for every line on stdin, those and the tokens of a round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

STARTED = time.perf_counter()


class Offline:
    """A process that samples the same prompts over again."""

    def __init__(self, orders: IO[str], answers: IO[str]) -> None:
        self._orders = orders
        self._answers = answers
        self.first_s: float = self._answer()["first_s"]

    def round(self) -> tuple[int, float]:
        """The tokens of one round, and its seconds."""
        self._orders.write("again\n")
        self._orders.flush()
        found = self._answer()
        return found["tokens"], found["seconds"]

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise RuntimeError("vLLM asked directly ended without an answer; its words are above")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def running(
    folder: Path,
    model: Path,
    prompts: Sequence[Sequence[int]],
    n: int,
    max_tokens: int = 16,
    whole: bool = False,
    dtype: str = "float32",
    threads: int | None = None,
) -> Iterator[Offline]:
    """A process for `prompts` (token ids), after its first sample. `whole` responses do not end
    before `max_tokens`. `threads`: None, as many as forkdiv takes."""
    request = folder / f"offline-{threads}.json"
    asked = {"model": str(model), "prompts": [list(one) for one in prompts], "n": n}
    asked |= {"max_tokens": max_tokens, "whole": whole, "dtype": dtype, "threads": threads}
    request.write_text(json.dumps(asked))
    reading, writing = os.pipe()  # vLLM has the last word on stdout
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.offline", str(request), str(writing)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=(writing,),
        text=True,
    )
    os.close(writing)
    try:
        assert process.stdin
        with process.stdin, open(reading) as answers:
            yield Offline(process.stdin, answers)
    finally:
        process.wait()


def main(request: Path, descriptor: int) -> None:
    from forkdiv.core.config.study import EngineConfig
    from forkdiv.sample.engine_settings import (
        EngineSpec,
        engine_arguments,
        environment,
        set_threads,
    )

    asked = json.loads(request.read_text())
    config = EngineConfig(threads=asked["threads"])
    spec = EngineSpec(Path(asked["model"]), asked["dtype"], "cpu", config, ())
    os.environ |= environment(spec)
    from vllm import LLM, SamplingParams

    set_threads(spec)
    llm = LLM(**engine_arguments(spec))
    prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]

    def parameters(number: int, n: int) -> SamplingParams:
        return SamplingParams(
            n=n,
            seed=4096 * number,
            temperature=1.0,
            max_tokens=asked["max_tokens"],
            min_tokens=asked["max_tokens"] if asked["whole"] else 0,
            detokenize=False,
        )

    llm.generate(prompts[:1], parameters(0, 1), use_tqdm=False)
    with open(descriptor, "w", buffering=1) as answers:
        answers.write(json.dumps({"first_s": time.perf_counter() - STARTED}) + "\n")
        for _ in sys.stdin:
            started = time.perf_counter()
            wanted = [parameters(i, asked["n"]) for i in range(len(prompts))]
            made = llm.generate(prompts, wanted, use_tqdm=False)
            seconds = time.perf_counter() - started
            tokens = sum(len(one.token_ids) for answer in made for one in answer.outputs)
            answers.write(json.dumps({"seconds": seconds, "tokens": tokens}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
