"""What a model says along given responses: next-token entropies and likely tokens."""

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

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# What one batch may hold, unless one text needs more: tokens bound a model's activations,
# logits (256 MiB) what a large vocabulary adds.
TOKENS_AT_ONCE = 2**13
LOGITS_AT_ONCE = 2**26
DOUBLES_AT_ONCE = 2**23
UNKNOWN_SHARE = 0.01  # a rare sign may be unknown to a tokenizer; more, and it is the wrong one


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Token ids of a prompt and of a response with its end token, and the characters that each
    token of the response covers, of shape (tokens, 2)."""

    head: Ints
    tail: Ints
    spans: Ints

    def __len__(self) -> int:
        return len(self.head) + len(self.tail)


@dataclass(frozen=True, slots=True)
class _Said:
    """The entropy of each position in nats, and the likely tokens as (position, token,
    probability) in three arrays, in the order of the positions."""

    entropy: Floats
    place: Ints
    token: Ints
    chance: Floats


@dataclass(frozen=True)
class Reading:
    """What a model says along the responses that fit its context; `too_long` ones do not.
    `unknown` tokens of prompts and responses are not in its vocabulary."""

    too_long: int
    unknown: int
    _tokenizer: PreTrainedTokenizerBase
    _examples: Sequence[Example]
    _encoded: Mapping[int, _Encoded]
    _said: Mapping[int, _Said]

    @property
    def rows(self) -> frozenset[int]:
        return frozenset(self._encoded)

    def positions(self) -> Positions:
        spans = np.concatenate([one.spans for one in self._encoded.values()])
        lengths = [len(one.tail) for one in self._encoded.values()]
        entropy = np.concatenate([self._said[row].entropy for row in self._encoded])
        rows = np.repeat(np.array(list(self._encoded), dtype=np.int64), lengths)
        return Positions(rows, spans[:, 0], spans[:, 1], entropy)

    def entropy(self, row: int) -> Floats:
        """Nats, one per token of the response and one for its end token."""
        return self._said[row].entropy

    def steps(self, row: int) -> list[Step]:
        """The tokens of a response, from the first character that is no space."""
        text, one = self._examples[row].response, self._encoded[row]
        steps = []
        for token, (start, end) in zip(one.tail.tolist(), one.spans.tolist(), strict=True):
            piece = _bare(text[start:end])
            word = END if token == self._tokenizer.eos_token_id else piece or self.text(token)
            steps.append(Step(token, word, end - len(piece) if word else start))
        return steps

    def likely(self, row: int, place: int) -> list[tuple[int, float]]:
        """Tokens of at least the least probability asked for, with it, at one position."""
        said = self._said[row]
        ours = slice(*np.searchsorted(said.place, [place, place + 1]))
        return list(zip(said.token[ours].tolist(), said.chance[ours].tolist(), strict=True))

    def text(self, token: int) -> str:
        if token == self._tokenizer.eos_token_id:
            return END
        text = _bare(str(self._tokenizer.decode([token])))
        return text or str(self._tokenizer.convert_ids_to_tokens(token))


def read(
    path: Path, examples: Sequence[Example], prompt: PromptConfig, least: float, device: str
) -> Reading:
    """Read every response after its prompt with the checkpoint, teacher-forced in float32;
    entropies in float64. `least` is the probability from which on a token counts as likely;
    `device` is place.device, or a name that torch knows.

    Raises UserError for a model or tokenizer that cannot read the data.
    """
    from forkdiv.models.loading import load_model

    tokenizer = _tokenizer(path)
    encoded = _encode(tokenizer, examples, prompt)
    unknown = _check_known(path, tokenizer, examples, encoded)
    model = load_model(path).to("cuda" if device == "gpu" else device).eval()
    context = getattr(_settings(model), "max_position_embeddings", None) or float("inf")
    kept = {row: one for row, one in encoded.items() if len(one) <= context}
    if not kept:
        raise refuse(
            f"no example fits the context of the model {path}",
            f"{min(map(len, encoded.values()))} tokens of prompt and response or more",
            f"up to {context}",
            "set audit.model to one with a longer context",
        )
    said = _listen(model, kept, least)
    return Reading(len(encoded) - len(kept), unknown, tokenizer, examples, kept, said)


def _tokenizer(path: Path) -> PreTrainedTokenizerBase:
    from forkdiv.models.loading import load_tokenizer

    allowed = "a checkpoint folder with config.json, safetensors and a fast tokenizer"
    if not (path / "config.json").is_file():
        raise refuse("the audit's model is no checkpoint", path, allowed, "correct audit.model")
    try:
        tokenizer = load_tokenizer(path)
    except (OSError, ValueError) as error:
        came = f"{path} ({' '.join(str(error).split())[:200]})"
        raise refuse("the tokenizer cannot be loaded", came, allowed, "export it again") from error
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise refuse(
            "the tokenizer cannot place forks",
            path,
            "a fast tokenizer, which knows the characters of its tokens, with an end token",
            "export the checkpoint with one, or set audit.model to another",
        )
    return tokenizer


def _encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], prompt: PromptConfig
) -> dict[int, _Encoded]:
    from forkdiv.models.prompting import prompt_ids

    out = {}
    for row, example in enumerate(examples):
        head = prompt_ids(tokenizer, example.prompt, prompt)
        if not head:
            raise refuse(
                "a model needs a prompt to begin from",
                f"no token in the prompt of example {row} ({example.problem_id})",
                "prompts of one token or more",
                "set prompt.template=plain, or leave such examples out",
            )
        # what prompting.response_ids gives, with the characters that each token covers
        tail = tokenizer(example.response, add_special_tokens=False, return_offsets_mapping=True)
        ids = [*tail["input_ids"], tokenizer.eos_token_id]
        spans = [*tail["offset_mapping"], (len(example.response),) * 2]
        out[row] = _Encoded(*(np.array(one, dtype=np.int64) for one in (head, ids, spans)))
    return out


def _check_known(
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    encoded: Mapping[int, _Encoded],
) -> int:
    """How many tokens the tokenizer does not know. Raises UserError where they are many."""
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown == tokenizer.eos_token_id:  # a template may write the end token
        return 0
    words: Counter[str] = Counter()
    count = 0
    for row, one in encoded.items():
        count += int((one.head == unknown).sum() + (one.tail == unknown).sum())
        for start, end in one.spans[one.tail == unknown]:
            words[examples[row].response[start:end]] += 1
    total = sum(map(len, encoded.values()))
    if count > UNKNOWN_SHARE * total:
        shown = ", ".join(repr(word) for word, _ in words.most_common(3)) or "words of the prompts"
        raise refuse(
            f"the tokenizer of {path} does not know the words of the data",
            f"{count:,} unknown of {total:,} tokens ({shown})",
            f"at most {UNKNOWN_SHARE:.0%} unknown",
            "set audit.model to a model that was trained on such text",
        )
    return count


def _settings(model: PreTrainedModel) -> PretrainedConfig:
    """Of the language model, where pictures or sound have another."""
    config: PretrainedConfig = model.config.get_text_config()
    return config


def _listen(
    model: PreTrainedModel, encoded: Mapping[int, _Encoded], least: float
) -> dict[int, _Said]:
    import torch

    out: dict[int, _Said] = {}
    for rows in _batches(encoded, _settings(model).vocab_size):
        width = max(len(encoded[row]) for row in rows)
        # right padding: a causal model's answer does not depend on what comes after
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.bool)
        for at, row in enumerate(rows):
            one = encoded[row]
            ids[at, : len(one)] = torch.from_numpy(np.concatenate([one.head, one.tail]))
            mask[at, len(one.head) - 1 : len(one) - 1] = True  # what predicts the response
        parts = []
        with torch.inference_mode():
            logits = model(ids.to(device=model.device)).logits[mask.to(device=model.device)]
            for part in logits.split(max(DOUBLES_AT_ONCE // logits.shape[-1], 1)):
                p = torch.log_softmax(part.double(), dim=-1).exp()
                place, token = (p >= least).nonzero(as_tuple=True)
                found = (torch.special.entr(p).sum(-1), place, token, p[place, token])
                parts.append(_Said(*(tensor.cpu().numpy() for tensor in found)))
        out |= _dealt(parts, {row: len(encoded[row].tail) for row in rows})
    return out


def _batches(encoded: Mapping[int, _Encoded], vocabulary: int) -> Iterator[list[int]]:
    """Rows that fit into one batch, the shortest first."""
    most = min(TOKENS_AT_ONCE, LOGITS_AT_ONCE // vocabulary)
    batch: list[int] = []
    for row in sorted(encoded, key=lambda row: len(encoded[row])):
        if batch and (len(batch) + 1) * len(encoded[row]) > most:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def _dealt(parts: Sequence[_Said], lengths: Mapping[int, int]) -> dict[int, _Said]:
    """What was said along the responses of a batch, one after the other, dealt to its rows."""
    starts = np.cumsum([0, *(len(part.entropy) for part in parts)])
    entropy = np.concatenate([part.entropy for part in parts])
    place = np.concatenate([p.place + start for p, start in zip(parts, starts, strict=False)])
    token = np.concatenate([part.token for part in parts])
    chance = np.concatenate([part.chance for part in parts])
    if not np.isfinite(entropy).all():
        raise InvalidResult("the audit's model gives logits that are no numbers")
    out, first = {}, 0
    for row, length in lengths.items():
        ours, last = slice(*np.searchsorted(place, [first, first + length])), first + length
        out[row] = _Said(entropy[first:last], place[ours] - first, token[ours], chance[ours])
        first = last
    return out


def _bare(text: str) -> str:
    """Without the space that many tokenizers put before a word."""
    return text.lstrip() or text
