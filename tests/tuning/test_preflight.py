"""Preflight: what can be refused is refused before any work starts, with a way out."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkdiv.core.config.load import load
from forkdiv.core.errors import UserError
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.tasks.registry import build
from forkdiv.train.pretrain import planned_base
from tests.docs.workspace import models
from tests.tuning.test_check_ray import HTTP_2, answering
from tuning import gcs, preflight
from tuning.check_ray import ray_address

BASE = Path(__file__).parents[2] / "forkdiv/models/base/graph-d3-l3"


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that someone listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def check(tmp_path: Path, *overrides: str) -> object:
    settings = [f"base={BASE}", f"place.root={tmp_path}", "place.dashboard=false"]
    return preflight.check(load(None, [*settings, *overrides]))


def refusal(tmp_path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        check(tmp_path, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert ": got " in message and "; allowed: " in message
    return message


def test_the_shipped_base_passes_and_is_returned(tmp_path: Path) -> None:
    assert check(tmp_path) == open_checkpoint(BASE)
    assert list(tmp_path.iterdir()) == []


def test_a_base_that_is_not_there_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "base=/no/such/folder")
    assert "/no/such/folder" in message and "forkdiv pretrain" in message


def test_a_base_that_does_not_know_the_tasks_words_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "task.names=18")
    assert "lacks words of the task" in message and "got q r;" in message


def test_a_response_limit_below_the_longest_correct_answer_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "decoder.max_new_tokens=4")
    assert (
        "decoder.max_new_tokens is too small for a correct response: got 4; allowed: at least 5"
        in message
    )
    check(tmp_path, "decoder.max_new_tokens=5")


def test_a_task_that_outgrows_the_context_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "short"
    shutil.copytree(BASE, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 20}))
    message = refusal(tmp_path, f"base={base}")
    assert "do not fit the context" in message and "at most 20" in message


def test_more_held_out_problems_than_the_task_has_are_refused(tmp_path: Path) -> None:
    small = ["task.names=7", "task.degree=2", "eval.problems=2000"]
    assert "too few distinct problems for the test split" in refusal(tmp_path, *small)


def test_held_out_problems_that_do_not_divide_over_the_subsets_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "eval.problems=7")
    assert "got 7; allowed: a multiple of 2 (signed, unsigned); set eval.problems to 6" in message


def test_a_checkpoint_is_refused_by_a_verb_that_trains_its_own(tmp_path: Path) -> None:
    assert f"checkpoint={BASE}" in refusal(tmp_path, f"checkpoint={BASE}")


# --- a base that is to be built -----------------------------------------------------------------


def test_checking_a_base_that_does_not_exist_yet_writes_no_files(tmp_path: Path) -> None:
    study = load(None, ["base=null", f"place.root={tmp_path}"])
    planned = check(tmp_path, "base=null")
    assert planned == planned_base(Store(tmp_path / "store"), build(study.task), study.pretrain)
    assert list(tmp_path.iterdir()) == []


def test_a_task_in_natural_language_needs_a_base(tmp_path: Path) -> None:
    message = refusal(tmp_path, "base=null", "task={kind: counterfactual_arithmetic}")
    assert "because its prompts are natural language: got base=null" in message
    assert "set base to a checkpoint" in message


def test_more_walked_problems_than_the_task_has_are_refused(tmp_path: Path) -> None:
    small = ["base=null", "task.names=7", "task.degree=2", "eval.problems=20"]
    message = refusal(tmp_path, *small, "pretrain.examples=5000")
    assert "too few distinct problems for the pretrain split" in message
    check(tmp_path, *small, "pretrain.examples=2500")


# --- prompts ------------------------------------------------------------------------------------


def test_a_chat_template_that_the_base_does_not_have_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "prompt.template=chat")
    assert "has no chat template: got prompt.template=chat" in message
    assert "prompt.template=plain or raw" in message


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_chat_template_beside_the_tokenizer_or_in_its_config_is_found(
    tmp_path: Path, where: str
) -> None:
    base = tmp_path / "chat"
    shutil.copytree(BASE, base)
    if where == "tokenizer_config.json":
        settings = json.loads((base / where).read_text())
        (base / where).write_text(json.dumps(settings | {"chat_template": "{{ messages }}"}))
    else:
        (base / where).write_text("{{ messages }}")
    check(tmp_path, f"base={base}", "prompt.template=chat")


@pytest.mark.parametrize("root", ["/proc/forkdiv", "/dev/null/runs"])
def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path: Path, root: str) -> None:
    assert "place.root" in refusal(tmp_path, f"place.root={root}")


def test_a_file_where_the_output_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(tmp_path, f"place.root={tmp_path / 'file'}")


def test_a_nearly_full_disk_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "place.min_free_mib=1000000000000")
    assert "nearly full" in message and "at least 1000000000000 MiB" in message
    assert list(tmp_path.iterdir()) == []


def test_a_dashboard_port_in_use_is_refused(tmp_path: Path, taken: int) -> None:
    message = refusal(tmp_path, "place.dashboard=true", f"place.dashboard_port={taken}")
    assert f"got {taken};" in message and "place.dashboard=false" in message


def test_no_port_is_asked_for_without_a_dashboard_or_on_a_running_ray(
    tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = f"place.dashboard_port={taken}"
    check(tmp_path, port)
    monkeypatch.setattr(gcs, "check_joinable", lambda *_: None)  # what answers is no real head
    with answering(HTTP_2) as address:
        check(tmp_path, port, "place.dashboard=true", f"place.ray_address={address}")
        monkeypatch.setenv("RAY_ADDRESS", address)
        check(tmp_path, port, "place.dashboard=true")


def test_a_port_whose_last_connection_still_lingers_is_free(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()  # the side that closes first is the one that lingers
            client.recv(1)
    with pytest.raises(OSError, match="in use"), socket.socket() as plain:
        plain.bind(("127.0.0.1", port))
    check(tmp_path, "place.dashboard=true", f"place.dashboard_port={port}")


def test_the_ray_to_join_is_the_configs_before_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = load(None).place
    assert ray_address(place) is None
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert ray_address(place) is None
    monkeypatch.setenv("RAY_ADDRESS", "there:1")
    assert ray_address(place) == "there:1"
    assert ray_address(load(None, ["place.ray_address=here:2"]).place) == "here:2"


def test_a_chat_template_is_refused_with_a_base_that_is_to_be_built(tmp_path: Path) -> None:
    assert "prompt.template=chat" in refusal(tmp_path, "base=null", "prompt.template=chat")


def test_a_task_that_outgrows_the_context_of_the_base_to_be_built_is_refused(
    tmp_path: Path,
) -> None:
    large = ["task.degree=10", "task.length=60", "task.names=700", "decoder.max_new_tokens=70"]
    assert "do not fit the context" in refusal(tmp_path, "base=null", *large)


def test_the_context_of_a_base_to_be_built_is_that_of_its_start(tmp_path: Path) -> None:
    start = shutil.copytree(BASE, tmp_path / "start")
    config = json.loads((start / "config.json").read_text())
    (start / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 20}))
    assert "at most 20" in refusal(tmp_path, "base=null", f"pretrain.start={start}")
    check(tmp_path, "base=null", f"pretrain.start={BASE}")


def test_a_start_that_is_not_there_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "base=null", "pretrain.start=/no/such/folder")
    assert "/no/such/folder" in message


def test_a_command_that_measures_nothing_needs_no_held_out_problems(tmp_path: Path) -> None:
    rows = [{"question": f"a{n}", "solution": f"b{n}"} for n in range(3)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = load(None, [f"task.train={file}", "place.dashboard=false", f"place.root={tmp_path}"])
    study = small.model_copy(update={"base": models() / "base"})
    assert build(study.task).available("test") == 0
    preflight.check(study, measures=False)
    with pytest.raises(UserError, match="no problems in the test split"):
        preflight.check(study)
