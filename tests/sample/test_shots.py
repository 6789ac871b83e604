"""Few-shot prompts: which examples are shown, how they are written, and what they change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.chat import pack, split_shots, unpack, with_shots
from forkdiv.core.config.load import load
from forkdiv.core.config.study import PromptConfig, StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.core.store import Store
from forkdiv.coverage import exact, summary
from forkdiv.data import dataset
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.models.prompting import plain_text
from forkdiv.sample import sample_sets
from forkdiv.sample.evaluation import Evaluation
from forkdiv.train import sft_run
from tests.stack import BASE
from tuning.models import tuned_checkpoint


def a_file(folder: Path, count: int, name: str = "rows.jsonl", first: int = 0) -> Path:
    rows = [
        {"question": f"{n} + 1?", "solution": f"so {n + 1}", "answer": str(n + 1)}
        for n in range(first, first + count)
    ]
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def a_study(*settings: str) -> StudyConfig:
    return load(None, ["task.grader=numeric", *settings])


def shown(evaluation: Evaluation) -> list[list[str]]:
    """The prompts of the shots of each problem."""
    return [[asked for asked, _ in split_shots(p.prompt)[0]] for p in evaluation.asked_problems]


def test_all_problems_have_the_same_shots_from_the_train_split(tmp_path: Path) -> None:
    train, test = a_file(tmp_path, 40), a_file(tmp_path, 5, "test.jsonl", first=100)
    study = a_study(f"task.train={train}", f"task.test={test}", "prompt.shots=3")
    asked = shown(Evaluation.of(study))
    assert len(asked) == 5 and all(row == asked[0] for row in asked)
    assert len(set(asked[0])) == 3
    trained = {row.prompt for row in Evaluation.of(study).task.training_rows}  # type: ignore[attr-defined]
    assert set(asked[0]) <= trained, "the validation split is not shown"
    other = study.model_copy(update={"prompt": PromptConfig(shots=3, shots_seed=1)})
    assert shown(Evaluation.of(other))[0] != asked[0]
    assert [problem.prompt for problem in Evaluation.of(study).problems] == [
        split_shots(problem.prompt)[1] for problem in Evaluation.of(study).asked_problems
    ], "problems are stored, graded and shown without shots"


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_problem_is_never_its_own_shot(tmp_path: Path, count: int) -> None:
    path = a_file(tmp_path, 8)
    study = a_study(f"task.test={path}", f"prompt.shots={count}", f"prompt.shots_data={path}")
    evaluation = Evaluation.of(study)
    for problem, asked in zip(evaluation.problems, shown(evaluation), strict=True):
        assert problem.prompt not in asked
        assert len(set(asked)) == count


def test_several_solutions_of_a_problem_are_one_shot_in_whatever_white_space(
    tmp_path: Path,
) -> None:
    spellings = [("1 + 1?", "2"), ("1 + 1? ", "so 2"), ("1  + 1?\n", "it is 2")]
    others = [(f"{n} + 1?", str(n + 1)) for n in (2, 3)]
    path = tmp_path / "rows.jsonl"
    rows = [{"question": asked, "solution": text} for asked, text in (*spellings, *others)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    test = a_file(tmp_path, 2, "test.jsonl", first=1)
    study = a_study(f"task.test={test}", "prompt.shots=2", f"prompt.shots_data={path}")
    evaluation = Evaluation.of(study)
    assert set(evaluation.shots.ordered) == {spellings[0], *others}
    with pytest.raises(UserError, match=r"prompt.shots=3 and 3 problems"):
        Evaluation.of(a_study(f"task.test={test}", "prompt.shots=3", f"prompt.shots_data={path}"))
    first = [problem.prompt for problem in evaluation.problems].index("1 + 1?")
    assert sorted(shown(evaluation)[first]) == ["2 + 1?", "3 + 1?"]


def test_rows_that_a_task_leaves_out_are_not_those_of_the_file_of_shots(tmp_path: Path) -> None:
    train, shots = a_file(tmp_path, 40), a_file(tmp_path, 3, "shots.jsonl", first=100)
    settings = [f"task.train={train}", "task.skip_train=[1]", f"prompt.shots_data={shots}"]
    assert len(Evaluation.of(a_study(*settings, "prompt.shots=2")).shots.ordered) == 3


def test_too_few_examples_and_none_at_all_are_refused(tmp_path: Path) -> None:
    path = a_file(tmp_path, 8)
    with pytest.raises(UserError, match=r"prompt.shots=8 and 8 problems.*at least 9"):
        Evaluation.of(a_study(f"task.test={path}", "prompt.shots=8", f"prompt.shots_data={path}"))
    with pytest.raises(UserError, match=r"set prompt.shots_data=FILE"):
        Evaluation.of(a_study(f"task.test={path}", "prompt.shots=2"))
    with pytest.raises(UserError, match="no training problems"):
        Evaluation.of(load(None, ["task.kind=counterfactual_arithmetic", "prompt.shots=2"]))
    with pytest.raises(UserError, match=r"shots_seed=1 has an effect with prompt.shots only"):
        load(None, ["prompt.shots_seed=1"])


def test_answers_are_shown_where_a_file_has_no_solutions(tmp_path: Path) -> None:
    path = tmp_path / "capitals.jsonl"
    pairs = [("Peru", "Lima"), ("Chile", "Santiago"), ("Cuba", "Havana")]
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in pairs))
    study = load(None, [f"task.test={path}", "prompt.shots=2", f"prompt.shots_data={path}"])
    shots, own = split_shots(Evaluation.of(study).asked_problems[0].prompt)
    assert sorted([*(q for q, _ in shots), own]) == sorted(q for q, _ in pairs)
    assert set(shots) <= set(pairs)


@pytest.mark.parametrize("kind", ["arithmetic_chain", "graph_branching", "words_or_code"])
def test_a_shipped_task_shows_its_training_problems(kind: str) -> None:
    study = load(None, [f"task.kind={kind}", "prompt.shots=2", "dataset.examples=40"])
    evaluation = Evaluation.of(study)
    (first, second), own = split_shots(evaluation.asked_problems[0].prompt)
    assert first != second and own == evaluation.problems[0].prompt
    assert first[0] != own and first[1]
    seeded = load(None, [f"task.kind={kind}", "prompt.shots=2", "dataset.seed=5"])
    assert Evaluation.of(seeded).shots == evaluation.shots, "models of a sweep see the same"


def test_shots_are_identity_only_where_there_are_some(tmp_path: Path) -> None:
    store, base = Store(tmp_path), open_checkpoint(BASE)
    plain = load(None, ["task.kind=graph_branching"])
    assert set(plain.prompt.model_dump()) == {"template", "text", "system"}
    few = load(None, ["task.kind=graph_branching", "prompt.shots=2"])
    more = load(None, ["task.kind=graph_branching", "prompt.shots=2", "prompt.shots_seed=1"])

    def identities(study: StudyConfig) -> tuple[Any, ...]:
        evaluation = Evaluation.of(study)
        return (
            sample_sets.identity(evaluation, base).fingerprint,
            exact.identity(evaluation, base).fingerprint,
            summary.identity(study, base).fingerprint,
        )

    for first, second in ((plain, few), (few, more)):
        assert all(a != b for a, b in zip(identities(first), identities(second), strict=True))
    assert tuned_checkpoint(plain, base, store) == tuned_checkpoint(few, base, store)
    data = dataset.sft_identity(Evaluation.of(few).task, few.dataset).fingerprint
    trained = sft_run.identity(data, base.fingerprint, few.sft, few.prompt.without_shots)
    assert trained == sft_run.identity(data, base.fingerprint, plain.sft, plain.prompt)


def test_the_place_of_the_file_of_shots_is_not_identity(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    paths = [a_file(tmp_path / name, 8) for name in ("one", "two")]
    found = {
        summary.identity(
            a_study(f"task.test={paths[0]}", "prompt.shots=2", f"prompt.shots_data={path}"),
            open_checkpoint(BASE),
        ).fingerprint
        for path in paths
    }
    assert len(found) == 1


SHOTS = [("1 + 1?", "It is 2."), ("2 + 2?", "It is 4.")]


def test_shots_are_text_before_the_problem_without_a_chat_template() -> None:
    prompt = with_shots("3 + 3?", SHOTS)
    assert plain_text(prompt, PromptConfig()) == "1 + 1? It is 2.\n\n2 + 2? It is 4.\n\n3 + 3?"
    config = PromptConfig(template="plain", text="Q: {prompt}\nA:\n")
    assert plain_text(prompt, config) == (
        "Q: 1 + 1?\nA:\nIt is 2.\n\nQ: 2 + 2?\nA:\nIt is 4.\n\nQ: 3 + 3?\nA:\n"
    )
    code = with_shots("def f():\n", [("def g():\n", "    return 1\n")])
    assert plain_text(code, PromptConfig()) == "def g():\n    return 1\n\ndef f():\n"


def test_shots_are_earlier_turns_of_a_conversation() -> None:
    prompt = with_shots("3 + 3?", SHOTS)
    turns = [(turn["role"], turn["content"]) for turn in unpack(prompt)]
    assert turns == [
        *(("user", "1 + 1?"), ("assistant", "It is 2.")),
        *(("user", "2 + 2?"), ("assistant", "It is 4.")),
        ("user", "3 + 3?"),
    ]
    system = {"role": "system", "content": "Be brief."}
    talk = pack([system, {"role": "user", "content": "3 + 3?"}])
    assert [turn["role"] for turn in unpack(with_shots(talk, [(talk, "6")]))] == (
        ["system", "user", "assistant", "user"]
    )


@pytest.mark.parametrize("text", ['\x1e{"shots": [["a"]], "prompt": "p"}', '\x1e{"prompt": "p"}'])
def test_a_few_shot_prompt_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="other parts than shots and prompt"):
        split_shots(text)


def test_no_shots_leave_a_prompt_as_it_is() -> None:
    assert with_shots("p", []) == "p"
    assert split_shots("p") == ([], "p")
    assert split_shots(with_shots("p", SHOTS)) == (SHOTS, "p")
