"""Who may import what: so that the pure modules load in a second and test without a cluster."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("forkdiv", "tuning", "jobs")
    for path in (ROOT / folder).rglob("*.py")
)

# library: the files and folders that may import it, at any depth of their code
ALLOWED = {
    "ray": (
        "forkdiv/trainer.py",
        "forkdiv/process_group.py",
        "forkdiv/train_worker.py",
        "forkdiv/train_state.py",
        "forkdiv/serve.py",
        "forkdiv/route.py",
        "forkdiv/sample.py",
        "tuning/",
        "jobs/",
    ),
    "mlflow": ("forkdiv/track.py",),
    "vllm": (
        "forkdiv/engine.py",
        "forkdiv/engine_settings.py",
        "forkdiv/engine_worker.py",
        "forkdiv/serve.py",
        "forkdiv/completions.py",
        "forkdiv/logits_processors.py",
    ),
    "torch": (
        "forkdiv/model.py",
        "forkdiv/losses.py",
        "forkdiv/interpolate.py",
        "forkdiv/train_worker.py",
        "forkdiv/train_log.py",
        "forkdiv/sheet.py",
        "forkdiv/plan.py",
        "forkdiv/entropy.py",
        "forkdiv/logits_processors.py",
        "forkdiv/exact.py",
    ),
    "deepspeed": ("forkdiv/train_worker.py",),
    "peft": ("forkdiv/lora.py",),
}

PURE = [
    "coverage",
    "report",
    "records",
    "config",
    "decoding",
    "tasks",
    "cell",
    "fork_tree",
    "fork_view",
]


def imported(path: str) -> set[str]:
    """Top-level names of everything a file imports, inside functions and type checks too."""
    return set(_imported(ast.parse((ROOT / path).read_text())))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func).rpartition(".")[2]
            first = node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield str(first.value).partition(".")[0]


@pytest.mark.parametrize("library", ALLOWED)
def test_a_library_is_imported_only_where_it_may_be(library: str) -> None:
    users = [path for path in SOURCES if library in imported(path)]
    assert users, f"nothing imports {library}: does this test still look where it should?"
    assert [path for path in users if not path.startswith(ALLOWED[library])] == []


@pytest.mark.parametrize("name", ["engine_worker", "logits_processors"])
def test_what_runs_in_the_engines_worker_does_not_know_ray(name: str) -> None:
    assert "ray" not in imported(f"forkdiv/{name}.py")


def test_the_library_does_not_know_who_uses_it() -> None:
    library = [path for path in SOURCES if path.startswith("forkdiv/") and "cli" not in path]
    assert [path for path in library if imported(path) & {"tuning", "jobs", "tests"}] == []
    tuning = [path for path in SOURCES if path.startswith("tuning/")]
    assert [path for path in tuning if imported(path) & {"jobs", "tests"}] == []


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_loads_no_cluster_library_not_even_through_others(module: str) -> None:
    code = f"import sys, forkdiv.{module}; print(*(m.partition('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "forkdiv" in loaded
    assert not loaded & {*ALLOWED, "transformers"}


def test_what_starts_a_training_run_leaves_torch_to_its_workers() -> None:
    """The trial and Ray Train's controller load these one after the other, before any worker."""
    code = "import sys, forkdiv.trainer; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert "forkdiv.process_group" in loaded
    assert "torch" not in loaded


def test_a_forbidden_import_would_be_seen() -> None:
    code = """
def f():
    from ray.train import x
    import importlib
    importlib.import_module("mlflow.entities")
if TYPE_CHECKING:
    import torch.nn as nn
"""
    assert {"ray", "mlflow", "torch"} <= set(_imported(ast.parse(code)))
