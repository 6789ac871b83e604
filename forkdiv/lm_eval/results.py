"""The content of `results_*.json` for samples that forkdiv drew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import forkdiv
from forkdiv.core.code_version import commit
from forkdiv.coverage import stats
from forkdiv.lm_eval.run import Run


def results(run: Run, values: Mapping[str, stats.Floats], digest: str) -> dict[str, Any]:
    """Returns the content of the file.

    `values` has one value per problem for each metric; `digest` is the hash of all lines. Fields
    that only lm_eval can fill (its version, few-shot examples) are missing or None.
    """
    problems = len(next(iter(values.values())))
    return {
        "results": {run.task: _metrics(run, values, problems)},
        "group_subtasks": {},
        "configs": {run.task: _config(run, values)},
        "versions": {run.task: 1.0},
        "n-shot": {run.task: 0},
        "higher_is_better": {run.task: dict.fromkeys(values, True)},
        "n-samples": {run.task: {"original": problems, "effective": problems}},
        "config": {
            "model": "forkdiv",
            "model_args": {"pretrained": run.checkpoint, "dtype": run.decoder.dtype},
            "model_dtype": run.decoder.dtype,
            "limit": None,
            "gen_kwargs": run.settings,
        },
        "git_hash": commit(),
        "date": run.created.timestamp(),
        "forkdiv_version": forkdiv.__version__,
        "task_hashes": {run.task: digest},
        "model_source": "forkdiv",
        "model_name": run.model,
        "model_name_sanitized": run.folder,
        "system_instruction": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": None,
        "chat_template": None,
        "chat_template_sha": None,
    }


def _metrics(
    run: Run, values: Mapping[str, stats.Floats], problems: int
) -> dict[str, float | int | str]:
    metrics: dict[str, float | int | str] = {
        "name": run.task,
        "alias": run.task,
        "sample_len": problems,
    }
    for name, column in values.items():
        metrics[f"{name},none"] = float(column.mean())
        spread = float(np.std(column, ddof=1)) / problems**0.5 if problems > 1 else None
        metrics[f"{name}_stderr,none"] = "N/A" if spread is None else spread
    return metrics


def _config(run: Run, values: Mapping[str, stats.Floats]) -> dict[str, Any]:
    return {
        "task": run.task,
        "output_type": "generate_until",
        "num_fewshot": 0,
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in values
        ],
        "generation_kwargs": run.settings,
        "repeats": run.n,
        "metadata": {"version": 1.0, "pretrained": run.checkpoint},
    }
