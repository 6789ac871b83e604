"""Commands whose settings name models and datasets of the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forkdiv.cli import app
from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.core.fingerprint import Identity
from forkdiv.core.hub_names import Source
from forkdiv.coverage import summary
from jobs.serve import named_checkpoints
from tests.hub_server import Hub, folder_files
from tests.stack import BASE
from tuning import by_name
from tuning.outcome import obtain_summary
from tuning.study_record import _flat

FILES = folder_files(BASE)
ROWS = "".join(
    json.dumps({"question": f"What is {n} + 1?", "answer": f"{n} + 1\n#### {n + 1}"}) + "\n"
    for n in range(40)
).encode()


@pytest.fixture(autouse=True)
def here(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    hub.repo("org/base").push(FILES)
    hub.repo("org/sums", "dataset").push({"train.jsonl": ROWS, "test.jsonl": ROWS})
    return tmp_path


def forkdiv(*arguments: str, status: int = 0) -> str:
    """What a command prints, and the line that it ends with if it fails."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == status, done.output
    return " ".join(done.output.split()) if status else done.output


def resolved(verb: str, *settings: str) -> tuple[StudyConfig, list[str]]:
    lines: list[str] = []
    reads = ("base", "checkpoint", "data", "task", "audit", "prompt", "plan")
    return by_name.resolve(load(None, settings), verb, reads, lines.append), lines


def test_every_setting_for_a_checkpoint_takes_a_name(hub: Hub) -> None:
    commit = hub.repo("org/base").refs["main"]
    study, lines = resolved(
        "audit", "base=org/base", "checkpoint=org/base@main", f"audit.model=org/base@{commit}"
    )
    folders = {study.base, study.checkpoint, study.audit.model}
    assert len(folders) == 1
    (folder,) = folders
    assert folder and folder.is_absolute() and (folder / "model.safetensors").is_file()
    assert f"base: org/base is commit {commit} on the Hugging Face Hub" in lines
    assert Source("checkpoint", "org/base@main", commit) in study.sources


def test_every_setting_for_data_takes_a_name_and_says_which_split(hub: Hub) -> None:
    study, lines = resolved("compare", "data=org/sums", "task.kind=file", "task.train=org/sums")
    assert study.data and study.data.name == "org-sums-test.jsonl"
    assert study.task.model_dump()["train"].name == "org-sums-train.jsonl"
    assert sum("split test, 40 rows" in line for line in lines) == 1
    audited, _ = resolved("audit", "data=org/sums")
    assert audited.data and audited.data.name == "org-sums-train.jsonl"


def test_names_of_the_hub_do_not_change_a_fingerprint_their_files_do() -> None:
    named, _ = resolved("study", "base=org/base")
    plain = load(None, [f"base={named.base}"])
    assert named.model_dump() == plain.model_dump()


def test_a_study_without_names_asks_nobody(hub: Hub) -> None:
    resolved("study")
    assert hub.requests == []


def test_a_verb_resolves_only_what_it_reads(hub: Hub, here: Path) -> None:
    text = forkdiv("store", "ls", "base=org/none", f"place.root={here / 'runs'}", status=2)
    assert "there is no store" in text
    assert hub.requests == []


def test_a_plan_needs_no_weights(hub: Hub) -> None:
    hub.repo("org/base").push({"config.json": FILES["config.json"]})
    text = forkdiv("plan", "base=org/base", "plan.architecture=org/base")
    assert "parameters" in text
    assert not any("safetensors" in line for line in hub.requests)


def test_a_chat_template_is_that_of_a_model_on_the_hub(hub: Hub) -> None:
    hub.repo("org/chat").push(
        {"config.json": FILES["config.json"], "chat_template.jinja": b"{{ messages }}!"}
    )
    study, _ = resolved("compare", "prompt.template=chat", "prompt.chat_template=org/chat")
    assert study.prompt.chat_template == "{{ messages }}!"
    text = forkdiv(*("compare", "prompt.template=chat", "prompt.chat_template=org/base"), status=2)
    assert "prompt.chat_template=org/base has no chat template" in text


def test_a_name_that_is_wrong_is_refused_before_anything_large_is_downloaded(hub: Hub) -> None:
    text = forkdiv("compare", "--base", "org/base", "--tuned", "org/tuned", status=2)
    assert "org/tuned is neither on this machine nor a model on the Hugging Face Hub" in text
    assert not any("safetensors" in line for line in hub.requests)


def test_a_device_that_is_not_there_is_refused_before_anything_large_is_downloaded(
    hub: Hub,
) -> None:
    text = forkdiv(
        *("compare", "--base", "org/base", "--tuned", "org/base", "place.device=gpu"), status=2
    )
    assert "place.device=gpu cannot be used on this machine" in text
    assert not any("safetensors" in line for line in hub.requests)


def test_the_device_of_a_cluster_counts_but_for_an_audit_which_runs_here(hub: Hub) -> None:
    settings = ["base=org/base", "place.device=gpu", "place.ray_address=127.0.0.1:9"]
    study, _ = resolved("sample", *settings)
    assert study.base and (study.base / "model.safetensors").is_file()
    with pytest.raises(UserError, match=r"place.device=gpu cannot be used on this machine"):
        resolved("audit", *settings)


def test_a_dot_before_a_text_makes_it_a_path_in_options_and_settings(hub: Hub) -> None:
    for arguments in (["--base", "./org/base"], ["base=./org/base"]):
        text = forkdiv("compare", "--tuned", str(BASE), *arguments, status=2)
        assert "the checkpoint does not exist" in text
    assert "the checkpoint does not exist" in forkdiv(
        *("serve", "--checkpoints", "./org/base", "./org/tuned"), status=2
    )
    assert hub.requests == []


def test_a_folder_wins_over_a_name_and_a_model_in_the_cache_is_mentioned(here: Path) -> None:
    shutil.copytree(BASE, here / "org/base")
    study, lines = resolved("study", "base=org/base")
    assert (study.base, lines) == (here / "org/base", [])
    resolved("study", "base=org/base@main")
    _, lines = resolved("study", "base=org/base")
    assert lines == [
        "note: base=org/base is a path on this machine, and is used instead of the model org/base "
        "of the Hugging Face Hub"
    ]


def test_checkpoints_of_the_hub_are_averaged(here: Path) -> None:
    text = forkdiv(
        *("interpolate", "--base", "org/base", "--tuned", "org/base@main", "0.5"),
        f"place.root={here / 'runs'}",
    )
    assert "base: org/base is commit" in text
    assert "alpha 0.5: " in text


def test_a_dataset_of_the_hub_is_audited(hub: Hub, here: Path) -> None:
    other = ROWS.replace(b" + 1\\n####", b" + 1 =\\n####")
    hub.repo("org/sums", "dataset").push({"train.jsonl": ROWS + other})
    text = forkdiv(
        "audit", "--data", "org/sums", f"place.root={here / 'runs'}", "audit.ways=[tree]"
    )
    assert "split train, 80 rows" in text
    (line,) = (here / "runs/study/sources.jsonl").read_text().splitlines()
    commit = hub.repo("org/sums", "dataset").refs["main"]
    expected = {"command": "audit", "setting": "data", "name": "org/sums", "commit": commit}
    assert expected.items() <= json.loads(line).items()
    refused = forkdiv(
        *("audit", "--data", "org/sums", "task.kind=file", "task.columns.prompt=query"),
        *(f"place.root={here / 'runs'}", "audit.ways=[tree]"),
        status=2,
    )
    assert "got 'query'; allowed: 'question', 'answer'" in refused


def test_a_server_calls_a_checkpoint_as_it_was_named(hub: Hub) -> None:
    lines: list[str] = []
    served = named_checkpoints(
        load(None, []), [Path("org/base"), Path("org/base@main"), BASE], lines.append
    )
    assert list(served) == ["org/base", "org/base@main", BASE.name]
    assert len({checkpoint.fingerprint for checkpoint in served.values()}) == 1
    assert lines[0].startswith("--checkpoints: org/base is commit")


def test_the_records_of_a_study_have_the_commits(hub: Hub) -> None:
    commit = hub.repo("org/base").refs["main"]
    study, _ = resolved("study", "base=org/base")
    swept = study.model_copy(update={"name": "other"})
    identity = Identity("study", {"test": 1})
    made = summary.assemble(swept, identity.fingerprint, (), [], {})
    for named in (swept, resolved("study", "base=org/base@main")[0]):  # computed, then reused
        done = obtain_summary(named, identity, lambda: made, print)
        name = named.sources[0].name
        assert done.notes[-1] == f"base: {name} is commit {commit} on the Hugging Face Hub"
        assert sum("Hugging Face Hub" in note for note in done.notes) == 1
    assert _flat(swept)["source.base"] == f"org/base at {commit}"


def test_a_checkpoint_in_the_cache_is_copied_whole_to_where_other_nodes_read_it(here: Path) -> None:
    """The cache has links to files outside the folder, which would not reach another node."""
    from tuning.session import _copy

    study, _ = resolved("study", "base=org/base")
    assert study.base and (study.base / "model.safetensors").is_symlink()
    _copy(study.base, here / "shared")
    copied = [path for path in (here / "shared").rglob("*") if path.is_file()]
    assert sorted(path.name for path in copied) == sorted(FILES)
    assert not any(path.is_symlink() for path in copied)
