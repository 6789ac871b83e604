"""The sections of a study: its task, data and prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from forkdiv.core.config.load import load
from forkdiv.core.config.study import (
    AXES,
    DATA_AXES,
    DatasetConfig,
    PromptConfig,
    StudyConfig,
    SweepConfig,
)
from forkdiv.core.config.sweep import ALIASES, LATER
from forkdiv.core.config.tasks import config_class, task_adapter
from forkdiv.core.errors import UserError
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.registry import TASKS
from tests.core.test_config import refusal

# --- tasks --------------------------------------------------------------------------------------

NEEDED = {"file": {"test": "a.jsonl"}, "benchmark": {"test": "a.jsonl", "benchmark": "gsm8k"}}
A_TASK = {kind: {"kind": kind} | NEEDED.get(kind, {}) for kind in TASKS}


@pytest.mark.parametrize("kind", TASKS)
def test_a_task_is_the_config_of_its_kind_and_survives_json(kind: str) -> None:
    task = StudyConfig.model_validate({"task": A_TASK[kind]}).task
    assert type(task) is config_class(kind) and task.kind == kind
    assert task_adapter.validate_json(task.model_dump_json()) == task
    study = StudyConfig(task=task)
    assert StudyConfig.model_validate(study.model_dump(mode="json")) == study


def test_a_task_without_a_kind_is_graph_branching() -> None:
    assert load(None, ["task={degree: 4, names: 20}"]).task == GraphBranchingConfig(
        degree=4, names=20
    )


@pytest.mark.parametrize("override", ["task=3", "task=[]", "task={kind: null}"])
def test_an_unknown_task_is_refused_with_all_kinds(override: str) -> None:
    message = refusal(None, override)
    assert "graph_branching" in message and "discriminator" not in message


@pytest.mark.parametrize(
    ("shape", "nodes"),
    [({}, 10), ({"valid": 2}, 9), ({"forks": 2}, 19), ({"degree": 4, "valid": 3, "forks": 2}, 21)],
)
def test_a_graph_task_takes_as_few_names_as_it_has_nodes(shape: dict[str, int], nodes: int) -> None:
    assert GraphBranchingConfig.model_validate(shape | {"names": nodes}).nodes == nodes
    with pytest.raises(ValidationError, match=f"at least {nodes}"):
        GraphBranchingConfig.model_validate(shape | {"names": nodes - 1})


def test_a_file_is_named_by_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = load(None, ["task={kind: file, train: data/a.jsonl}"]).task
    assert isinstance(task, FileConfig) and task.train == tmp_path / "data" / "a.jsonl"


# --- data and prompts ---------------------------------------------------------------------------


def test_every_data_axis_is_a_knob_of_the_data_and_an_axis_of_the_sweep() -> None:
    assert set(DATA_AXES) <= DatasetConfig.knobs() & set(SweepConfig.model_fields)
    short_names = set(SweepConfig.model_fields) - set(LATER)
    assert short_names == {*AXES, "decoder", "temperature", "seed"} == set(ALIASES)
    assert set(DATA_AXES) < set(AXES)


def test_no_number_of_examples_or_problems_is_the_tasks_own() -> None:
    study = load(None, ["dataset.examples=null", "eval.problems=null"])
    assert (study.dataset.examples, study.eval.problems) == (None, None)
    assert study == StudyConfig()


def test_base_null_means_the_base_that_pretrain_describes() -> None:
    assert load(None, ["base=null"]).base is None
    assert StudyConfig().base is not None


def test_a_system_text_is_taken_with_a_chat_template() -> None:
    prompt = load(None, ["prompt={template: chat, system: Be brief.}"]).prompt
    assert prompt == PromptConfig(template="chat", system="Be brief.")


def test_a_chat_template_is_read_from_a_file_or_a_checkpoint_and_kept_as_text(
    tmp_path: Path,
) -> None:
    (tmp_path / "own.jinja").write_bytes("{{ 'é' }}\r\n".encode())
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    for name, text in ((tmp_path / "own.jinja", "{{ 'é' }}\n"), (tmp_path, "{{ messages }}")):
        prompt = load(None, ["prompt.template=chat", f"prompt.chat_template={name}"]).prompt
        assert prompt.chat_template == text
        assert PromptConfig.model_validate(prompt.model_dump()) == prompt


def test_the_date_of_templates_is_read_as_text_or_as_a_date(tmp_path: Path) -> None:
    (tmp_path / "dated.yaml").write_text("prompt:\n  date: 2027-03-04\n")
    assert load(tmp_path / "dated.yaml").prompt.date == "2027-03-04"
    assert "date" not in PromptConfig().model_dump(), "fingerprints from before the setting hold"


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (["task.columns.answer=a"], "file"),
        (["task.grader=math", "task.seed=1"], "file"),
        (["task.on_bad_row=skip"], "file"),
        (["task.benchmark=gsm8k"], "benchmark"),
        (["task.benchmark=gsm8k", "task.grader=hash"], "benchmark"),
        (["task.seed=1"], "graph_branching"),
        ([], "graph_branching"),
    ],
)
def test_the_kind_of_a_task_follows_from_settings_that_one_task_has(
    settings: list[str], kind: str
) -> None:
    assert load(None, settings).task.kind == kind


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["task.colums.answer=a"], "task.colums: unknown key.*allowed: kind, seed, degree"),
        (["task.grader=math", "task.degree=3"], "task.grader: unknown key"),
        (["task.columns.anwser=a"], "task.columns.anwser: unknown key.*did you mean answer"),
        (["task.kind=graph_branching", "task.grader=math"], "task.grader: unknown key"),
    ],
)
def test_settings_of_no_single_task_are_refused_by_name(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(None, settings)


@pytest.mark.parametrize("base", ["graph-d3-l3", "/models/own", "org/name@main"])
def test_settings_with_paths_are_read_back_from_json(base: str) -> None:
    """The trials of a sweep get their study as JSON."""
    study = StudyConfig.model_validate({"base": base, "data": "/data/own.jsonl"})
    assert StudyConfig.model_validate_json(study.model_dump_json()) == study


def test_named_decoders_end_responses_as_the_studys_decoder_does() -> None:
    settings = ['decoder.stop=["Q:"]', "decoders.warm={temperature: 1.5}", "sweep.decoder=[warm]"]
    assert load(None, settings).decoders["warm"].stop == ("Q:",)
    assert "stop" not in load(None, []).decoder.model_dump(), "earlier fingerprints hold"
    with pytest.raises(UserError, match=r"stop=.*tree_samples=4 cannot be combined"):
        load(None, ['decoder.stop=["Q:"]', "decoder.tree_samples=4"])
