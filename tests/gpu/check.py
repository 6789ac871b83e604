"""The GPU check: each part in a process of its own, within its time limit.

    python -m tests.gpu.check [--kit FOLDER] [--out FOLDER] [--parts PART …]

`--kit` is what `python -m tests.gpu.kit --unpack` wrote; without it, the packages are those of this
environment. Without a GPU the parts run with tiny models, as a test of the script alone. The
results are printed, and written to OUT/gpu-check.json and OUT/PART.log.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
# part: seconds; together eight minutes
PARTS = {"accuracy": 110, "speed": 190, "memory": 80, "ray_train": 100}


def main() -> None:
    options = argparse.ArgumentParser(description="what only a GPU can show")
    options.add_argument("--kit", type=Path)
    options.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-check")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    asked = options.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    paths = [str(ROOT)]
    if asked.kit:
        paths.insert(0, str(asked.kit.resolve() / "site"))
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    # beside the files of this run: the model is made once
    model = asked.out.resolve().parent / "smollm2-135m"
    if not (model / "model.safetensors").exists():
        _make_model(asked.kit, model, environment)
    results: dict[str, object] = {}
    failed = []
    for part in asked.parts:
        rows, problem = _run(part, model, asked.out, environment)
        results[part] = rows
        if problem:
            failed.append(f"{part}: {problem}")
        (asked.out / "gpu-check.json").write_text(json.dumps(results, indent=1))
    for problem in failed:
        print("FAILED", problem)
    sys.exit(bool(failed))


def _run(
    part: str, model: Path, out: Path, environment: dict[str, str]
) -> tuple[list[dict[str, object]], str | None]:
    """Runs one part; returns its rows, and what went wrong."""
    started = time.perf_counter()
    log, rows = out / f"{part}.log", out / f"{part}.jsonl"
    rows.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"tests.gpu.{part}", str(model), str(rows.resolve())]
    problem = None
    with log.open("w") as file:
        try:
            done = subprocess.run(
                command, stdout=file, stderr=file, env=environment, cwd=ROOT, timeout=PARTS[part]
            )
            if done.returncode:
                last = log.read_text().strip().splitlines()[-25:]
                problem = f"exit status {done.returncode}\n" + "\n".join(last)
        except subprocess.TimeoutExpired:
            problem = f"not finished within {PARTS[part]} s; what it measured is above"
    print(f"== {part}: {time.perf_counter() - started:.0f} s", flush=True)
    lines = rows.read_text().splitlines() if rows.exists() else []
    found = [json.loads(line) for line in lines]
    for row in found:
        print(f"{row['name']:<44} {row['value']:>12.4g} {row['unit']:<10} {row['note']}")
    sys.stdout.flush()
    return found, problem


def _make_model(kit: Path | None, model: Path, environment: dict[str, str]) -> None:
    from tests.real_model import convert, make

    model.parent.mkdir(parents=True, exist_ok=True)
    if kit:
        convert(kit.resolve() / "gguf" / "model.gguf", model, environment)
    else:
        make(model)


if __name__ == "__main__":
    main()
