"""Next-token entropies and likely tokens of a model along the responses of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.config.study import PromptConfig
from forkdiv.core.errors import InvalidResult, refuse
from forkdiv.core.records import Example
from forkdiv.forks.sites import END, Positions, Step
from forkdiv.models.asked import OwnTokenizer, own_tokenizer
from forkdiv.models.checkpoint import read_config
from forkdiv.models.shape import context_length
from forkdiv.models.supported import check_no_adapter
from forkdiv.models.weights import check_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Limits of one batch, exceeded only by a single long text: tokens limit the activations, logits
# (256 MiB) the memory that a large vocabulary needs.
MAX_BATCH_TOKENS = 2**13
MAX_BATCH_LOGITS = 2**26
MAX_CHUNK_DOUBLES = 2**23
MAX_UNKNOWN_SHARE = 0.01  # rare characters may be unknown; a higher share means a wrong tokenizer


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Token ids of a prompt (`head`) and of a response with its end token (`tail`), and the
    character range of each response token, of shape (tokens, 2)."""

    head: Ints
    tail: Ints
    spans: Ints

    def __len__(self) -> int:
        return len(self.head) + len(self.tail)


@dataclass(frozen=True, slots=True)
class _RowPredictions:
    """The entropy of each position in nats, and the likely tokens as three arrays (position,
    token, probability), ordered by position."""

    entropy: Floats
    place: Ints
    token: Ints
    chance: Floats


@dataclass(frozen=True)
class Predictions:
    """A model's next-token predictions along the responses that fit its context.

    `too_long` counts the responses that do not fit; `unknown` counts tokens of prompts and
    responses that are not in the vocabulary.
    """

    too_long: int
    unknown: int
    _own: OwnTokenizer
    _examples: Sequence[Example]
    _encoded: Mapping[int, _Encoded]
    _predictions: Mapping[int, _RowPredictions]

    @property
    def rows(self) -> frozenset[int]:
        return frozenset(self._encoded)

    def positions(self) -> Positions:
        spans = np.concatenate([encoded.spans for encoded in self._encoded.values()])
        lengths = [len(encoded.tail) for encoded in self._encoded.values()]
        entropy = np.concatenate([self._predictions[row].entropy for row in self._encoded])
        rows = np.repeat(np.array(list(self._encoded), dtype=np.int64), lengths)
        return Positions(rows, spans[:, 0], spans[:, 1], entropy)

    def entropy(self, row: int) -> Floats:
        """Returns the entropy in nats for each token of the response and its end token."""
        return self._predictions[row].entropy

    def steps(self, row: int) -> list[Step]:
        """Returns the tokens of a response, each from its first non-space character."""
        text, encoded = self._examples[row].response, self._encoded[row]
        steps = []
        for token, (start, end) in zip(encoded.tail.tolist(), encoded.spans.tolist(), strict=True):
            piece = _strip_leading_space(text[start:end])
            word = END if token in self._own.ends else piece or self.text(token)
            steps.append(Step(token, word, end - len(piece) if word else start))
        return steps

    def likely(self, row: int, place: int) -> list[tuple[int, float]]:
        """Returns the tokens of at least `min_probability` at one position, with probability."""
        predictions = self._predictions[row]
        selected = slice(*np.searchsorted(predictions.place, [place, place + 1]))
        return list(
            zip(
                predictions.token[selected].tolist(),
                predictions.chance[selected].tolist(),
                strict=True,
            )
        )

    def text(self, token: int) -> str:
        if token in self._own.ends:
            return END
        text = _strip_leading_space(str(self._own.tokenizer.decode([token])))
        return text or str(self._own.tokenizer.convert_ids_to_tokens(token))


def predict(
    path: Path,
    examples: Sequence[Example],
    prompt: PromptConfig,
    min_probability: float,
    device: str,
) -> Predictions:
    """Runs the checkpoint over every response after its prompt, teacher-forced in float32, with
    entropies in float64.

    Tokens of at least `min_probability` count as likely. `device` is place.device, or a name of a
    torch device. Raises UserError if the model or its tokenizer cannot read the data.
    """
    from forkdiv.models.loading import load_model

    own = _own_tokenizer(path)
    tokenizer = own.tokenizer
    encoded = _encode(tokenizer, examples, prompt)
    unknown = _count_unknown(path, tokenizer, examples, encoded)
    model = load_model(path).to("cuda" if device == "gpu" else device).eval()
    context = context_length(read_config(path)) or float("inf")
    fitting = {row: tokens for row, tokens in encoded.items() if len(tokens) <= context}
    if not fitting:
        raise refuse(
            f"no example fits the context of the model {path}",
            f"examples of {min(map(len, encoded.values()))} or more tokens (prompt and response)",
            f"up to {context} tokens",
            "set audit.model to a model with a longer context",
        )
    predictions = _predict(model, fitting, min_probability)
    return Predictions(len(encoded) - len(fitting), unknown, own, examples, fitting, predictions)


def _own_tokenizer(path: Path) -> OwnTokenizer:
    allowed = "a checkpoint folder with config.json, safetensors and a fast tokenizer"
    if path.is_dir():
        check_no_adapter(path)
    if not (path / "config.json").is_file():
        raise refuse("audit.model is not a checkpoint", path, allowed, "correct audit.model")
    check_weights(path)
    own = own_tokenizer(path)
    if not own.tokenizer.is_fast or own.tokenizer.eos_token_id is None:
        raise refuse(
            "the tokenizer cannot locate forks",
            path,
            "a fast tokenizer (for character offsets) with an end token",
            "export the checkpoint with a fast tokenizer, or set audit.model to another checkpoint",
        )
    return own


def _encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], prompt: PromptConfig
) -> dict[int, _Encoded]:
    from forkdiv.models.prompting import prompt_ids

    out = {}
    for row, example in enumerate(examples):
        head = prompt_ids(tokenizer, example.prompt, prompt)
        if not head:
            raise refuse(
                "a prompt is empty",
                f"no token in the prompt of example {row} ({example.problem_id})",
                "prompts of one token or more",
                "set prompt.template=plain, or remove these examples",
            )
        # the same tokens as prompting.response_ids, with character offsets
        tail = tokenizer(example.response, add_special_tokens=False, return_offsets_mapping=True)
        ids = [*tail["input_ids"], tokenizer.eos_token_id]
        spans = [*tail["offset_mapping"], (len(example.response),) * 2]
        out[row] = _Encoded(*(np.array(values, dtype=np.int64) for values in (head, ids, spans)))
    return out


def _count_unknown(
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    encoded: Mapping[int, _Encoded],
) -> int:
    """Returns the number of unknown tokens. Raises UserError if their share is too high."""
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown == tokenizer.eos_token_id:  # a template may write the end token
        return 0
    words: Counter[str] = Counter()
    count = 0
    for row, tokens in encoded.items():
        count += int((tokens.head == unknown).sum() + (tokens.tail == unknown).sum())
        for start, end in tokens.spans[tokens.tail == unknown]:
            words[examples[row].response[start:end]] += 1
    total = sum(map(len, encoded.values()))
    if count > MAX_UNKNOWN_SHARE * total:
        shown = ", ".join(repr(word) for word, _ in words.most_common(3)) or "words of the prompts"
        raise refuse(
            f"the vocabulary of {path} does not cover the data",
            f"{count:,} unknown of {total:,} tokens ({shown})",
            f"at most {MAX_UNKNOWN_SHARE:.0%} unknown",
            "set audit.model to a model that was trained on similar text",
        )
    return count


def _text_config(model: PreTrainedModel) -> PretrainedConfig:
    """Returns the configuration of the language model; multimodal models have several."""
    config: PretrainedConfig = model.config.get_text_config()
    return config


def _predict(
    model: PreTrainedModel, encoded: Mapping[int, _Encoded], min_probability: float
) -> dict[int, _RowPredictions]:
    import torch

    out: dict[int, _RowPredictions] = {}
    for rows in _batches(encoded, _text_config(model).vocab_size):
        width = max(len(encoded[row]) for row in rows)
        # right padding: a causal model's predictions do not depend on later tokens
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        predicts_response = torch.zeros((len(rows), width), dtype=torch.bool)
        for at, row in enumerate(rows):
            tokens = encoded[row]
            ids[at, : len(tokens)] = torch.from_numpy(np.concatenate([tokens.head, tokens.tail]))
            # the positions that predict a response token
            predicts_response[at, len(tokens.head) - 1 : len(tokens) - 1] = True
        parts = []
        with torch.inference_mode():
            logits = model(ids.to(device=model.device)).logits[
                predicts_response.to(device=model.device)
            ]
            for part in logits.split(max(MAX_CHUNK_DOUBLES // logits.shape[-1], 1)):
                p = torch.log_softmax(part.double(), dim=-1).exp()
                place, token = (p >= min_probability).nonzero(as_tuple=True)
                values = (torch.special.entr(p).sum(-1), place, token, p[place, token])
                parts.append(_RowPredictions(*(tensor.cpu().numpy() for tensor in values)))
        out |= _split_by_row(parts, {row: len(encoded[row].tail) for row in rows})
    return out


def _batches(encoded: Mapping[int, _Encoded], vocabulary: int) -> Iterator[list[int]]:
    """Yields batches of rows within the limits, shortest texts first."""
    most = min(MAX_BATCH_TOKENS, MAX_BATCH_LOGITS // vocabulary)
    batch: list[int] = []
    for row in sorted(encoded, key=lambda row: len(encoded[row])):
        if batch and (len(batch) + 1) * len(encoded[row]) > most:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def _split_by_row(
    parts: Sequence[_RowPredictions], lengths: Mapping[int, int]
) -> dict[int, _RowPredictions]:
    """Splits the concatenated predictions of a batch by row."""
    starts = np.cumsum([0, *(len(part.entropy) for part in parts)])
    entropy = np.concatenate([part.entropy for part in parts])
    place = np.concatenate([p.place + start for p, start in zip(parts, starts, strict=False)])
    token = np.concatenate([part.token for part in parts])
    chance = np.concatenate([part.chance for part in parts])
    if not np.isfinite(entropy).all():
        raise InvalidResult(
            "the logits of audit.model contain NaN or infinite values; set audit.model to another "
            "checkpoint"
        )
    out, first = {}, 0
    for row, length in lengths.items():
        selected, last = slice(*np.searchsorted(place, [first, first + length])), first + length
        out[row] = _RowPredictions(
            entropy[first:last], place[selected] - first, token[selected], chance[selected]
        )
        first = last
    return out


def _strip_leading_space(text: str) -> str:
    """Removes the space that many tokenizers put before a word."""
    return text.lstrip() or text
