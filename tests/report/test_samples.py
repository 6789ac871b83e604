"""Samples by problem and verdict, on a page of bounded size that says what it leaves out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forkdiv.core.results import (
    ShownModel,
    ShownProblem,
    ShownResponse,
    ShownSamples,
    TrackedRun,
)
from forkdiv.report import page, samples
from forkdiv.report.page import Link
from tests.report.test_page import Page
from tests.summaries import grid_summary


def shown(problems: int = 2, text: str = "a right path", all_problems: int = 5) -> ShownSamples:
    answers = (
        ShownResponse(outcome="correct", detail="", times=3, text=text),
        ShownResponse(outcome="wrong", detail="other ends", times=1, text="<b>wrong</b>", hidden=7),
    )
    made = tuple(
        ShownProblem(
            id=f"p{i}",
            prompt=f"prompt {i}",
            counts={"correct": 3, "wrong": 1},
            responses=answers,
            more=2,
        )
        for i in range(problems)
    )
    models = (ShownModel(name="base", problems=made), ShownModel(name="<i>", problems=made))
    return ShownSamples(study="s", samples=4, all_problems=all_problems, models=models)


def test_every_problem_has_every_models_answers_with_their_verdicts(tmp_path: Path) -> None:
    text = samples.write(shown(), tmp_path).read_text()
    assert re.findall(r"<summary><b>(p\d)</b> base 3 of 4, &lt;i&gt; 3 of 4", text) == ["p0", "p1"]
    assert text.count("✓ correct, 3 times") == 4
    assert text.count("✗ wrong, once: other ends") == 4
    assert "&lt;b&gt;wrong&lt;/b&gt;" in text and "<b>wrong" not in text and "<i>" not in text
    assert text.count("… and 7 more characters.") == 4
    assert text.count("2 more distinct responses are not shown") == 4


def test_the_page_needs_no_script_and_filters_by_the_verdicts_there_are(tmp_path: Path) -> None:
    text = samples.write(shown(), tmp_path).read_text()
    assert not {"script", "link", "img"} & set(Page(text).tags)
    assert re.findall(r'id="only-(\w+)"', text) == ["all", "correct", "wrong"]
    assert "body:has(#only-wrong:checked)" in text and "only-truncated" not in text


def test_what_does_not_fit_is_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the first 2 of 5 problems" in samples.write(shown(), tmp_path).read_text()
    whole = samples.write(shown(all_problems=2), tmp_path).read_text()
    assert "on all 2 problems" in whole
    monkeypatch.setattr(samples, "MAX_PAGE_CHARS", 5_000)
    long = samples.write(shown(problems=5, text="x" * 1000), tmp_path).read_text()
    assert "the first 2 of 5 problems; the others are not on this page" in long
    assert len(long) < 20_000


def test_the_report_leads_to_its_samples_and_to_mlflow(tmp_path: Path) -> None:
    links = [Link("", "Samples", "samples.html", after=". "), Link("start ", "mlflow ui <x>")]
    text = page.write(grid_summary(), tmp_path, links).read_text()
    assert '<a href="samples.html">Samples</a>. start mlflow ui &lt;x&gt;' in text


def test_a_tracked_run_is_kept_beside_the_summary_without_secrets(tmp_path: Path) -> None:
    assert TrackedRun.kept_in(tmp_path) is None
    run = TrackedRun.of("https://me:secret@host:5000/", "3", "abc")
    run.keep_in(tmp_path)
    assert TrackedRun.kept_in(tmp_path) == run
    assert run.url == "https://host:5000/#/experiments/3/runs/abc?workflowType=machine_learning"
    local = TrackedRun.of("sqlite:////runs/mlflow.db", "3", "abc")
    assert not local.is_server and local.url.startswith("http://127.0.0.1:5000/#/experiments/3/")
