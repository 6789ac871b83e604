"""Two checkpoints that exist, compared on the real stack: any folder, and a run of several."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from tests import stack
from tests.adapters import saved_adapter
from tests.checkpoints import with_norm
from tests.checkpoints_tokens import chat_checkpoint, edit
from tests.tuning.conftest import Study
from tuning.comparison import Pair, asked_differently


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with two saved checkpoints, as trainers leave it."""
    folder = tmp_path_factory.mktemp("run")
    for step, factor in ((100, 1.2), (200, 1.6)):
        with_norm(folder / f"checkpoint-{step}", factor)
    return folder


def test_one_engine_is_started_for_checkpoints_of_one_shape_and_another_for_others(
    run: Path, tmp_path: Path
) -> None:
    base = open_checkpoint(stack.BASE)
    tuned: dict[float, Checkpoint] = {
        int(p.name.split("-")[1]): open_checkpoint(p) for p in sorted(run.iterdir())
    }
    assert Pair(base, tuned, "step").engines == [[base, *tuned.values()]]
    shutil.copytree(stack.BASE, other := tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    alone = open_checkpoint(other)
    assert Pair(base, {0: alone}, "epoch").engines == [[base], [alone]]


def test_checkpoints_with_other_tokens_and_templates_share_an_engine_and_it_is_said(
    tmp_path: Path,
) -> None:
    first = chat_checkpoint(tmp_path / "first")
    second = Path(shutil.copytree(first, tmp_path / "second"))
    study = load(None, ["task.kind=short_facts", "prompt.template=chat"])
    same = Pair(open_checkpoint(first), {0: open_checkpoint(second)}, "epoch")
    assert asked_differently(study, same) is None
    edit(second / "generation_config.json", eos_token_id=2)
    edit(second / "tokenizer.json", normalizer={"type": "Lowercase"})
    (second / "chat_template.jinja").write_text("{{ messages[0]['content'] }}:")
    pair = Pair(open_checkpoint(first), {0: open_checkpoint(second)}, "epoch")
    assert [len(group) for group in pair.engines] == [2]
    assert asked_differently(study, pair) == (
        "the base and the tuned checkpoint are each asked in their own way; they differ in chat "
        "templates and end tokens (<|endoftext|> against <|endoftext|>, <|im_end|>); "
        f"prompt.template=chat prompt.chat_template={second} asks both with the tuned one's "
        "template"
    )


@dataclass(frozen=True)
class Compared:
    """A comparison beside a study that drew 8 samples of the base; it draws 12 of everything."""

    root: Path
    command: tuple[str, ...]
    output: str


@pytest.fixture(scope="module")
def compared(study: Study, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    root = tmp_path_factory.mktemp("compared")
    shutil.copytree(study.root / "store" / "samples", root / "store" / "samples")
    command = ("eval.k=[1,8]", "eval.samples=12", "sft.save_epochs=[]", f"checkpoint={run}")
    return Compared(root, command, stack.run("compare", root, *command).stdout)


@pytest.mark.stack
def test_a_run_is_compared_with_its_base_and_its_earlier_checkpoints_are_dynamics(
    compared: Compared,
) -> None:
    found = json.loads((compared.root / "micro" / "summary.json").read_text())
    assert [cell["subset"] for cell in found["cells"]] == ["signed", "unsigned", "all"]
    assert {cell["epoch"] for cell in found["cells"]} == {200}
    assert {cell["epoch"] for cell in found["dynamics"]} == {100}
    assert found["unit"] == "step"
    for cell in [*found["base"], *found["cells"], *found["dynamics"]]:
        assert cell["valid"] and cell["agreement"]["agrees"]
        assert cell["n_samples"] == 12
        assert cell["valid_solutions"] == 2, "one path, forward or reverse"
    assert all(cell["delta_to_base"].keys() == {"1", "8"} for cell in found["cells"])
    assert f"report: {compared.root / 'micro' / 'report.html'}" in compared.output
    again = stack.run("compare", compared.root, *compared.command)
    assert "these results exist and are reused" in again.stdout


@pytest.mark.stack
def test_an_adapter_is_compared_as_the_base_with_the_adapter_merged_in(
    study: Study, tmp_path: Path
) -> None:
    root = tmp_path / "compared"
    shutil.copytree(study.root / "store" / "samples", root / "store" / "samples")
    adapter = saved_adapter(tmp_path / "adapter")
    stack.run("compare", root, "eval.k=[1,8]", f"checkpoint={adapter}")
    found = json.loads((root / "micro" / "summary.json").read_text())
    assert found["checkpoints"]["tuned"] == {"0": str(adapter)}
    for cell in found["cells"]:
        # the samples of vLLM have the probabilities that transformers computes from the files
        assert cell["valid"] and cell["agreement"]["agrees"]
    base, tuned = (
        next(cell for cell in found[part] if cell["subset"] == "all") for part in ("base", "cells")
    )
    assert base["exact_pass_at"] != tuned["exact_pass_at"]


@pytest.mark.stack
def test_more_samples_extend_what_is_there(study: Study, compared: Compared) -> None:
    """Eight samples of each of 20 problems are there; twelve draw only the other four of the
    base, of their own seeds, and all twelve of what was never sampled."""
    assert compared.output.count("sampling: 80 samples") == 1
    assert compared.output.count("sampling: 240 samples") == 2
    before, after = (
        {path.name for path in (root / "store" / "samples").iterdir()}
        for root in (study.root, compared.root)
    )
    assert before < after and len(after - before) == 2
    # a job that asks for what is there finds it
    done = stack.run("sample", compared.root, f"checkpoint={stack.BASE}", "eval.samples=12")
    assert "sampling" not in done.stdout
    folder = done.stdout.strip().splitlines()[-1].removeprefix("samples: ")
    assert Path(folder).name in before
