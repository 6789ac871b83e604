"""lm-evaluation-harness itself writes samples, which are then read; tests/soak/install installs it.

python -m tests.soak.test_harness        # writes the files in tests/harness/ anew
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file, save_file

from forkdiv.task_config import GraphBranchingConfig
from forkdiv.tasks import build
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


def write_tasks(folder: Path, documents: int, few: int) -> Path:
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
        text = yaml.safe_dump(_task(name, data) | TASKS.get(name, {}), sort_keys=False)
        # a function is named by a tag of the tool's own, which is no text
        text = re.sub(r"'(!function [\w.]+)'", r"\1", text)
        (folder / f"{name}.yaml").write_text(text)
    (folder / "group.yaml").write_text(yaml.safe_dump(GROUP))
    return folder


def _task(name: str, data: Path) -> dict[str, Any]:
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
        "repeats": 8,
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
    done = subprocess.run(
        [
            *(
                str(TOOL),
                "run",
                "--model",
                "hf",
                "--model_args",
                f"pretrained={model},dtype=float32",
            ),
            *("--device", "cpu", "--batch_size", "64", "--include_path", str(tasks)),
            *("--tasks", *names.split(), "--log_samples", "--output_path", str(to), *more),
        ],
        env=clean_environment()
        | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(to.parent / "hf")},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
