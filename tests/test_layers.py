"""Who may import what: rooms below rooms, and each library in the rooms that need it.

The rooms and their order are those of docs/architecture.md.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("forkdiv", "tuning", "jobs")
    for path in (ROOT / folder).rglob("*.py")
)
MODULES = {
    path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in SOURCES
}

# room: the rooms that it may import, beside itself
MAY_IMPORT = {
    "core": (),
    "tasks": ("core",),
    "benchmarks": ("core", "tasks"),
    "models": ("core",),
    "data": ("core", "tasks", "models"),
    "train": ("core", "tasks", "models", "data"),
    "sample": ("core", "tasks", "models"),
    "score": ("core", "tasks", "models", "sample"),
    "rl": ("core", "tasks", "models", "data", "train", "sample", "score"),
    "coverage": ("core", "tasks", "models", "sample", "score"),
    "forks": ("core", "tasks", "models", "data", "sample", "score", "coverage"),
    "learnability": (
        "core", "tasks", "models", "data", "train", "sample", "score", "coverage", "forks",
    ),
    "report": ("core",),
    "tracking": ("core",),
    "terminal": ("core",),
    "requirements": (),
    "lm_eval": (
        "core", "tasks", "models", "data", "train", "sample", "score", "coverage", "forks",
        "report", "tracking",
    ),
    "tuning": (
        "core", "tasks", "benchmarks", "models", "data", "train", "sample", "score", "coverage",
        "rl", "forks", "learnability", "report", "tracking", "lm_eval", "terminal",
    ),
}  # fmt: skip
EVERYONE = ("jobs", "cli")  # the command line and what it starts see all rooms

# library: the modules that may import it, at any depth of their code; a folder ends with a slash
LIBRARIES = {
    "ray": (
        "forkdiv/train/trainer.py",
        "forkdiv/train/pass_size.py",
        "forkdiv/train/process_group.py",
        "forkdiv/train/worker.py",
        "forkdiv/train/resume.py",
        "forkdiv/sample/deployment.py",
        "forkdiv/sample/drivers.py",
        "forkdiv/sample/http.py",
        "forkdiv/sample/sample_sets.py",
        "forkdiv/sample/trainings.py",
        "tuning/",
        "jobs/",
    ),
    "mlflow": ("forkdiv/tracking/server.py",),
    "vllm": ("forkdiv/sample/",),
    "trl": ("forkdiv/rl/grpo.py",),
    "torch": ("forkdiv/models/", "forkdiv/train/", "forkdiv/rl/",
              "forkdiv/sample/logits_processors.py",
              "forkdiv/sample/weight_proof.py", "forkdiv/sample/vllm_worker.py",
              "forkdiv/sample/token_draws.py",
              "forkdiv/coverage/exact.py",
              "forkdiv/forks/entropy.py", "forkdiv/learnability/predictions.py"),
    "deepspeed": ("forkdiv/train/deepspeed_engine.py", "forkdiv/train/worker.py"),
    "huggingface_hub": ("forkdiv/core/hub.py",),
    "s3fs": ("forkdiv/core/remote/objects.py",),
    "fsspec": ("forkdiv/core/remote/objects.py",),
    "botocore": ("forkdiv/core/remote/storage_errors.py",),
    "peft": ("forkdiv/models/lora.py",),
}  # fmt: skip

PURE = [
    "coverage.stats",
    "report",
    "core.records",
    "core.config.study",
    "models.decoding",
    "tasks.registry",
    "coverage.cells",
    "coverage.fork_tree",
    "coverage.fork_summary",
]
STATS_MAY_IMPORT = {"numpy", "scipy", "forkdiv", *sys.stdlib_module_names}


def room_of(module: str) -> str:
    """`forkdiv.train.log` is in `train`, `tuning.space` in `tuning`, `forkdiv.cli` in `cli`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "forkdiv" and len(parts) > 1 else parts[0]


def imported(path: str) -> set[str]:
    """Top-level names of everything a file imports, inside functions and type checks too."""
    return {name.partition(".")[0] for name in dotted_imports(path)}


@cache
def dotted_imports(path: str) -> frozenset[str]:
    """The modules and names that a file imports, whole: `forkdiv.train.log.read_log`."""
    return frozenset(_imported(ast.parse((ROOT / path).read_text())))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func).rpartition(".")[2]
            first = node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield str(first.value)


def own_modules(path: str) -> set[str]:
    """The modules of this project that a file imports."""
    found = set()
    for name in dotted_imports(path):
        module = name if name in MODULES else name.rpartition(".")[0]
        if module in MODULES:
            found.add(module)
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    inside = {module: path for module, path in MODULES.items() if room_of(module) == room}
    assert inside, f"no module is in the room {room}: does this test still look where it should?"
    allowed = {room, "forkdiv", *MAY_IMPORT[room]}
    wrong = [
        f"{module} imports {other}"
        for module, path in inside.items()
        for other in own_modules(path)
        if room_of(other) not in allowed
    ]
    assert wrong == []


def test_every_module_is_in_a_room_that_the_rule_names() -> None:
    rooms = {room_of(module) for module in MODULES} - {"forkdiv"}
    assert rooms == {*MAY_IMPORT, *EVERYONE}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_only_where_it_may_be(library: str) -> None:
    users = [path for path in SOURCES if library in imported(path)]
    assert users, f"nothing imports {library}: does this test still look where it should?"
    assert [path for path in users if not path.startswith(LIBRARIES[library])] == []


def test_the_statistics_know_numpy_and_scipy_only() -> None:
    files = [path for path in SOURCES if path.startswith("forkdiv/coverage/stats/")]
    assert files
    assert [path for path in files if imported(path) - STATS_MAY_IMPORT] == []
    others = {module for path in files for module in own_modules(path)}
    assert [module for module in others if not module.startswith("forkdiv.coverage.stats")] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions count: a cycle that is hidden there is a cycle."""
    imports = {module: own_modules(path) - {module} for module, path in MODULES.items()}
    assert cycles(imports) == []


def cycles(imports: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that reach each other."""
    import networkx as nx

    graph = nx.DiGraph([(module, other) for module, others in imports.items() for other in others])
    groups = nx.strongly_connected_components(graph)
    return sorted(sorted(group) for group in groups if len(group) > 1)


@pytest.mark.parametrize("name", ["vllm_worker", "logits_processors"])
def test_what_runs_in_the_engines_worker_does_not_know_ray(name: str) -> None:
    assert "ray" not in imported(f"forkdiv/sample/{name}.py")


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_loads_no_cluster_library_not_even_through_others(module: str) -> None:
    code = f"import sys, forkdiv.{module}; print(*(m.partition('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "forkdiv" in loaded
    assert not loaded & {*LIBRARIES, "transformers"}


def test_what_starts_a_training_run_leaves_torch_to_its_workers() -> None:
    """The trial and Ray Train's controller load these one after the other, before any worker."""
    code = "import sys, forkdiv.train.trainer; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert "forkdiv.train.process_group" in loaded
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
    names = {name.partition(".")[0] for name in _imported(ast.parse(code))}
    assert {"ray", "mlflow", "torch"} <= names
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
