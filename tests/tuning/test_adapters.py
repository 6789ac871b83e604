"""Adapters in the place of checkpoints: what commands make of them before any work starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.models.loading import load_model
from jobs import compare, export, interpolate
from jobs.serve import named_checkpoints
from tests.adapters import saved_adapter
from tests.checkpoints_tokens import edit
from tests.hub_server import Hub, folder_files
from tests.stack import BASE
from tuning import adapters


def study(root: Path, *settings: str) -> StudyConfig:
    return load(None, [f"place.root={root / 'runs'}", "place.dashboard=false", *settings])


def elsewhere(folder: Path) -> Path:
    edit(folder / "adapter_config.json", base_model_name_or_path="org/model")
    return folder


def test_a_base_and_a_checkpoint_that_are_adapters_are_merged_in_the_store(tmp_path: Path) -> None:
    first = saved_adapter(tmp_path / "first")
    second = saved_adapter(tmp_path / "second", seed=1)
    lines: list[str] = []
    asked = study(tmp_path, f"base={first}", f"checkpoint={second}")
    whole = adapters.with_merged(asked, lines.append)
    assert whole.base and whole.checkpoint
    for path in (whole.base, whole.checkpoint):
        assert path.is_relative_to(tmp_path / "runs" / "store" / "adapter")
        load_model(path)
    assert sum("merging the adapter" in line for line in lines) == 2
    again = adapters.with_merged(asked, lines.append)
    assert (again.base, again.checkpoint) == (whole.base, whole.checkpoint)
    assert sum("merging the adapter" in line for line in lines) == 2
    plain = study(tmp_path, f"base={BASE}")
    assert adapters.with_merged(plain, lines.append) is plain


def test_a_merged_base_brings_its_number_format(tmp_path: Path) -> None:
    base = Path(shutil.copytree(BASE, tmp_path / "base"))
    edit(base / "config.json", dtype="bfloat16")
    asked = study(tmp_path, f"base={saved_adapter(tmp_path / 'a', base)}")
    lines: list[str] = []
    assert adapters.with_merged(asked, lines.append).decoder.dtype == "bfloat16"
    assert any("decoder.dtype=bfloat16" in line for line in lines)


def test_the_base_of_the_comparison_serves_where_the_adapters_own_is_not_here(
    tmp_path: Path,
) -> None:
    adapter = elsewhere(saved_adapter(tmp_path / "adapter"))
    lines: list[str] = []
    asked = study(tmp_path, f"base={BASE}", f"checkpoint={adapter}")
    first = adapters.with_merged(asked, lines.append).checkpoint
    assert any("org/model) is not here: base=" in line for line in lines)
    given = study(tmp_path, f"adapter_base={BASE}", f"checkpoint={adapter}")
    assert adapters.with_merged(given, lines.append).checkpoint == first
    with pytest.raises(UserError, match="set adapter_base=DIR"):  # the default base is no answer
        adapters.with_merged(study(tmp_path, f"checkpoint={adapter}"), lines.append)


def test_a_base_that_only_the_hub_has_is_downloaded_at_its_revision(
    tmp_path: Path, hub: Hub
) -> None:
    commit = hub.repo("org/model").push(folder_files(BASE))
    later = Path(shutil.copytree(BASE, tmp_path / "later"))
    edit(later / "config.json", notes="x")
    hub.repo("org/model").push(folder_files(later))
    adapter = saved_adapter(tmp_path / "adapter")
    edit(adapter / "adapter_config.json", base_model_name_or_path="org/model", revision=commit)
    lines: list[str] = []
    whole = adapters.merged(study(tmp_path), adapter, lines.append)
    load_model(whole)
    assert any(line.endswith(f"at {commit}") for line in lines)
    assert "notes" not in (whole / "config.json").read_text()
    edit(adapter / "adapter_config.json", base_model_name_or_path="org/missing", revision=None)
    with pytest.raises(UserError, match=r"cannot be had .*or set adapter_base=DIR"):
        adapters.merged(study(tmp_path), adapter, lines.append)


def test_an_adapter_beside_the_weights_of_its_base_is_the_model(tmp_path: Path) -> None:
    both = saved_adapter(Path(shutil.copytree(BASE, tmp_path / "both")))
    alone = saved_adapter(tmp_path / "alone")
    asked = study(tmp_path)
    lines: list[str] = []
    first = adapters.merged(asked, both, lines.append)
    assert any("weights beside its adapter" in line for line in lines)
    second = adapters.merged(asked, alone, lines.append)
    assert first != second, "the folder with weights has a tokenizer of its own"
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    edit(both / "adapter_config.json", base_model_name_or_path="org/model")
    with pytest.raises(UserError, match="is not on this machine"):
        adapters.merged(asked, both, lines.append)


def test_adapters_have_the_names_of_their_folders_when_they_are_served(tmp_path: Path) -> None:
    for step in (5, 10):
        saved_adapter(tmp_path / "run" / f"checkpoint-{step}", seed=step)
    asked = study(tmp_path)
    served = named_checkpoints(asked, [BASE, tmp_path / "run"], lambda line: None)
    assert list(served) == [BASE.name, "run/checkpoint-5", "run/checkpoint-10"]
    assert len({checkpoint.fingerprint for checkpoint in served.values()}) == 3


def test_interpolation_at_1_writes_the_base_with_the_adapter_merged_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = saved_adapter(tmp_path / "adapter")
    asked = study(tmp_path, f"base={BASE}", f"checkpoint={adapter}", "sweep.interpolation=[0.5,1]")
    interpolate.run(asked)
    lines = capsys.readouterr().out.replace("\n", "").split("alpha ")
    paths = [Path(line.partition(": ")[2]) for line in lines if line.startswith(("0.5:", "1:"))]
    whole = adapters.merged(asked, adapter, lambda line: None)
    assert (paths[1] / "model.safetensors").read_bytes() == (
        whole / "model.safetensors"
    ).read_bytes()
    assert open_checkpoint(paths[0]).fingerprint != open_checkpoint(paths[1]).fingerprint


def test_bad_data_is_found_before_an_adapter_is_merged(tmp_path: Path) -> None:
    adapter = saved_adapter(tmp_path / "adapter")
    asked = study(tmp_path, f"base={BASE}", f"checkpoint={adapter}", f"data={tmp_path / 'none'}")
    with pytest.raises(UserError):
        compare.run(asked)
    assert not (tmp_path / "runs" / "store" / "adapter").exists()


def test_an_adapter_is_exported_as_the_model_that_was_compared(tmp_path: Path) -> None:
    adapter = saved_adapter(tmp_path / "adapter")
    asked = study(tmp_path, f"base={BASE}", f"checkpoint={adapter}")
    base, tuned = export.models_of(asked, Store.of(asked.place))
    whole = adapters.merged(asked, adapter, lambda line: None)
    assert tuned.checkpoint == open_checkpoint(whole) and base.checkpoint == open_checkpoint(BASE)


@pytest.mark.parametrize(
    ("settings", "options", "part"),
    [
        (["checkpoint=run"], {"watch": Path("run")}, "--watch takes the place of --tuned"),
        ([], {"watch": Path("run"), "search": True}, "--watch takes the place of --tuned"),
        ([], {"search": True}, "compare needs two checkpoints"),
        ([], {"watch": Path("missing")}, "the folder to watch does not exist"),
    ],
)
def test_options_of_compare_that_exclude_each_other_are_refused(
    tmp_path: Path, settings: list[str], options: dict[str, object], part: str
) -> None:
    with pytest.raises(UserError, match=part):
        compare.run(study(tmp_path, f"base={BASE}", *settings), **options)  # type: ignore[arg-type]
