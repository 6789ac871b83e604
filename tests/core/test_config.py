"""Configs: what is wrong is refused before any work, in one line that says what to do."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from forkdiv.core.config import load as loading
from forkdiv.core.config import reference
from forkdiv.core.config.base import Frozen
from forkdiv.core.config.load import load
from forkdiv.core.config.study import (
    DecoderConfig,
    EvalConfig,
    StudyConfig,
)
from forkdiv.core.errors import UserError

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "jobs" / "configs").glob("*.y*ml"))

# override -> what the one line must name: where, what came, what is allowed
REFUSED = {
    "task.degree=1": ("task.degree", "got 1;", "greater than or equal to 2"),
    "task.length=2": ("task.length", "got 2;", "greater than or equal to 3"),
    "task.names=9": ("task", "names=9", "at least 10", "raise task.names"),
    "task.kind=maze": ("task.kind", "got 'maze'", "graph_branching, arithmetic_chain", "file"),
    "task.kind=3": ("task.kind", "got 3", "graph_branching"),
    "task.valid=0": ("task.valid", "got 0", "greater than or equal to 1"),
    "task.valid=3": ("task", "valid=3 of degree=3", "fewer than degree", "lower task.valid"),
    "task.forks=2": ("task", "names=16", "forks=2", "at least 19", "raise task.names"),
    "task={kind: words_or_code, steps: 21}": ("task.steps", "got 21", "less than or equal to 20"),
    "task={kind: counterfactual_arithmetic, bases: [7, 7]}": ("task", "[7, 7]", "each once"),
    "task={kind: counterfactual_arithmetic, bases: [true]}": ("bases", "got [True]"),
    "task={kind: counterfactual_arithmetic, bases: [yes]}": ("bases.0", "got 'yes'"),
    "task={kind: file, test: a, columns: {messages: m, prompt: p}}": (
        "task.columns",
        "messages='m'",
        "messages alone, or prompt and completion",
    ),
    "prompt.template=jinja": ("prompt.template", "got 'jinja'", "'raw', 'plain' or 'chat'"),
    "prompt.text=Question": ("prompt", "text='Question'", "{prompt} exactly once", "prompt.text"),
    "prompt.text='{prompt} {prompt}'": ("prompt", "must contain {prompt} exactly once"),
    "prompt.system=Hello": ("prompt", "system='Hello'", "prompt.template=chat"),
    "prompt.chat_template='{{x}}'": ("prompt", "chat_template='{{x}}'", "prompt.template=chat"),
    "prompt={template: chat, chat_template: none.jinja}": (
        "prompt.chat_template",
        "got no such file or folder",
        "a Jinja file, a checkpoint folder",
    ),
    "prompt.date=today": ("prompt.date", "'today' is not a date", "YYYY-MM-DD"),
    "dataset.branch_coverage=0": ("dataset.branch_coverage", "got 0", "greater than or equal to 1"),
    "dataset.structure=mixed": ("dataset.structure", "'mixed'", "'data-level' or 'problem-level'"),
    "dataset.solutions=1": ("dataset.solutions", "got 1", "greater than or equal to 2"),
    "dataset.synthesis=some": ("dataset.synthesis", "'none', 'enumerator' or 'samples'"),
    "synthesis.budget=0": ("synthesis.budget", "got 0", "greater than or equal to 1"),
    "synthesis.temperature=0.001": ("synthesis.temperature", "0.001", "0.01 and more"),
    "audit.quantile=1": ("audit.quantile", "got 1", "less than 1"),
    "audit.ways=[magic]": (
        "audit.ways.0",
        "got 'magic'",
        "'exact', 'tree', 'model' or 'learnability'",
    ),
    "sweep.branch_coverage=[1, 0]": ("sweep.branch_coverage.1", "got 0"),
    "sweep.structure=[data-level, data-level]": ("sweep", "structure has a value twice"),
    "task.seed=-1": ("task.seed", "got -1", "greater than or equal to 0"),
    "task.seed=4294967296": ("task.seed", "got 4294967296", "less than 4294967296"),
    "dataset.examples=0": ("dataset.examples", "got 0", "greater than or equal to 1"),
    "dataset.fork_density=1.01": ("dataset.fork_density", "got 1.01", "less than or equal to 1"),
    "dataset.fork_density=nan": ("dataset.fork_density", "got 'nan'", "finite"),
    "dataset.direction=-0.1": ("dataset.direction", "got -0.1", "greater than or equal to 0"),
    "sft.epochs=1.5": ("sft.epochs", "got 1.5", "integer"),
    "sft.epochs=many": ("sft.epochs", "got 'many'", "integer"),
    "sft.epochs=yes": ("sft.epochs", "got 'yes'", "integer"),
    "sft.epochs=true": ("sft", "epochs", "a number", "got True", "quote it"),
    "sft.save_epochs=[1, 9]": ("sft", "got 9", "1 to 4"),
    "sft.learning_rate=0": ("sft.learning_rate", "got 0", "greater than 0"),
    "sft.learning_rate=inf": ("sft.learning_rate", "got 'inf'", "finite"),
    "sft.warmup_share=1": ("sft.warmup_share", "got 1", "less than 1"),
    "sft.dtype=float16": ("sft.dtype", "got 'float16'", "'float32' or 'bfloat16'"),
    "sft.grad_clip=nan": ("sft.grad_clip", "got 'nan'", "finite"),
    "decoder.temperature=-1": ("decoder.temperature", "got -1", "greater than or equal to 0"),
    "decoder.temperature=nan": ("decoder.temperature", "got 'nan'", "finite"),
    "decoder.temperature=inf": ("decoder.temperature", "got 'inf'", "finite"),
    "decoder.temperature=.nan": ("decoder.temperature", "got nan", "finite"),
    "decoder.temperature=.inf": ("decoder.temperature", "got inf", "finite"),
    "decoder.temperature=true": ("decoder", "temperature", "a number", "got True"),
    "decoder.top_p=0": ("decoder.top_p", "got 0", "greater than 0"),
    "decoder.top_p=1.1": ("decoder.top_p", "got 1.1", "less than or equal to 1"),
    "decoder.top_p=nan": ("decoder.top_p", "got 'nan'", "less than or equal to 1"),
    "eval.k=[1, 128]": ("eval", "k=128", "samples=64", "k up to eval.samples"),
    "eval.k=[0]": ("eval.k.0", "got 0", "greater than or equal to 1"),
    "eval.k=8": ("eval.k", "got 8", "tuple"),
    "eval.problems=0": ("eval.problems", "got 0", "greater than or equal to 1"),
    "eval.split=train": ("eval.split", "got 'train'", "'validation' or 'test'"),
    "eval.confidence=1": ("eval.confidence", "got 1", "less than 1"),
    "sweep.seed=[1, 2, 1]": ("sweep", "seed has a value twice", "[1, 2, 1]"),
    "sweep.temperature=[0.5, .nan]": ("sweep.temperature.1", "got nan", "finite"),
    "place.offload=parameters": ("place: offload=parameters", "got 1", "parameters at stage 3"),
    "sft.loss=entropy": (
        "sft.loss",
        "got 'entropy'",
        "allowed: cross-entropy, label-smoothing",
    ),
    "sft.gem_beta=0": ("sft.gem_beta", "got 0", "greater than 0"),
    "sft.dco_n=0": ("sft.dco_n", "got 0", "greater than or equal to 1"),
    "sweep.interpolation=[0, 1.5]": ("sweep.interpolation.1", "got 1.5", "less than or equal to 1"),
    "sweep.fork_density=[0, 2]": ("sweep.fork_density.1", "got 2", "less than or equal to 1"),
    "place.workers=3": ("sft.batch_size is not a multiple", "got 32", "place.workers=3"),
    "pretrain.sft.batch_size=7": (
        "pretrain.sft.batch_size",
        "got 7",
        "multiples of place.workers=2",
    ),
    "place.device=tpu": ("place.device", "got 'tpu'", "'cpu' or 'gpu'"),
    "place.zero_stage=4": ("place.zero_stage", "got 4", "0, 1, 2 or 3"),
    "place.dashboard_port=65536": (
        "place.dashboard_port",
        "got 65536",
        "less than or equal to 65535",
    ),
    "place.engine.replicas=0": ("place.engine.replicas", "got 0", "greater than or equal to 1"),
    "name=../escape": ("name", "got '../escape'", "pattern"),
    "name=null": ("name", "got None", "string"),
    "name=2024": ("name", "got 2024", "string", "quote it", "name='\"2024\"'"),
    "base=3": ("base", "got 3", "path"),
    "sweep.decoder=[hot]": (
        "sweep.decoder has an unknown name: got hot",
        "allowed: none",
        "define it there",
    ),
    "decoder.tree_samples=5": ("eval.samples=64", "a multiple of 5"),
    "decoder.first_tokens=65": ("eval.samples=64", "at least 65"),
    "decoder.temperature=2.5": ("decoder.temperature", "got 2.5", "less than or equal to 2"),
    "sft=3": ("sft", "got 3", "SftConfig"),
    "sft=[1]": ("sft", "got [1]", "SftConfig"),
    "name.first=x": ("name", "got 'a section'", "string"),
}

# override -> the key in it that is unknown, and the key that was meant
MISSPELT = {
    "sft.epoch=3": ("sft.epoch", "did you mean epochs?"),
    "datasets.examples=3": ("datasets", "did you mean dataset?"),
    "decoders={hot: {temprature: 2}}": ("decoders.hot.temprature", "mean temperature?"),
    "place.engine.replica=2": ("place.engine.replica", "did you mean replicas?"),
    "pretrain.sft.batchsize=2": ("pretrain.sft.batchsize", "did you mean batch_size?"),
    "task.degre=3": ("task.degre:", "did you mean degree?"),
    "task={kind: words_or_code, step: 3}": ("task.step:", "did you mean steps?"),
    "task={kind: words_or_code, degree: 3}": ("task.degree:", "allowed: kind, seed, steps"),
    "task={kind: file, test: a, columns: {promt: p}}": ("task.columns.promt", "mean prompt?"),
    "prompt.tempalte=raw": ("prompt.tempalte", "did you mean template?"),
    "zzzzz=1": ("zzzzz", "remove it"),
    ".name=x": ("unknown key", "remove it"),
}


def refusal(path: Path | None, *overrides: str) -> str:
    """The message `load` refuses with. Every one must be a single line."""
    with pytest.raises(UserError) as caught:
        load(path, overrides)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def written(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("override", REFUSED)
def test_a_bad_value_is_refused_with_the_value_and_what_is_allowed(override: str) -> None:
    message = refusal(None, override)
    assert [part for part in REFUSED[override] if part not in message] == [], message


@pytest.mark.parametrize("override", MISSPELT)
def test_an_unknown_key_is_named_with_the_key_that_was_meant(override: str) -> None:
    message = refusal(None, override)
    assert "unknown key" in message and "allowed: " in message
    assert [part for part in MISSPELT[override] if part not in message] == [], message


def test_an_unknown_key_lists_every_known_one() -> None:
    allowed = refusal(None, "decoder.temprature=1").split("allowed: ")[1].split(";")[0]
    assert allowed.split(", ") == list(DecoderConfig.model_fields)
    assert "temperature" in allowed


def test_the_number_of_further_errors_is_reported() -> None:
    assert "(and 2 more)" in refusal(None, "task.degree=1", "sft.epochs=0", "decoder.top_k=-1")


@pytest.mark.parametrize(
    ("text", "parts"),
    {
        "- a\n- b\n": ("is not a YAML mapping", "list", "key: value"),
        "just words\n": ("is not a YAML mapping", "str", "key: value"),
        "a: [": ("not valid YAML", "key: value", "line 2"),
        "sft: {epochs: 'a\nb'}": ("sft.epochs", "got 'a b'", "integer"),
        "sft:\n  epochs: !!python/object:os.system x\n": ("tag", "os.system", "line 2"),
        "\x00": ("not valid YAML", "control characters"),
        "1: 2": ("1: unknown key", "got 2"),
        "sft: {epoch: 3}": ("sft.epoch", "got 3", "did you mean epochs?"),
    }.items(),
)
def test_a_bad_file_is_refused_in_one_line(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    message = refusal(written(tmp_path, text))
    assert [part for part in parts if part not in message] == [], message


def test_a_missing_file_a_folder_and_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "latin.yaml"):
        message = refusal(path)
        assert "cannot be read" in message and str(path) in message and "--config" in message


@pytest.mark.parametrize(
    ("kind", "part"), [("fifo", "a FIFO"), ("/dev/zero", "a device"), ("/dev/null", "a device")]
)
def test_a_file_that_would_block_or_never_end_is_refused_at_once(
    tmp_path: Path, kind: str, part: str
) -> None:
    path = Path(kind) if kind.startswith("/") else tmp_path / kind
    if kind == "fifo":
        os.mkfifo(path)
    message = refusal(path)
    assert part in message and "a regular file" in message and "save its content" in message


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "part"),
    {
        BOMB: "more than 100,000 values",
        "a: &a {x: 1}\n" + "b: [" + "*a, " * 60_000 + "]": "more than 100,000 values",
        "a: " + "[" * 100_000: "more than 32 levels",
        "a: " + "{b: " * 100_000: "more than 32 levels",
        "a: &a [*a]": "no anchor before it",
        "a: *b": "no anchor before it",
        "? [a]\n: 1": "a key is a list",
        "name: a\n---\nname: b": "a second document begins on line 2",
        "name: " + "x" * 6_000_000: "allowed: at most 1,048,576 bytes",
    }.items(),
    ids=lambda text: text[:12],
)
def test_a_file_that_explodes_is_refused_within_two_seconds(
    tmp_path: Path, text: str, part: str
) -> None:
    begun = time.monotonic()
    message = refusal(written(tmp_path, text))
    assert part in message and len(message) < 600
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sft:\n  epochs: 2\nname: x\nsft:\n  epochs: 3\n", ("key sft ", "lines 1 and 4")),
        ("sft:\n  epochs: 2\n  epochs: 2\n", ("key sft.epochs ", "lines 2 and 3")),
        ("decoders: {a: {}, b: {}, 'a': {}}", ("key decoders.a ", "lines 1 and 1")),
    ],
)
def test_a_key_that_is_given_twice_is_refused_with_both_lines(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    message = refusal(written(tmp_path, text))
    assert "given twice" in message
    assert [part for part in parts if part not in message] == [], message


@pytest.mark.parametrize(
    "override", ["checkpoint=", "base= ", "data=#x", "sft=", "task={kind: file, test: }", "name="]
)
def test_an_override_without_a_value_is_refused_and_says_how_null_is_written(override: str) -> None:
    message = refusal(None, override)
    key = "task.test" if "test" in override else override.partition("=")[0]
    assert f"{key} has no value" in message and f"{key}=null if none is meant" in message


def test_a_setting_without_a_value_in_a_file_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "name: mine\ncheckpoint:\n")
    assert f"checkpoint has no value: got nothing on line 2 of {path}" in refusal(path)
    assert load(path, ["checkpoint=null"]).checkpoint is None


@pytest.mark.parametrize("text", ["1:30", "0b11", "1:30:00", "1e", "٣"])
def test_a_number_that_only_yaml_1_1_knows_is_refused(tmp_path: Path, text: str) -> None:
    assert repr(text) in refusal(None, f"sft.seed={text}")
    assert repr(text) in refusal(written(tmp_path, f"sft: {{seed: {text}}}"))


def test_a_leading_zero_changes_no_number(tmp_path: Path) -> None:
    assert load(None, ["sft.seed=010"]).sft.seed == 10


@pytest.mark.parametrize(
    "name", ["store", "Store", "tune", "mlartifacts", "mlflow.db", "MLflow.db-wal", "mlflow.lock"]
)
def test_the_name_of_something_in_the_output_folder_is_refused(name: str) -> None:
    message = refusal(None, f"name={name}")
    assert f"name={name} is reserved for a file or folder" in message


@pytest.mark.parametrize(
    "override",
    [
        "name=" + "x" * 100_000,
        "prompt.text=" + "x" * 100_000,
        "task.kind=" + "x" * 100_000,
        "x" * 100_000 + "=1",
        "sft.epochs=" + "9" * 100_000,
        "decoder.temperature=" + "9" * 900,
        f"sweep.seed={[*range(5000), 1]}",
        "eval.k=[" + "1, 2, " * 5000,
        "x" * 100_000,
    ],
    ids=lambda override: override[:12],
)
def test_a_message_never_repeats_a_whole_long_value(override: str) -> None:
    assert len(refusal(None, override)) < 700


@pytest.mark.parametrize("override", ["sft.epochs", "=3", "", "--quick"])
def test_an_override_without_key_or_value_is_refused(override: str) -> None:
    message = refusal(None, override)
    assert repr(override) in message and "sft.epochs=8" in message


def test_an_override_that_reaches_into_a_value_is_refused(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, "name: x"), "name.first=y")
    assert "name.first cannot be set: name is a value" in message and "set name" in message


def test_an_override_that_is_not_yaml_is_refused() -> None:
    message = refusal(None, "eval.k=[1, 2")
    assert "eval.k is not valid YAML" in message and "'[1, 2'" in message


def test_overrides_win_over_the_file_and_later_ones_over_earlier(tmp_path: Path) -> None:
    path = written(tmp_path, "name: filed\nsft: {epochs: 2, batch_size: 8}\n")
    study = load(path, ["sft.epochs=5", "place.engine.replicas=2", "sft.epochs=7"])
    assert (study.name, study.sft.batch_size, study.sft.epochs) == ("filed", 8, 7)
    assert study.place.engine.replicas == 2


def test_overrides_carry_lists_text_numbers_and_nothing() -> None:
    study = load(
        None,
        ["eval.k=[4, 1, 4]", "name=a.b", "place.num_cpus=null", "sft.seed=0x10"],
    )
    assert (study.eval.k, study.name, study.place.num_cpus) == ((4, 1, 4), "a.b", None)
    assert study.sft.seed == 16


@pytest.mark.parametrize("text", ["1e-3", "0.001", "1E-3", "'1e-3'"])
def test_every_spelling_of_a_small_number_is_that_number(tmp_path: Path, text: str) -> None:
    assert load(None, [f"sft.learning_rate={text}"]).sft.learning_rate == 1e-3
    filed = written(tmp_path, f"sft: {{learning_rate: {text}}}")
    assert load(filed).sft.learning_rate == 1e-3


def test_a_value_may_hold_an_equals_sign() -> None:
    uri = "postgresql://host/db?sslmode=require"
    assert load(None, [f"place.mlflow_uri={uri}"]).place.mlflow_uri == uri


def test_no_file_and_an_empty_file_give_the_defaults(tmp_path: Path) -> None:
    assert load(None) == load(written(tmp_path, "# nothing yet\n")) == StudyConfig()


def test_decoders_that_cannot_be_swept_together_are_refused() -> None:
    named = "decoders={a: {dtype: bfloat16}, b: {first_tokens: 4}}"
    assert "one engine samples all" in refusal(None, named, "sweep.decoder=[a,b]")
    assert "identical samples" in refusal(
        None, named, "sweep.decoder=[b]", "sweep.temperature=[0,1]"
    )
    assert load(None, [named]).sweep.decoder == ()  # what is not swept is not asked


def test_every_stage_of_a_study_is_frozen() -> None:
    study = StudyConfig()
    stages = [getattr(study, name) for name in StudyConfig.model_fields]
    frozen = [study, *(stage for stage in stages if isinstance(stage, Frozen))]
    assert len(frozen) == 17
    for config in frozen:
        field = next(iter(type(config).model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(config, field, getattr(config, field))


@pytest.mark.parametrize(
    ("samples", "ks"),
    [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (64, (1, 2, 4, 8, 16, 32, 64))],
)
def test_k_defaults_to_powers_of_two_and_the_number_of_samples(
    samples: int, ks: tuple[int, ...]
) -> None:
    assert EvalConfig(samples=samples).ks == ks


def test_chosen_ks_come_sorted_and_once() -> None:
    assert EvalConfig(samples=8, k=(8, 1, 8, 3)).ks == (1, 3, 8)


def test_configs_are_shipped() -> None:
    assert CONFIGS, "jobs/configs holds no YAML"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_parses(path: Path) -> None:
    assert load(path).name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_what_a_shipped_config_names_is_shipped_or_the_users_own(path: Path) -> None:
    study = load(path)
    named = [study.base, study.pretrain.start, study.plan.architecture]
    for one in named:
        if one and one.is_relative_to(ROOT):  # else below models/ of the current folder
            assert one.exists() or one.is_relative_to(Path.cwd() / "models"), one


def test_a_renamed_setting_is_refused_with_its_new_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loading.RENAMED, "sft.rounds", "sft.epochs")
    message = refusal(None, "sft.rounds=3")
    assert message == "sft.rounds: renamed, got 3; allowed: sft.epochs; use sft.epochs"


def test_every_rename_leads_to_a_setting_that_there_is() -> None:
    keys = {one.key for section in reference.sections() for one in section.settings}
    assert set(loading.RENAMED.values()) <= keys
    assert set(loading.RENAMED).isdisjoint(keys)


@pytest.mark.parametrize("text", ["2024-13-45", "2024-01-01", "010", "1_000", "yes", "No", "on"])
def test_text_that_yaml_1_1_reads_as_something_else_stays_text(tmp_path: Path, text: str) -> None:
    assert load(None, [f"name={text}"]).name == text
    assert load(written(tmp_path, f"name: {text}")).name == text


def test_quoted_digits_stay_text() -> None:
    assert load(None, ["name='2026'"]).name == "2026"


def test_an_override_changes_only_its_own_section_where_the_file_has_an_alias(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, "sft: &s {epochs: 1, batch_size: 8}\npretrain: {sft: *s}\n")
    study = load(path, ["sft.epochs=8"])
    assert (study.sft.epochs, study.pretrain.sft.epochs) == (8, 1)


@pytest.mark.parametrize("text", ["[]", "0", "false"])
def test_a_falsy_document_is_not_a_mapping(tmp_path: Path, text: str) -> None:
    assert "is not a YAML mapping" in refusal(written(tmp_path, text))


@pytest.mark.parametrize(
    "override", ["place.num_cpus=yes", "sft.save_epochs=[yes]", "sweep.temperature=[no]"]
)
def test_a_boolean_is_not_a_number_in_lists_and_optional_fields(override: str) -> None:
    refusal(None, override)


@pytest.mark.parametrize("override", ["sft.weight_decay=inf", "sft.grad_clip=inf"])
def test_an_infinite_training_knob_is_refused(override: str) -> None:
    assert "finite" in refusal(None, override)


@pytest.mark.parametrize(
    "section",
    [
        "sft",
        "prompt",
        "dataset",
        "sweep",
        "place",
        "task",
    ],
)
def test_an_empty_section_sets_nothing(tmp_path: Path, section: str) -> None:
    assert load(written(tmp_path, f"{section}:\nname: mine\n")) == load(None, ["name=mine"])
