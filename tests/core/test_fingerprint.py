"""Fingerprints: equal inputs have equal ones, every identity field counts, no place does."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.core import fingerprint
from forkdiv.core.config.base import Frozen
from forkdiv.core.config.study import (
    DatasetConfig,
    DecoderConfig,
    EngineConfig,
    HttpConfig,
    LoraConfig,
    PlaceConfig,
    PretrainConfig,
    PromptConfig,
    SftConfig,
    StudyConfig,
    SynthesisConfig,
)
from forkdiv.core.fingerprint import STAGE_LIBRARIES, STAGE_VERSIONS, Identity, canonical
from forkdiv.core.records import Outcome
from forkdiv.data.dataset import sft_identity, walks_identity
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build
from tests.fakes import an_eval

ROOM = GraphBranchingConfig(names=40)

# Another value for every field that decides a result. `kind` has only one value.
OTHER_VALUES: dict[type[Frozen], dict[str, Any]] = {
    GraphBranchingConfig: {
        "degree": 4,
        "length": 4,
        "forks": 2,
        "valid": 2,
        "names": 41,
        "seed": 1,
    },
    PromptConfig: {
        "template": "plain",
        "text": "Q: {prompt}\nA:",
        "system": "Be brief.",
        "chat_template": "{{ messages }}",
        "date": "2027-03-04",
        "template_args": {"enable_thinking": False},
        "shots": 4,
        "shots_seed": 5,
    },
    DatasetConfig: {
        "examples": 801,
        "fork_density": 0.25,
        "direction": 0.5,
        "branch_coverage": 2,
        "structure": "data-level",
        "solutions": 3,
        "mode_share": 0.25,
        "synthesis": "enumerator",
        "seed": 1,
    },
    SynthesisConfig: {
        "budget": 10,
        "samples": 17,
        "forks_per_problem": 2,
        "temperature": 0.5,
        "max_new_tokens": 65,
        "seed": 1,
    },
    SftConfig: {
        "epochs": 5,
        "save_epochs": (1,),
        "save_steps": (3,),
        "save_every": 5,
        "keep": 2,
        "batch_size": 8,
        "learning_rate": 2e-3,
        "warmup_share": 0.1,
        "weight_decay": 0.1,
        "grad_clip": 0.5,
        "dtype": "bfloat16",
        "loss": "gem",
        "smoothing": 0.2,
        "gem_beta": 0.5,
        "dco_n": 4,
        "dco_per": "token",
        "lora": LoraConfig(rank=4),
        "seed": 1,
    },
    DecoderConfig: {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "min_p": 0.1,
        "top_n_sigma": 1.0,
        "stop": ("Question:",),
        "gate_entropy": 0.4,
        "hot_temperature": 1.5,
        "first_tokens": 3,
        "tree_samples": 8,
        "fork_entropy": 0.4,
        "branch_probability": 0.1,
        "max_new_tokens": 17,
        "dtype": "bfloat16",
    },
}
DEFAULTS: dict[type[Frozen], Frozen] = {
    GraphBranchingConfig: ROOM,
    PromptConfig: PromptConfig(template="chat", shots=1),
    DatasetConfig: DatasetConfig(),
    SynthesisConfig: SynthesisConfig(),
    SftConfig: SftConfig(),
    DecoderConfig: DecoderConfig(gate_entropy=0.5, hot_temperature=2.0, tree_samples=4),
}
CHANGES = [(kind, field) for kind, values in OTHER_VALUES.items() for field in values]

# Another value for every field that must decide nothing.
OTHER_PLACES: dict[str, Any] = {
    "root": Path("/elsewhere"),
    "device": "gpu",
    "workers": 1,
    "cpus_per_worker": 1.0,
    "threads_per_worker": 2,
    "ray_start_timeout_s": 77.0,
    "cache": Path("/elsewhere/cache"),
    "cache_gib": 7.0,
    "zero_stage": 3,
    "micro_batch": 4,
    "pack_tokens": 512,
    "packed_attention": "mask",
    "worker_start_timeout_s": 60.0,
    "logits_gib": 2.0,
    "activation_checkpointing": True,
    "offload": "optimizer",
    "resume_every": 7,
    "keep_states": 3,
    "overlap": False,
    "max_failures": 9,
    "max_concurrent_trials": 4,
    "ray_address": "ray://head:10001",
    "num_cpus": 64,
    "dashboard": False,
    "dashboard_port": 1234,
    "mlflow_uri": "http://mlflow:5000",
    "mlflow_experiment": "coverage",
    "min_free_mib": 1,
    "engine": EngineConfig(replicas=4),
    "http": HttpConfig(port=8001),
}


def changed(config: Frozen, **values: Any) -> Any:
    """A checked copy, unlike model_copy."""
    return type(config).model_validate({**config.model_dump(), **values})


def hashed(config: Any) -> str:
    return Identity("verdicts", {"config": config}).fingerprint


def identities(study: StudyConfig) -> dict[str, str]:
    """The fingerprints of what a study makes, as its stages name them."""
    from forkdiv.core.store import Store
    from forkdiv.coverage import exact, exact_forks, summary
    from forkdiv.forks import synthesis
    from forkdiv.models.checkpoint import Checkpoint
    from forkdiv.sample import sample_sets
    from forkdiv.score import verdicts
    from forkdiv.train import sft_run
    from forkdiv.train.pretrain import planned_base

    data = sft_identity(build(study.task), study.dataset).fingerprint
    store = Store.of(study.place)
    start = planned_base(store, build(study.task), study.pretrain)
    end = Checkpoint(study.place.root / "end", "e" * 32)
    samples = sample_sets.identity(
        an_eval(study.task, None, study.decoder, study.prompt, study.eval), end
    )
    found = {
        "sft data": data,
        "walks": walks_identity(build(study.task), study.pretrain, "<eos>").fingerprint,
        "base": start.fingerprint,
        "training": sft_run.identity(data, start.fingerprint, study.sft, study.prompt).fingerprint,
        "samples": samples.fingerprint,
        "verdicts": verdicts.identity(samples, 200, 64).fingerprint,
        "exact": exact.identity(
            an_eval(study.task, None, study.decoder, study.prompt, study.eval), end
        ).fingerprint,
        "forks": exact_forks.identity(
            an_eval(study.task, None, study.decoder, study.prompt, study.eval), end
        ).fingerprint,
        "study": summary.identity(study, start).fingerprint,
    }
    for way in ("enumerator", "samples"):
        repaired = changed(study, dataset=changed(study.dataset, synthesis=way))
        what = synthesis.identity(repaired, data, start.fingerprint)
        found[f"synthesis by {way}"] = what.fingerprint
    return found


def test_the_tables_of_other_values_name_every_field() -> None:
    for kind, values in OTHER_VALUES.items():
        # the options of a loss of somebody's own: tests/train/test_own_loss.py; of a file with
        # shots the content counts: tests/sample/test_shots.py; settings of a loss count where it is
        # used: tests/train/test_schedule.py
        elsewhere = {"kind", "loss_options", "shots_data", "fork_aware"}
        assert set(values) | elsewhere >= set(kind.model_fields), kind
    # a store on S3 is asked what it has: tests/jobs/test_remote_store.py
    assert set(OTHER_PLACES) | {"store"} >= set(PlaceConfig.model_fields)


@pytest.mark.parametrize(("kind", "field"), CHANGES)
def test_every_identity_field_changes_the_fingerprint(kind: type[Frozen], field: str) -> None:
    # designs exclude each other, so that these are set without the others
    default = DecoderConfig() if field in ("first_tokens", "stop") else DEFAULTS[kind]
    other = changed(default, **{field: OTHER_VALUES[kind][field]})
    assert getattr(other, field) != getattr(default, field)
    assert hashed(other) != hashed(default)


def test_knobs_of_a_decoder_that_are_not_set_leave_its_fingerprint_as_it_was() -> None:
    plain = {"temperature": 0.7, "top_p": 1.0, "top_k": 0, "max_new_tokens": 16}
    first = {**plain, "dtype": "float32"}  # all that a decoder was, before there were others
    assert hashed(DecoderConfig(temperature=0.7)) == hashed(first)
    assert DecoderConfig(**DecoderConfig(min_p=0.1).model_dump()) == DecoderConfig(min_p=0.1)


@pytest.mark.parametrize(
    ("field", "value"), [("examples", 9), ("walks", 9), ("seed", 9), ("direction", 0.5)]
)
def test_every_knob_of_the_walks_changes_their_fingerprint(field: str, value: float) -> None:
    config = PretrainConfig()
    other = changed(config, **{field: value})
    first, second = (walks_identity(build(ROOM), c, "<eos>") for c in (config, other))
    assert first.fingerprint != second.fingerprint


def test_how_a_base_is_trained_leaves_its_walks_alone() -> None:
    config = PretrainConfig()
    other = changed(config, sft=SftConfig(epochs=3), preset="micro-llama")
    first, second = (walks_identity(build(ROOM), c, "<eos>") for c in (config, other))
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("field", OTHER_PLACES)
def test_a_place_changes_no_identity(field: str) -> None:
    here = StudyConfig()
    there = changed(here, place=changed(here.place, **{field: OTHER_PLACES[field]}))
    assert there.place != here.place
    assert identities(there) == identities(here)


def test_the_name_of_a_study_changes_no_identity() -> None:
    assert identities(StudyConfig(name="one")) == identities(StudyConfig(name="two"))


def test_what_a_study_makes_has_a_fingerprint_each() -> None:
    found = identities(StudyConfig())
    assert len(set(found.values())) == len(found)


def test_a_value_has_the_same_fingerprint_in_every_spelling() -> None:
    assert hashed({"a": 1, "b": 0.5}) == hashed({"b": 0.5, "a": 1.0})
    assert hashed({"k": (1, 2)}) == hashed({"k": [1, 2]})
    assert hashed(DecoderConfig(temperature=1)) == hashed(DecoderConfig(temperature=1.0))
    assert hashed(-0.0) == hashed(0)
    assert hashed(Outcome.WRONG) == hashed("wrong")


def test_values_that_differ_have_different_fingerprints() -> None:
    values = [0, 1, 2, 0.5, True, False, None, "", "1", "a", [], {}, [1], [[1]], {"a": 1}, 1e-3]
    assert len({hashed(value) for value in values}) == len(values)


def test_neighbouring_floats_have_different_fingerprints() -> None:
    assert hashed(0.1) != hashed(np.nextafter(0.1, 1.0))
    assert hashed(1.0) != hashed(np.nextafter(1.0, 2.0))


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@settings(deadline=None)
@given(plain)
def test_the_canonical_form_is_its_own_canonical_form(value: Any) -> None:
    assert canonical(canonical(value)) == canonical(value)
    assert hashed(canonical(value)) == hashed(value)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), plain, min_size=2), st.randoms())
def test_the_order_of_keys_does_not_matter(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert hashed(dict(items)) == hashed(value)


@pytest.mark.parametrize(
    "value",
    [
        Path("runs"),
        {"a", "b"},
        frozenset({1}),
        b"bytes",
        object(),
        len,
        iter([1]),
        np.int64(3),
        np.array([1.0]),
        {1: "a number for a key"},
        {"deep": [{"down": Path("x")}]},
        PlaceConfig(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_without_a_stable_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="a fingerprint accepts"):
        hashed(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        hashed({"deep": [value]})


def test_an_unknown_stage_has_no_fingerprint() -> None:
    with pytest.raises(KeyError):
        _ = Identity("datasets", {}).fingerprint


def test_stage_config_and_parents_all_count() -> None:
    base = Identity("exact", {"a": 1}, {"checkpoint": "x"})
    others = [
        Identity("train", {"a": 1}, {"checkpoint": "x"}),
        Identity("exact", {"a": 2}, {"checkpoint": "x"}),
        Identity("exact", {"a": 1}, {"checkpoint": "y"}),
        Identity("exact", {"a": 1}, {"dataset": "x"}),
        Identity("exact", {"a": 1, "checkpoint": "x"}),
    ]
    assert len({identity.fingerprint for identity in [base, *others]}) == 6


def test_parents_count_as_a_mapping_and_not_in_their_order() -> None:
    first = Identity("exact", {}, {"a": "1", "b": "2"})
    second = Identity("exact", {}, {"b": "2", "a": "1"})
    assert first.fingerprint == second.fingerprint


def test_raising_the_version_of_a_stage_changes_only_its_fingerprints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stages = list(STAGE_VERSIONS)
    before = {stage: Identity(stage, {}).fingerprint for stage in stages}
    monkeypatch.setitem(STAGE_VERSIONS, "exact", STAGE_VERSIONS["exact"] + 1)
    after = {stage: Identity(stage, {}).fingerprint for stage in stages}
    assert {stage for stage in stages if before[stage] != after[stage]} == {"exact"}


def test_libraries_are_named_for_known_stages_only() -> None:
    assert set(STAGE_LIBRARIES) <= set(STAGE_VERSIONS)


def test_a_fingerprint_is_32_hexadecimal_digits() -> None:
    assert len(hashed(1)) == 32 and int(hashed(1), 16) >= 0


def test_an_identity_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Identity("verdicts", {}).stage = "train"  # type: ignore[misc]


def test_two_processes_with_other_hash_seeds_agree() -> None:
    code = (
        "from forkdiv.data.dataset import sft_identity;"
        "from forkdiv.core.config.study import StudyConfig;"
        "from forkdiv.tasks.registry import build;"
        "s = StudyConfig(); print(sft_identity(build(s.task), s.dataset).fingerprint)"
    )
    root = str(Path(fingerprint.__file__).parents[2])
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    study = StudyConfig()
    assert found == {sft_identity(build(study.task), study.dataset).fingerprint}


def installed(folder: Path, name: str, version: str) -> None:
    """Put the metadata of a distribution where importlib.metadata looks for it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_the_build_tag_of_a_release_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    installed(tmp_path, "forkdiv-probe-one", "2.13.0+cpu")
    assert metadata.version("forkdiv-probe-one") == "2.13.0+cpu"
    assert fingerprint.library_version("forkdiv-probe-one") == "2.13.0"


def test_a_cpu_distribution_stands_for_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    installed(tmp_path, "forkdiv-probe-two-cpu", "0.29.0")
    assert fingerprint.library_version("forkdiv-probe-two") == "0.29.0"


def test_a_library_that_is_not_installed_is_named_with_the_remedy() -> None:
    with pytest.raises(metadata.PackageNotFoundError, match="make setup"):
        fingerprint.library_version("forkdiv-probe-none")
