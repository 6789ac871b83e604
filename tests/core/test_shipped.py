"""What is shipped is found by name, whatever the current folder is."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkdiv.core.config import shipped
from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.models.checkpoint import open_checkpoint

NAMED = shipped.configs()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_named_config_and_the_base_it_names_are_found_from_an_empty_folder() -> None:
    study = load(Path("quickstart"))
    assert study.name == "quickstart"
    assert study.base == shipped.bases()["graph-d3-l3"]
    assert study.base and open_checkpoint(study.base).fingerprint


def test_an_architecture_is_found_by_its_name() -> None:
    study = load(Path("arithmetic-chain-7b"))
    assert study.plan.architecture == shipped.architectures()["qwen2.5-7b"]
    assert study.plan.architecture and study.plan.architecture.is_file()


@pytest.mark.parametrize("name", NAMED)
def test_every_named_config_opens_with_the_question_it_answers(name: str) -> None:
    question = shipped.question(NAMED[name])
    assert 20 < len(question) < 160 and question.endswith("?") and "  " not in question


def test_an_existing_path_wins_over_a_name(elsewhere: Path) -> None:
    (elsewhere / "quickstart").write_text("name: own\n")
    assert load(Path("quickstart")).name == "own"
    (elsewhere / "own.yaml").write_text("name: own-too\n")
    assert load(Path("own.yaml")).name == "own-too"


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("quickstrat", ("got quickstrat", "quickstart, ", "did you mean quickstart?")),
        ("zzz", ("got zzz", "own-data", "forkdiv configs")),
        ("none.yaml", ("cannot be read", "none.yaml")),
        ("jobs/quickstart", ("cannot be read", "jobs/quickstart")),
    ],
)
def test_an_unknown_config_is_refused_with_the_list_and_the_nearest(
    given: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as refused:
        load(Path(given))
    assert [part for part in parts if part not in str(refused.value)] == [], refused.value


def test_a_shipped_base_keeps_its_name_where_a_folder_has_it_too(elsewhere: Path) -> None:
    """A result must not depend on what lies in the current folder; ./NAME is that folder."""
    (elsewhere / "graph-d3-l3").mkdir()
    assert load(None, ["base=graph-d3-l3"]).base == shipped.bases()["graph-d3-l3"]
    assert load(None, [f"base={elsewhere}/graph-d3-l3"]).base == elsewhere / "graph-d3-l3"
    assert StudyConfig().base == shipped.bases()["graph-d3-l3"]


def test_a_path_is_fixed_where_it_is_read(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load(None, ["base=./models/own", "checkpoint=tuned"])
    monkeypatch.chdir("/")
    assert (study.base, study.checkpoint) == (elsewhere / "models/own", elsewhere / "tuned")
    assert StudyConfig.model_validate(study.model_dump(mode="json")) == study


def test_a_missing_base_is_refused_with_the_shipped_bases() -> None:
    base = load(None, ["base=graph-d3-l4"]).base
    assert base
    with pytest.raises(UserError, match=r"does not exist: got .*graph-d3-l4; .*: graph-d3-l3;"):
        open_checkpoint(base)
