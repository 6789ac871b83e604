"""Every setting is an axis: by its path, with values that its own field accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkdiv.core.config.axes import NEVER, ONE_FOR_EACH, axis_fields, reason_against
from forkdiv.core.config.axis_names import is_measured, key_of, label, meaning, title
from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.config.sweep import ALIASES
from forkdiv.core.errors import UserError
from forkdiv.core.fingerprint import fingerprint_of

FIELDS = axis_fields(StudyConfig, type(StudyConfig().task))
FREE = [path for path in FIELDS if not reason_against(path)]


def varied(*overrides: str) -> dict[str, object]:
    return dict(load(None, overrides).sweep.by_path)


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(None, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", FREE)
def test_every_setting_that_decides_results_is_an_axis_of_its_own_default(path: str) -> None:
    value: object = StudyConfig()
    for part in path.split("."):
        value = getattr(value, part)
    text = StudyConfig.model_validate({"sweep": {"axes": {path: [value]}}})
    assert text.sweep.by_path == {path: (value,)}
    assert label(key_of(path)) and title(key_of(path)) and meaning(key_of(path)).startswith("is ")


@pytest.mark.parametrize("path", [*NEVER, *ONE_FOR_EACH])
def test_what_no_study_can_vary_is_refused_with_the_reason(path: str) -> None:
    message = refusal(f"sweep.axes.{path}=[1]")
    assert f"sweep.axes.{path} cannot be varied, because it " in message
    assert ("run one study for each value" in message) is (path in ONE_FOR_EACH)


def test_a_setting_below_a_section_that_cannot_be_varied_is_refused() -> None:
    assert "changes no result: got [2]" in refusal("sweep.axes.place.engine.replicas=[2]")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("sft.lerning_rate", "sft.learning_rate"),
        ("learning_rate", "sft.learning_rate"),
        ("sft.rank", "sft.lora.rank"),
        ("dataset.fork_densty", "dataset.fork_density"),
        ("task.degre", "task.degree"),
    ],
)
def test_an_unknown_path_is_refused_with_the_nearest_setting(path: str, hint: str) -> None:
    message = refusal(f"sweep.axes.{path}=[1]")
    assert f"sweep.axes.{path} is an unknown setting" in message
    assert message.endswith(f"did you mean {hint}?")


def test_a_field_without_a_short_name_is_refused_with_its_path() -> None:
    message = refusal("sweep.learning_rate=[1e-4]")
    assert message.endswith("did you mean sweep.axes.sft.learning_rate?")
    assert "sft is a section" in refusal("sweep.axes.sft=[1]")


@pytest.mark.parametrize(
    ("axis", "parts"),
    [
        ("sft.epochs=[1, 0]", ("sweep.axes.sft.epochs.1: got 0", "greater than or equal to 1")),
        ("sft.epochs=[1, x]", ("sweep.axes.sft.epochs.1: got 'x'", "valid integer")),
        ("sft.epochs=[1, yes]", ("got 'yes'",)),
        ("sft.epochs=[1, true]", ("does not accept true or false: got True",)),
        ("sft.epochs=3", ("is not a list: got 3", "{log: [low, high]}")),
        ("sft.epochs=[2, '2']", ("sft.epochs has a value twice",)),
        ("sft.loss=[gem, nope]", ("sweep.axes.sft.loss.1: unknown loss: got 'nope'",)),
        ("decoder.temperature=[3]", ("sweep.axes.decoder.temperature.0: got 3",)),
        ("sft.loss={range: [0, 1]}", ("is not a number",)),
        ("sft.learning_rate={range: [1, 0]}", ("low below high",)),
        ("sft.learning_rate={log: [0, 1], steps: 2}", ("two numbers above 0",)),
        ("sft.learning_rate={log: [1e-4, 1], step: 1}", ("`step` is for `range`",)),
        ("sft.learning_rate={range: [1e-4, 1], step: 3}", ("a step that fits",)),
        ("sft.learning_rate={range: [-1, 1], steps: 3}", ("got -1", "greater than 0")),
        ("sft.learning_rate={range: [1], steps: 3}", ("sweep.axes.sft.learning_rate.range",)),
        ("sft.learning_rate={range: [1, 2], count: 3}", ("sweep.axes.sft.learning_rate.count",)),
        ("sft.epochs={range: [1, 2.5], steps: 2}", ("got 2.5", "valid integer")),
        ("sft.learning_rate={log: [1e-5, 1e-3]}", ("without steps", "set sweep.search=random")),
    ],
)
def test_a_value_that_its_setting_refuses_is_refused_with_its_place(
    axis: str, parts: tuple[str, ...]
) -> None:
    message = refusal(f"sweep.axes.{axis}")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("sft.learning_rate={log: [1e-6, 1e-4], steps: 3}", (1e-6, 1e-5, 1e-4)),
        ("sft.weight_decay={range: [0, 1], steps: 5}", (0, 0.25, 0.5, 0.75, 1)),
        ("sft.weight_decay={range: [0, 0.3], step: 0.1}", (0, 0.1, 0.2, 0.3)),
        ("sft.lora.rank={range: [0, 16], step: 8}", (0, 8, 16)),
        ("sft.lora.rank={log: [1, 64], steps: 4}", (1, 4, 16, 64)),
        ("sft.epochs={range: [1, 3], steps: 5}", (1, 2, 3)),
        ("sft.save_epochs=[[1], [1, 2]]", ((1,), (1, 2))),
        ("dataset.examples=[null, 100]", (None, 100)),
        ("sft.learning_rate=['1e-4', 1e-3]", (1e-4, 1e-3)),
    ],
)
def test_lists_and_ranges_with_steps_are_the_values_of_the_setting(
    axis: str, values: tuple[object, ...]
) -> None:
    (read,) = varied(f"sweep.axes.{axis}").values()
    assert read == values
    assert isinstance(read, tuple) and [type(v) for v in read] == [
        type(v) if not isinstance(read[0], float) else float for v in values
    ]


@pytest.mark.parametrize(
    ("alias", "values"),
    [
        ("fork_density", "[0, 0.5]"),
        ("direction", "[1]"),
        ("branch_coverage", "[1, 2]"),
        ("structure", "[data-level]"),
        ("synthesis", "[none]"),
        ("loss", "[gem]"),
        ("interpolation", "[0.5, 1]"),
        ("temperature", "[0.7]"),
        ("seed", "[0, 1]"),
    ],
)
def test_a_short_name_and_its_path_are_one_axis_with_one_fingerprint(
    alias: str, values: str
) -> None:
    short = load(None, [f"sweep.{alias}={values}"])
    for name in (alias, ALIASES[alias]):
        long = load(None, [f"sweep.axes.{name}={values}"])
        assert long == short
        assert fingerprint_of(long.sweep.model_dump()) == fingerprint_of(short.sweep.model_dump())
    assert "axes" not in short.sweep.model_dump()


def test_paths_may_be_nested_or_dotted_and_the_command_line_wins(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text(
        "sweep:\n  fork_density: [0.0]\n  axes:\n    sft.learning_rate: [1.0e-4]\n"
        "    sft:\n      lora: {rank: [0, 16]}\n"
    )
    assert dict(load(config).sweep.by_path) == {
        "dataset.fork_density": (0.0,),
        "sft.learning_rate": (1e-4,),
        "sft.lora.rank": (0, 16),
    }
    over = load(config, ["sweep.axes.sft.learning_rate=[1e-3]", "sweep.axes.fork_density=[1]"])
    assert over.sweep.by_path["sft.learning_rate"] == (1e-3,)
    assert over.sweep.fork_density == (1.0,)
    without = load(config, ["sweep.axes.sft.learning_rate=[]"])
    assert "sft.learning_rate" not in without.sweep.by_path
    back = load(None, ["sweep.axes.dataset.fork_density=[0.5]", "sweep.fork_density=[0, 1]"])
    assert back.sweep.fork_density == (0.0, 1.0)


@pytest.mark.parametrize("task", ["5", "[a]", "{kind: [a]}", "{kind: nothing}"])
def test_a_task_that_is_wrong_is_refused_before_its_axes(task: str) -> None:
    assert refusal(f"task={task}", "sweep.axes.task.degree=[2]").startswith("task")


def test_an_axis_that_is_set_twice_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("sweep: {fork_density: [0.0], axes: {dataset.fork_density: [1.0]}}\n")
    with pytest.raises(UserError, match="is set twice"):
        load(config)


def test_the_order_of_the_axes_is_that_of_the_config() -> None:
    one = load(
        None, ["sweep.axes={sft.weight_decay: [0], dataset.examples: [100], sft.epochs: [1]}"]
    )
    assert list(one.sweep.axes) == ["dataset.examples", "sft.epochs", "sft.weight_decay"]


def test_a_study_with_axes_crosses_processes() -> None:
    study = load(
        None,
        [
            "sweep.axes={sft.learning_rate: {log: [1e-5, 1e-3]}, sft.save_epochs: [[1], []]}",
            *("sweep.search=random", "sweep.trials=3"),
        ],
    )
    assert StudyConfig.model_validate(study.model_dump(mode="json")) == study
    assert StudyConfig.model_validate_json(study.model_dump_json()) == study


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["sweep.search=random", "sweep.temperature=[1]"], "needs a number of trials"),
        (["sweep.search=random", "sweep.trials=3"], "has nothing to vary"),
        (["sweep.trials=3"], "has no effect with sweep.search=grid"),
    ],
)
def test_a_search_without_trials_or_axes_is_refused(overrides: list[str], part: str) -> None:
    assert part in refusal(*overrides)


def test_names_are_the_last_part_of_the_path_where_no_other_axis_has_it() -> None:
    assert [label(key) for key in ("sft.learning_rate", "sft.lora.rank", "fork_density")] == [
        "learning_rate",
        "rank",
        "density",
    ]
    # `alpha` is the short name of interpolation, and decoder.temperature is `temperature`
    assert label("sft.lora.alpha") == "sft.lora.alpha"
    assert label("synthesis.temperature") == "synthesis.temperature"
    labels = [label(key_of(path)) for path in FREE]
    assert len(set(labels)) == len(labels)


def test_what_changes_the_measuring_is_measured_for_the_base_as_well() -> None:
    assert [is_measured(key) for key in ("decoder.top_p", "eval.samples", "prompt.shots")] == [
        True,
        True,
        True,
    ]
    assert not any(map(is_measured, ("sft.epochs", "fork_density", "interpolation", "task.train")))


def test_a_name_on_the_hub_is_no_value_of_an_axis() -> None:
    message = refusal("task.kind=file", "sweep.axes.task.train=[org/data]")
    assert "sweep.axes.task.train.0 is a name on the Hugging Face Hub: got org/data" in message
