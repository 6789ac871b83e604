"""lm-evaluation-harness itself writes samples, which are then read; tests/soak/install installs it.

python -m tests.soak.test_lm_eval        # writes the files in tests/lm_eval/files/ anew
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from math import comb
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file, save_file

from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build
from tests.checkpoints_tokens import with_template
from tests.soak.served import served
from tests.stack import BASE, ROOT, clean_environment

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

TOOL = Path(os.environ.get("FORKDIV_LM_EVAL", ROOT / "build" / "lm-eval" / "bin" / "lm_eval"))
SHARPER = 30.0

# How the filter `all` is judged: every sample, in a list.
EACH = """
def right(doc, results):
    return {"right": [float(one == doc["answer"]) for one in results[0]]}


def mean(lists):
    values = [one for some in lists for one in some]
    return sum(values) / len(values)
"""


def filtered(name: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "filter": list(steps)}


FIRST = {"function": "take_first"}
MATCH = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
LAST_NODE = {"function": "regex", "group_select": -1, "regex_pattern": "\\b([a-p])\\b"}
STRICT = {"function": "regex", "regex_pattern": "#### ([a-p])"}

# What of a task is not as for `graphs`. The names of all begin with graphs.
TASKS: dict[str, dict[str, Any]] = {
    "graphs": {},
    "graphs_filters": {
        "repeats": 4,
        "filter_list": [
            filtered("first", FIRST),
            filtered("vote", {"function": "majority_vote"}, FIRST),
            filtered("last", LAST_NODE, FIRST),
        ],
    },
    "graphs_each": {
        "repeats": 4,
        "filter_list": [filtered("all", {"function": "take_first_k", "k": 4})],
        "process_results": "!function each.right",
        "metric_list": [{**MATCH, "metric": "right", "aggregation": "!function each.mean"}],
    },
    # in the form of grade-school maths: the answer stands behind ####, and is taken by patterns
    "graphs_hash": {
        "repeats": 4,
        "doc_to_target": "{{worked}}",
        "filter_list": [filtered("strict", STRICT, FIRST), filtered("flexible", LAST_NODE, FIRST)],
        "metric_list": [{**MATCH, "regexes_to_ignore": ["(?s).*#### "]}],
    },
    "graphs_greedy": {
        "repeats": 3,
        "generation_kwargs": {"until": ["<eos>"], "do_sample": False, "max_gen_toks": 8},
    },
    "graphs_once": {"repeats": 1},
    "graphs_choices": {
        "repeats": 1,
        "output_type": "multiple_choice",
        "doc_to_choice": ["p n e i", "j h a f"],
        "doc_to_target": '{{["p n e i", "j h a f"].index(answer)}}',
        "metric_list": [{**MATCH, "metric": "acc"}],
    },
}
GROUP = {"group": "graphs_group", "task": ["graphs_signed", "graphs_unsigned"]}


def write_tasks(folder: Path, documents: int, few: int, repeats: int) -> Path:
    """The tasks' files: `graphs` over so many documents, the others over `few`, and a group of
    the signed and of the unsigned ones."""
    folder.mkdir(parents=True)
    (folder / "each.py").write_text(EACH)
    task = build(GraphBranchingConfig())
    docs = []
    for problem in task.heldout("test", documents):
        answer = task.solutions(problem)[0].text
        worked = f"The path is {answer}.\n#### {answer[-1]}"
        known = {"question": problem.prompt, "answer": answer, "worked": worked}
        docs.append(known | {"subset": problem.subset})
    parts = {name: docs if name == "graphs" else docs[:few] for name in TASKS}
    parts |= {
        f"graphs_{one}": [doc for doc in docs if doc["subset"] == one]
        for one in ("signed", "unsigned")
    }
    for name, some in parts.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(doc) + "\n" for doc in some))
        text = yaml.safe_dump(_task(name, data, repeats) | TASKS.get(name, {}), sort_keys=False)
        # a function is named by a tag of the tool's own, which is no text
        text = re.sub(r"'(!function [\w.]+)'", r"\1", text)
        (folder / f"{name}.yaml").write_text(text)
    (folder / "group.yaml").write_text(yaml.safe_dump(GROUP))
    return folder


def _task(name: str, data: Path, repeats: int) -> dict[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {
            "until": ["<eos>"],
            "do_sample": True,
            "temperature": 1.0,
            "max_gen_toks": 8,
        },
        "repeats": repeats,
        "metric_list": [MATCH],
    }


def sharpened(folder: Path) -> Path:
    """The base with larger logits: what it does not prefer, it gives up."""
    shutil.copytree(BASE, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * SHARPER
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def run_tool(model: Path, tasks: Path, names: str, to: Path, *more: str) -> None:
    loaded = ("--model", "hf", "--model_args", f"pretrained={model},dtype=float32")
    _run_tool([*loaded, "--device", "cpu", "--batch_size", "64"], tasks, names, to, *more)


def _run_tool(model: list[str], tasks: Path, names: str, to: Path, *more: str) -> None:
    done = subprocess.run(
        [
            *(str(TOOL), "run", *model, "--include_path", str(tasks)),
            *("--tasks", *names.split(), "--log_samples", "--output_path", str(to), *more),
        ],
        env=clean_environment()
        | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(to.parent / "hf")},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def samples_of(folder: Path, task: str) -> Path:
    (path,) = folder.glob(f"*/samples_{task}_2*.jsonl")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples of the base and of the sharper model, 16 of each problem, in `base` and `tuned`."""
    folder = tmp_path_factory.mktemp("lm-eval")
    tasks = write_tasks(folder / "tasks", 12, 4, repeats=16)
    names = "graphs_group graphs graphs_filters"
    run_tool(BASE, tasks, names, folder / "base")
    run_tool(sharpened(folder / "sharp"), tasks, names, folder / "tuned")
    return folder


def by_hand(path: Path, k: int) -> float:
    rows = {row["doc_id"]: row for row in map(json.loads, path.read_text().splitlines())}
    found = []
    for row in rows.values():
        (texts,) = row["resps"]
        wrong = sum(text != row["doc"]["answer"] for text in texts)
        found.append(1 - comb(wrong, k) / comb(len(texts), k))
    return sum(found) / len(found)


@pytest.mark.parametrize("task", ["graphs", "graphs_filters", "graphs_signed"])
def test_what_the_tool_writes_is_measured_as_by_hand(runs: Path, task: str, tmp_path: Path) -> None:
    tuned, base = samples_of(runs / "tuned", task), samples_of(runs / "base", task)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "jobs.coverage", f"place.root={tmp_path}", "name=mine"),
            *("--samples", str(tuned), "--base", str(base)),
        ],
        cwd=ROOT,
        env=clean_environment(),
        timeout=600,
    )
    assert done.returncode == 0
    found = json.loads((tmp_path / "mine" / "summary.json").read_text())
    cell = next(cell for cell in found["cells"] if cell["subset"] == "all")
    for k, band in cell["pass_at"].items():
        assert band["value"] == pytest.approx(by_hand(tuned, int(k)))
        change = by_hand(tuned, int(k)) - by_hand(base, int(k))
        assert cell["delta_to_base"][k]["value"] == pytest.approx(change)


def test_the_tools_chat_model_gets_the_answers_of_the_same_model_that_it_loads(
    tmp_path: Path,
) -> None:
    """Its messages are rendered here, and by transformers there."""
    chat = with_template(tmp_path / "chat", "{% for m in messages %}{{ m.content }}{% endfor %}")
    tasks = write_tasks(tmp_path / "tasks", 8, 4, repeats=2)
    names = "graphs_greedy graphs_once"
    run_tool(chat.path, tasks, names, tmp_path / "loaded", "--apply_chat_template")
    with served(tmp_path, chat.path) as url:
        route = f"base_url={url}/v1/chat/completions"
        model = f"model=chat,{route},num_concurrent=2,max_retries=1,max_length=512"
        arguments = ["--model", "local-chat-completions", "--model_args", model]
        _run_tool(arguments, tasks, names, tmp_path / "asked", "--apply_chat_template")
    loaded, asked = (responses(tmp_path / name, "graphs_greedy") for name in ("loaded", "asked"))
    assert asked == loaded and len(asked) == 4
    assert len(responses(tmp_path / "asked", "graphs_once")) == 4


def responses(folder: Path, task: str) -> dict[int, list[str]]:
    rows = map(json.loads, samples_of(folder, task).read_text().splitlines())
    return {row["doc_id"]: [text.strip() for text in row["resps"][0]] for row in rows}


def test_the_tool_reads_what_is_exported(tmp_path: Path) -> None:
    """Its names, dates and table, by its own functions."""
    settings = [
        f"place.root={tmp_path}",
        "place.dashboard=false",
        "name=mine",
        "eval.problems=10",
        "eval.samples=8",
        f"checkpoint={BASE}",
    ]
    for verb in ("evaluate", "export"):
        done = subprocess.run(
            [sys.executable, "-m", f"jobs.{verb}", *settings],
            cwd=ROOT,
            env=clean_environment(),
            timeout=900,
        )
        assert done.returncode == 0
    found = json.loads((tmp_path / "mine" / "evaluation.json").read_text())
    read = subprocess.run(
        [str(TOOL.with_name("python")), "-c", READ, str(tmp_path / "mine" / "harness")],
        capture_output=True,
        text=True,
        timeout=600,
        env=clean_environment(),
    )
    assert read.returncode == 0, read.stderr
    cell = next(cell for cell in found["cells"] if cell["subset"] == "all")
    assert f"{cell['pass_at']['8']['value']:.4f}" in read.stdout
    assert "graph_branching" in read.stdout


READ = """
import json, pathlib, sys
from lm_eval import utils

names = [str(path) for path in pathlib.Path(sys.argv[1]).rglob("*_*.json*")]
newest = utils.get_latest_filename(utils.get_results_filenames(names))
print(utils.make_table(json.load(open(newest))))
for name in utils.get_sample_results_filenames(names):
    assert utils.get_file_task_name(pathlib.Path(name).name) == "graph_branching", name
    rows = [json.loads(line) for line in open(name)]
    assert rows and all(len(row["resps"][0]) == 8 for row in rows)
"""


def main() -> None:
    """Write tests/lm_eval/files/ anew."""
    to = ROOT / "tests" / "harness"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tasks = write_tasks(root / "tasks", 8, 2, repeats=8)
        run_tool(BASE, tasks, "graphs graphs_each", root / "base")
        run_tool(sharpened(root / "sharp"), tasks, " ".join(TASKS), root / "tuned")
        shutil.rmtree(to)
        for model in ("base", "tuned"):
            (to / model).mkdir(parents=True)
            for path in (root / model).glob("*/samples_*.jsonl"):
                shutil.copy(path, to / model)


if __name__ == "__main__":
    main()
