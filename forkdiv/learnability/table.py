"""The files of a learnability table that people read: its tokens, and its card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from forkdiv.core.config.study import LearnabilityConfig, StudyConfig
from forkdiv.coverage.stats import wilson
from forkdiv.data.token_table import CARD, TOKENS, TokenClass
from forkdiv.learnability.evidence import Evidence
from forkdiv.learnability.spans import Spans

CONFIDENCE = 0.95


def write_tokens(
    folder: Path,
    token_spans: Sequence[Spans],
    evidence: Evidence,
    kinds: NDArray[np.uint8],
    floor: float,
) -> None:
    """Writes one row for each response token: the row of its example, its character range, class,
    and probabilities under the base and under the runs that have not seen the row. Columns of runs
    are null without runs."""
    spans = np.concatenate(list(token_spans))
    runs = evidence.heldout
    heldout = runs.mean(axis=1) if runs.shape[1] else None
    gain = None if heldout is None else np.log((heldout + floor) / (evidence.base + floor))
    nothing = pa.nulls(len(kinds), pa.float64())
    columns = {
        "row": np.repeat(np.arange(len(evidence.lengths)), evidence.lengths),
        "token": np.concatenate([np.arange(length) for length in evidence.lengths]),
        "id": evidence.labels,
        "start": spans[:, 0],
        "end": spans[:, 1],
        "class": pa.array([TokenClass(kind).name.lower() for kind in kinds.tolist()]),
        "base": evidence.base,
        "base_entropy": evidence.entropy,
        "heldout": nothing if heldout is None else heldout,
        "gain": nothing if gain is None else gain,
        "runs": pa.array(runs.tolist(), pa.list_(pa.float64())),
    }
    pq.write_table(pa.table(columns), folder / TOKENS, compression="zstd")


def shares(kinds: NDArray[np.uint8]) -> dict[str, Any]:
    """Returns the number of tokens of each class, and its share of the tokens with a label."""
    labelled = int((kinds != TokenClass.FREE).sum())
    out: dict[str, Any] = {}
    for kind in TokenClass:
        count = int((kinds == kind).sum())
        share = round(count / labelled, 6) if labelled and kind != TokenClass.FREE else None
        out[kind.name.lower()] = {"tokens": count, "share": share}
    return out


def epochs(config: LearnabilityConfig) -> float:
    """Returns the epochs over the whole data that the short runs take together."""
    if config.mask in ("none", "exact"):
        return 0.0
    return number_of_runs(config) * config.epochs / 2


def number_of_runs(config: LearnabilityConfig) -> int:
    """Returns the number of short runs, all rounds and planted rows together."""
    return config.runs * config.rounds * (1 + len(config.planted))


def cost(study: StudyConfig, runs: int) -> dict[str, Any]:
    """Returns what the short runs cost: epochs over the whole data, their share of the final run,
    and the number of epochs of plain fine-tuning with the same total."""
    epochs = runs * study.learnability.epochs / 2
    return {
        "runs": runs,
        "epochs": epochs,
        "share_of_final_run": round(epochs / study.sft.epochs, 4),
        "epochs_at_equal_cost": study.sft.epochs + epochs,
    }


def rate(hits: int, of: int) -> dict[str, Any]:
    """Returns a share with its Wilson limits; None if `of` is 0."""
    if not of:
        return {"hits": hits, "of": of, "share": None, "low": None, "high": None}
    low, high = wilson(hits / of, of, CONFIDENCE)
    return {"hits": hits, "of": of, "share": hits / of, "low": low, "high": high}


def read_card(folder: Path) -> dict[str, Any]:
    """Returns the card of a table."""
    card: dict[str, Any] = json.loads((folder / CARD).read_text())
    return card


def sentences(card: Mapping[str, Any]) -> list[str]:
    """Returns what the card says about the criterion and the cost."""
    out = []
    if found := card.get("criterion"):
        text = f"Of {found['open_tokens']:,} tokens that the base does not know, "
        if found["called_learnable"]:
            false, share = found["coin_flips_among_them"], found["coin_flips_share"]
            text += f"{found['called_learnable']:,} are called learnable; as the runs' confident "
            text += f"misses show, {false:.0f} of these ({share:.1%}) are coin flips."
        else:
            text += "none can be called learnable with this error rate."
        out.append(text)
    for kind, planted in card.get("planted_called_learnable", {}).items():
        if planted["of"]:
            share, low, high = (f"{planted[x]:.1%}" for x in ("share", "low", "high"))
            out.append(
                f"Of the planted {kind.replace('-', ' ')}, {share} are called learnable ({low} to "
                f"{high}; {planted['hits']:,} of {planted['of']:,} tokens that the base does not "
                "know)."
            )
    cost = card["cost"]
    if cost["runs"]:
        out.append(
            f"The {cost['runs']} short runs cost {cost['epochs']:g} epochs of the whole data, "
            f"{cost['share_of_final_run']:g} times the final run; plain fine-tuning of "
            f"{cost['epochs_at_equal_cost']:g} epochs costs as much as both."
        )
    return out
