"""Settings of rl: what decides a run, and what is refused before it starts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from forkdiv.core.config.rl import NOT_DECIDING, RlConfig
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.core.fingerprint import stages
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.models.loading import new_model, word_tokenizer
from forkdiv.rl.rl_run import Inputs
from tests.stack import BASE
from tuning import preflight, rl_checks

START = open_checkpoint(BASE)
SMALL: dict[str, Any] = {"iterations": 4, "episodes": 16}
OTHERS: dict[str, Any] = {
    "iterations": 5,
    "save_iterations": (2,),
    "save_every": 2,
    "episodes": 24,
    "group": 8,
    "prompts": 10,
    "unseen": False,
    "learning_rate": 1e-4,
    "warmup": 1,
    "weight_decay": 0.1,
    "grad_clip": 0.5,
    "kl": 0.0,
    "loss": "dapo",
    "advantage": "pass-at-k",
    "temperature": 0.7,
    "min_p": 0.1,
    "entropy_bonus": 0.1,
    "top_entropy": 0.2,
    "dtype": "bfloat16",
    "seed": 1,
}
NOT: dict[str, Any] = {"max_divergence": 0.5, "give_up_after": 3, "save_state_every": 7, "k": 3}


def study(**settings: Any) -> StudyConfig:
    return StudyConfig.model_validate({"rl": {**SMALL, **settings}})


def fingerprint(**settings: Any) -> str:
    return Inputs.of(study(**settings), START).identity.fingerprint


def test_every_setting_is_known_to_decide_a_run_or_not() -> None:
    assert {*OTHERS, *NOT} == set(RlConfig.model_fields)
    assert NOT.keys() - {"k"} == NOT_DECIDING


@pytest.mark.parametrize("name", OTHERS)
def test_a_setting_that_decides_a_run_changes_its_fingerprint(name: str) -> None:
    assert fingerprint(**{name: OTHERS[name]}) != fingerprint()


@pytest.mark.parametrize("name", NOT)
def test_a_setting_that_does_not_decide_a_run_leaves_its_fingerprint(name: str) -> None:
    assert fingerprint(**{name: NOT[name]}) == fingerprint()


def test_k_decides_where_the_advantage_uses_it() -> None:
    both = [fingerprint(advantage="pass-at-k", k=k) for k in (2, 3)]
    assert both[0] != both[1]


def test_start_data_and_lengths_decide_a_run_and_places_and_studies_do_not() -> None:
    plain = fingerprint()
    other = {"rl": SMALL, "dataset": {"examples": 100}}
    assert Inputs.of(StudyConfig.model_validate(other), START).identity.fingerprint != plain
    longer = {"rl": SMALL, "decoder": {"max_new_tokens": 17}}
    assert Inputs.of(StudyConfig.model_validate(longer), START).identity.fingerprint != plain
    hot = {"rl": SMALL, "decoder": {"temperature": 0.3}, "eval": {"samples": 8}, "name": "x"}
    assert Inputs.of(StudyConfig.model_validate(hot), START).identity.fingerprint == plain
    assert "rl" not in stages()  # studies keep their fingerprints


def test_the_defaults_are_those_of_the_paper() -> None:
    config = RlConfig()
    assert (config.episodes, config.group, config.groups) == (64, 4, 16)
    assert (config.learning_rate, config.kl, config.temperature) == (1e-6, 1e-3, 1.0)


def test_checkpoints_are_saved_at_chosen_iterations_and_at_the_end() -> None:
    assert RlConfig(iterations=10).saved == (10,)
    assert RlConfig(iterations=10, save_every=4, save_iterations=(1, 4)).saved == (1, 4, 8, 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group": 1}, "gives every response an advantage of 0; allowed: at least 2"),
        ({"episodes": 30}, "not a multiple of group=4"),
        ({"advantage": "pass-at-k", "k": 5}, "k=5 is larger than group=4"),
        ({"iterations": 3, "save_iterations": (4,)}, "an iteration beyond the last: got 4"),
        ({"temperature": 0}, "greater than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RlConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"place": {"workers": 2}}, r"on one worker: got place.workers=2"),
        ({"place": {"workers": 1, "micro_batch": 5}}, "does not divide the episodes"),
    ],
)
def test_a_place_that_cannot_run_it_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rl_checks.on_one_worker(StudyConfig.model_validate({"rl": SMALL, **settings}))


def test_the_default_place_becomes_one_worker() -> None:
    assert rl_checks.on_one_worker(study()).place.workers == 1


def test_an_engine_that_takes_turns_is_refused() -> None:
    place = {"workers": 1, "engine": {"while_training": "stop"}}
    turns = StudyConfig.model_validate({"place": place}).place
    with pytest.raises(UserError, match="needs the engine and the worker at the same time"):
        rl_checks.check_beside(turns)


def test_responses_that_cannot_be_right_are_refused() -> None:
    short = StudyConfig.model_validate({"rl": SMALL, "decoder": {"max_new_tokens": 3}})
    with pytest.raises(UserError, match=r"max_new_tokens is too small .* got 3; allowed: at least"):
        rl_checks.inputs(short, START)


def test_a_start_of_another_shape_than_the_reference_is_refused(tmp_path: Any) -> None:
    from forkdiv.tasks.registry import build

    task = build(StudyConfig().task)
    tokenizer = word_tokenizer(task.vocabulary(), "<end>")
    new_model("micro-llama", tokenizer, 0).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    other = StudyConfig.model_validate({"base": BASE, "checkpoint": tmp_path / "other"})
    with pytest.raises(UserError, match="a different architecture than the base"):
        preflight.check_study_checkpoint(other, START)
