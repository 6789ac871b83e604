"""`--fail-if` as a script sees it: the exit status and one line for each condition."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE = ROOT / "forkdiv/models/base/graph-d3-l3"
MAIN = "import sys; from forkdiv.cli import main; sys.exit(main())"
SAMPLES = 8

Run = Callable[..., subprocess.CompletedProcess[str]]


def forkdiv(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments, f"place.root={folder / 'runs'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )


def write_samples(folder: Path, right: Callable[[int], int]) -> Path:
    """Samples of 80 multiple-choice questions as lm_eval writes them; `right` gives the number of
    right ones of each problem."""
    folder.mkdir()
    lines = []
    for i in range(80):
        answer, wrong = "ABCD"[i % 4], "ABCD"[(i + 1) % 4]
        responses = [
            f"The answer is ({answer if s < right(i) else wrong})." for s in range(SAMPLES)
        ]
        question = f"Question {i}: A, B, C or D?"
        settings = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 16}
        lines.append(
            {
                "doc_id": i,
                "doc": {"question": question, "answer": answer},
                "target": answer,
                "arguments": {"gen_args_0": {"arg_0": question, "arg_1": settings}},
                "resps": [responses],
                "filtered_resps": responses[:1],
                "filter": "none",
                "metrics": ["exact_match"],
                "doc_hash": f"{i:064x}",
                "prompt_hash": f"{i:064x}",
                "target_hash": f"{i:064x}",
                "exact_match": float(right(i) > 0),
            }
        )
    file = folder / "samples_choices_2026-11-25T20-12-40.667521.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def coverage(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`forkdiv coverage` of a base that is right in half of its samples, and a tuned model that is
    always right on two of three problems and never on the third."""
    folder = tmp_path_factory.mktemp("samples")
    tuned = write_samples(folder / "tuned", lambda i: 0 if i % 3 == 2 else SAMPLES)
    base = write_samples(folder / "base", lambda i: SAMPLES // 2)

    def run(*conditions: str) -> subprocess.CompletedProcess[str]:
        options = [word for condition in conditions for word in ("--fail-if", condition)]
        files = ("--samples", str(tuned), "--base", str(base), "eval.bootstrap=100")
        return forkdiv(folder, "coverage", *files, *options)

    return run


def test_a_loss_that_the_limits_show_ends_with_status_3_and_a_line(coverage: Run) -> None:
    done = coverage("pass@8 < base - 0.02", "pass@1 < base", "cover@1 > 0.99")
    assert done.returncode == 3, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("fail-if")]
    assert [line.split(": ")[1] for line in lines] == ["holds", "does not hold", "does not hold"]
    assert "the change of pass@8 from the base is −0.325, 95% limits −0.4" in lines[0]


def test_what_the_limits_cannot_decide_ends_with_status_4_and_how_to_plan(coverage: Run) -> None:
    done = coverage("pass@8 < base - 0.3", "pass@1 < base")
    assert done.returncode == 4, done.stderr
    assert "cannot be decided" in done.stdout and "forkdiv power --from " in done.stdout


def test_conditions_that_do_not_hold_end_with_status_0(coverage: Run) -> None:
    done = coverage("pass@8 < base - 0.9", "majority@8 < 0.1", "g-pass@8_0.75 < base")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_metric_that_is_not_measured_is_refused_before_grading(coverage: Run) -> None:
    done = coverage("pass@16 < base")
    assert done.returncode == 2 and "grading" not in done.stdout
    assert "did you mean pass@8?" in done.stderr


@pytest.mark.parametrize(
    ("condition", "part"),
    [
        ("pass@63 < base - 0.02", "did you mean pass@64?"),
        ("pass@64 < base - 2", "no change of pass@64 reaches the number"),
        ("pass@64 base", "the condition cannot be read"),
        ("step-100.pass@64 < base", "allowed: tuned, base;"),
    ],
)
def test_compare_refuses_a_condition_before_anything_starts(
    tmp_path: Path, condition: str, part: str
) -> None:
    models = ("--base", str(BASE), "--tuned", str(BASE))
    done = forkdiv(tmp_path, "compare", *models, "--fail-if", condition)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert part in line
    assert not (tmp_path / "runs").exists()
