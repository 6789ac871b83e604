"""Next-token predictions of a checkpoint along the responses of rows of token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.errors import InvalidResult
from forkdiv.data.token_table import BaseDistribution
from forkdiv.data.tokenized import Row

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Floats = NDArray[np.float64]

# Limits of one batch, exceeded only by a single long row: tokens limit the activations, logits
# (256 MiB) the memory that a large vocabulary needs.
MAX_BATCH_TOKENS, MAX_BATCH_LOGITS, MAX_CHUNK_DOUBLES = 2**13, 2**26, 2**23
# The likely tokens that are kept of a distribution: the fewest that have this probability together.
KEPT_PROBABILITY, MOST_KEPT = 0.9999, 64


@dataclass(frozen=True)
class RowPrediction:
    """Predictions along one response: the probability of its own token and the entropy in nats,
    float64 (tokens,), the likely tokens, and the probabilities of tokens that were asked for."""

    label: Floats
    entropy: Floats
    likely: BaseDistribution
    asked: Floats


def predict(
    path: Path,
    rows: Sequence[Row],
    device: str,
    asked: Sequence[BaseDistribution] | None = None,
) -> list[RowPrediction]:
    """Returns the predictions along each row, teacher-forced in float32 with float64 sums.

    `device` is place.device; `asked` are tokens at each position of each response whose
    probabilities are wanted. Raises InvalidResult if the model's logits are NaN or infinite.
    """
    from forkdiv.models.loading import load_model

    model = load_model(path).to("cuda" if device == "gpu" else "cpu").eval()
    out: dict[int, RowPrediction] = {}
    for part in _batches(rows, model.config.get_text_config().vocab_size):
        chosen = [rows[i] for i in part]
        wanted = BaseDistribution.joined([asked[i] for i in part]) if asked else None
        for index, prediction in zip(part, _predict(model, chosen, wanted), strict=True):
            if not np.isfinite(prediction.entropy).all():
                raise InvalidResult(
                    f"the logits of {path} are NaN or infinite along a response; lower "
                    "sft.learning_rate, or check the checkpoint"
                )
            out[index] = prediction
    return [out[index] for index in range(len(rows))]


def _predict(
    model: PreTrainedModel, rows: Sequence[Row], asked: BaseDistribution | None
) -> Iterator[RowPrediction]:
    import torch

    width = max(len(prompt) + len(response) for prompt, response in rows)
    # right padding: a causal model's predictions do not depend on later tokens
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    at = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, (prompt, response) in enumerate(rows):
        ids[i, : len(prompt) + len(response)] = torch.tensor([*prompt, *response])
        at[i, len(prompt) - 1 : len(prompt) + len(response) - 1] = True
    labels = np.array([token for _, response in rows for token in response])
    if asked is None:
        asked = _none(len(labels))
    parts = []
    with torch.inference_mode():
        logits = model(ids.to(model.device)).logits[at.to(model.device)]
        size = max(MAX_CHUNK_DOUBLES // logits.shape[-1], 1)
        for first in range(0, len(labels), size):
            last = min(first + size, len(labels))
            chunk = asked.part(first, last)
            parts.append(_of_logits(logits[first:last], labels[first:last], chunk))
    label, entropy, asked_p = (np.concatenate([part[i] for part in parts]) for i in (0, 1, 3))
    likely = BaseDistribution.joined([part[2] for part in parts])
    first = 0
    for _, response in rows:
        last = first + len(response)
        own = slice(int(asked.starts[first]), int(asked.starts[last]))
        yield RowPrediction(
            label[first:last], entropy[first:last], likely.part(first, last), asked_p[own]
        )
        first = last


def _none(positions: int) -> BaseDistribution:
    starts = np.zeros(positions + 1, dtype=np.int64)
    return BaseDistribution(starts, np.zeros(0, np.int32), np.zeros(0, np.float32))


def _of_logits(
    z: torch.Tensor, labels: NDArray[np.int64], asked: BaseDistribution
) -> tuple[Floats, Floats, BaseDistribution, Floats]:
    """Returns the fields of a `RowPrediction` for logits (tokens, vocabulary)."""
    import torch

    p = torch.softmax(z.double(), dim=-1)
    values, ids = p.topk(min(MOST_KEPT, p.shape[-1]), dim=-1)
    before = values.cumsum(-1) - values
    kept = before < KEPT_PROBABILITY
    starts = np.concatenate([[0], kept.sum(-1).cpu().numpy().cumsum()]).astype(np.int64)
    likely = BaseDistribution(
        starts,
        ids[kept].cpu().numpy().astype(np.int32),
        values[kept].cpu().numpy().astype(np.float32),
    )
    label = p.gather(-1, torch.from_numpy(labels).to(p.device)[:, None])[:, 0]
    position = np.repeat(np.arange(len(labels)), np.diff(asked.starts))
    at = (torch.from_numpy(x).to(p.device) for x in (position, asked.ids.astype(np.int64)))
    asked_p = p[tuple(at)].cpu().numpy()
    entropy = torch.special.entr(p).sum(-1).cpu().numpy()
    return label.cpu().numpy(), entropy, likely, asked_p


def draw(
    path: Path,
    prompts: Sequence[Sequence[int]],
    longest: int,
    ends: Sequence[int],
    seed: int,
    device: str,
    plausible: float | None = None,
) -> list[Row]:
    """Returns each prompt with a response that the checkpoint draws at temperature 1, of at most
    `longest` tokens including its end token. With `plausible`, every token is instead the one with
    the smallest id among those of at least this probability."""
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    from forkdiv.models.loading import load_model

    model = load_model(path).to("cuda" if device == "gpu" else "cpu").eval()
    config = GenerationConfig(
        do_sample=plausible is None,
        max_new_tokens=longest,
        eos_token_id=list(ends),
        pad_token_id=ends[0],
        **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if plausible is None else {}),
    )
    rule = [_SmallestPlausible(plausible)] if plausible is not None else []
    by_length: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):  # equal lengths need no padding
        by_length.setdefault(len(prompt), []).append(i)
    out: dict[int, Row] = {}
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        for length, members in sorted(by_length.items()):
            size = max(MAX_BATCH_TOKENS // (length + longest), 1)
            for first in range(0, len(members), size):
                part = members[first : first + size]
                ids = torch.tensor([list(prompts[i]) for i in part], device=model.device)
                drawn = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=config,
                    logits_processor=LogitsProcessorList(rule),
                )
                for i, tokens in zip(part, drawn[:, length:].tolist(), strict=True):
                    out[i] = (list(prompts[i]), _until_end(tokens, ends))
    return [out[i] for i in range(len(prompts))]


class _SmallestPlausible:
    """A logits processor that leaves only the smallest id of at least this probability."""

    def __init__(self, least: float) -> None:
        self._least = least

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        p = torch.softmax(scores.double(), dim=-1)
        # of a distribution without such a token, the most likely one
        chosen = (p >= torch.minimum(p.amax(-1, keepdim=True), p.new_tensor(self._least))).int()
        out = torch.full_like(scores, -torch.inf)
        return out.scatter(-1, chosen.argmax(-1, keepdim=True), 0.0)


def _until_end(tokens: Sequence[int], ends: Sequence[int]) -> list[int]:
    last = next((at for at, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return list(tokens[: last + 1])


def _batches(rows: Sequence[Row], vocabulary: int) -> Iterator[list[int]]:
    """Yields the indices of rows in batches within the limits, shortest rows first."""
    lengths = [len(prompt) + len(response) for prompt, response in rows]
    most = min(MAX_BATCH_TOKENS, MAX_BATCH_LOGITS // vocabulary)
    batch: list[int] = []
    for row in sorted(range(len(rows)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > most:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
