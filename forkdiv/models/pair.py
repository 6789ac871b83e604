"""Whether the weights of two checkpoints can be averaged, and which of their tensors correspond."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from forkdiv.core.errors import refuse
from forkdiv.models import architecture
from forkdiv.models.checkpoint import last_token_id, read_tokenizer
from forkdiv.models.digests import check_digests
from forkdiv.models.own_tensors import HEADS, OwnTensors, Stored, read, same_values
from forkdiv.models.weights import EMBEDDINGS

# fields of config.json in which the two may differ: the tensors themselves are compared for the
# first two, and the result takes the last one from the tuned checkpoint
COMPARED_OTHERWISE = ("tie_word_embeddings", "vocab_size", "max_position_embeddings")
PREFIXES = ("model.", "transformer.", "gpt_neox.")  # missing if the body alone was saved, as gpt2
SAME_MODEL = "use the base model that the other checkpoint was tuned from"


@dataclass(frozen=True)
class Pair:
    """Two checkpoints of one model. `partners` maps each tensor of `late` to that of `early`."""

    early: OwnTensors
    late: OwnTensors
    partners: dict[str, str]
    notes: tuple[str, ...]


def check_pair(early: Path, late: Path) -> Pair:
    """Returns the pair. Reads headers, and only tensors that are stored twice.

    Raises UserError for weights that changed since forkdiv wrote them or lie outside their folder,
    and if the models differ in architecture, vocabulary, tensors or the meaning of token ids.
    """
    for path in (early, late):
        check_digests(path)
    first, second = read(early), read(late)
    _check_architecture(early, late)
    _check_rows(first, second)
    partners = _partners(first, second)
    notes = [*first.notes, *second.notes, *_dtype_note(first, second, partners)]
    return Pair(first, second, partners, (*notes, *_check_token_ids(early, late)))


def _check_architecture(early: Path, late: Path) -> None:
    differing = architecture.differences(early, late, ignored=COMPARED_OTHERWISE)
    if differing:
        shown = [f"{name} {a!r} and {b!r}" for name, (a, b) in list(differing.items())[:4]]
        raise refuse(
            f"{early} and {late} have different architectures",
            "; ".join(shown) + (f"; {len(differing) - 4} more" if len(differing) > 4 else ""),
            "the same values in both config.json files",
            f"{SAME_MODEL}; if the weights were trained with the same value, correct it in a copy",
        )


def _check_rows(early: OwnTensors, late: OwnTensors) -> None:
    """Raises UserError if one embedding has more rows: padded, or extended by tokens."""
    if early.embedding is None or late.embedding is None:
        return
    shapes = [own.stored[own.embedding].shape for own in (early, late) if own.embedding]
    if any(len(shape) != 2 for shape in shapes) or shapes[0][0] == shapes[1][0]:
        return
    rows = [shape[0] for shape in shapes]
    used = [last_token_id(own.path) + 1 for own in (early, late)]
    smaller, larger = (early, late) if rows[0] < rows[1] else (late, early)
    if max(used) <= min(rows):
        remedy = (
            f"no token has the rows from {min(rows)} on: call resize_token_embeddings({min(rows)}) "
            f"on a copy of {larger.path}"
        )
    else:
        remedy = (
            f"call resize_token_embeddings({max(rows)}) on a copy of {smaller.path} and save it "
            f"with the tokenizer of {larger.path}; the average has untrained values in the new rows"
        )
    raise refuse(
        f"the vocabularies of {early.path} and {late.path} differ in size",
        f"embeddings of {rows[0]} and {rows[1]} rows, of which their tokenizers use {used[0]} and "
        f"{used[1]}",
        "embeddings with the same number of rows",
        remedy,
    )


def _partners(early: OwnTensors, late: OwnTensors) -> dict[str, str]:
    """Returns the tensor of `early` for each of `late`. Raises UserError if they do not match."""
    partners, unused = {}, set(early.stored)
    for name in late.stored:
        partner = counterpart(name, early)
        if partner:
            partners[name] = partner
            unused.discard(partner)
    if late.tied and not early.tied and early.head in unused:
        _check_repeats_embedding(early, late.path)
        unused.discard(early.head)
    differing = [
        *(name for name in late.stored if name not in partners),
        *unused,
        *(n for n, p in partners.items() if late.stored[n].shape != early.stored[p].shape),
    ]
    if differing:
        first = min(differing)
        partner = partners.get(first, first)
        raise refuse(
            f"the tensors of {early.path} and {late.path} differ in name or shape",
            f"{first} is {_shape_text(early.stored, partner)} in the first and "
            f"{_shape_text(late.stored, first)} in the second; {len(differing)} tensors differ",
            "two checkpoints of the same model",
            SAME_MODEL,
        )
    return partners


def counterpart(name: str, early: OwnTensors) -> str | None:
    """Returns the tensor of `early` that corresponds to `name`: with or without the prefix of the
    model's body, and in a model with tied embeddings, one tensor for both."""
    names = [name, *(name.removeprefix(prefix) for prefix in PREFIXES)]
    names += [prefix + name for prefix in PREFIXES]
    for candidate in names:
        if candidate in early.stored:
            return candidate
    if early.tied and name.endswith(HEADS):
        return early.embedding
    return early.head if early.tied and name.endswith(EMBEDDINGS) else None


def _check_repeats_embedding(early: OwnTensors, late: Path) -> None:
    embedding, head = early.embedding, early.head
    if embedding and head and not same_values(early.load(embedding), early.load(head)):
        raise refuse(
            f"{head} of {early.path} is a tensor of its own, and {late} has none",
            "tie_word_embeddings=false in the first config.json and true in the second",
            "a tuned checkpoint with an output embedding of its own, or two with tied ones",
            SAME_MODEL,
        )


def _shape_text(stored: Mapping[str, Stored], name: str) -> str:
    return "×".join(map(str, stored[name].shape)) if name in stored else "missing"


def _dtype_note(early: OwnTensors, late: OwnTensors, partners: Mapping[str, str]) -> list[str]:
    kinds = Counter(
        (early.stored[partner].dtype, late.stored[name].dtype) for name, partner in partners.items()
    )
    return [
        f"{count} tensors are {first} in {early.path} and {second} in {late.path}: the result is "
        f"{second}"
        for (first, second), count in kinds.items()
        if first != second
    ]


def _check_token_ids(early: Path, late: Path) -> list[str]:
    """Returns a note on the tokens that only one tokenizer has. Raises UserError if a token has
    different ids, or an id different tokens that are not special: embedding rows would be averaged
    that stand for different texts."""
    tokenizers = [read_tokenizer(path) for path in (early, late)]
    first, second = (t.get_vocab(with_added_tokens=True) for t in tokenizers)
    moved = {token for token in first.keys() & second.keys() if first[token] != second[token]}
    special = [
        {id for id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        for tokenizer in tokenizers
    ]
    ids, others = ({id: token for token, id in vocab.items()} for vocab in (first, second))
    replaced = [
        id
        for id in sorted(ids.keys() & others.keys() - (special[0] & special[1]))
        if ids[id] != others[id] and not moved & {ids[id], others[id]}
    ]
    differing = [
        f"{token!r} has the ids {first[token]} and {second[token]}" for token in sorted(moved)
    ]
    differing += [f"the id {id} is {ids[id]!r} and {others[id]!r}" for id in replaced]
    if differing:
        raise refuse(
            f"{early} and {late} have different tokenizers",
            f"{differing[0]}; {len(differing)} differences",
            "the same ids for the same tokens",
            SAME_MODEL,
        )
    extra = len(first.keys() ^ second.keys())
    return [f"{extra} tokens are in one tokenizer only: the result has that of {late}"] * bool(
        extra
    )
