"""The tokens that end a checkpoint's responses: every one that a file of the checkpoint names.

Published checkpoints name them in several places, which often differ: the tokenizer's end token is
that of plain text, and generation_config.json adds the one that ends a turn of a conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forkdiv.models.files import read_json
from forkdiv.models.shape import vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIGS = ("config.json", "generation_config.json")  # name ends by id
TOKEN_MAPS = ("tokenizer_config.json", "special_tokens_map.json")  # name ends by text


def end_ids(path: Path, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Returns the sorted ids of all tokens that end a response of the checkpoint: those of its
    tokenizer, config.json, generation_config.json and special_tokens_map.json.

    Ids beyond the model's vocabulary are left out, because it cannot generate them.
    """
    ids = set(ids_in_configs(path))
    if tokenizer.eos_token_id is not None:
        ids.add(int(tokenizer.eos_token_id))
    vocabulary: Mapping[str, int] = tokenizer.get_vocab()
    ids |= {vocabulary[text] for text in _texts(path) if text in vocabulary}
    size = vocabulary_size(read_json(path / "config.json")) or len(vocabulary)
    return tuple(sorted(id for id in ids if 0 <= id < size))


def named_ends(path: Path) -> list[str]:
    """Returns the end tokens that the checkpoint's files name, as `id 2` or as their text, sorted;
    a token that is named by its id and by its text counts once."""
    tokens = {token.get("id"): token.get("content") for token in _added_tokens(path)}
    names = {str(tokens.get(id) or f"id {id}") for id in ids_in_configs(path)}
    return sorted(names | set(_texts(path)))


def ids_in_configs(path: Path) -> list[int]:
    """Returns the ids of end tokens that config.json and generation_config.json name, in order."""
    return list(dict.fromkeys(id for name in CONFIGS for id in _config_ids(path, name)))


def _config_ids(path: Path, name: str) -> list[int]:
    config = read_json(path / name, optional=True)
    text_config = config.get("text_config")
    parts = (config, text_config if isinstance(text_config, dict) else {})
    return [id for part in parts for id in _as_ids(part.get("eos_token_id"))]


def named_only_in_generation_config(path: Path) -> list[int]:
    """Returns the sorted ids of end tokens that generation_config.json names and config.json does
    not."""
    return sorted(set(_config_ids(path, CONFIGS[1])) - set(_config_ids(path, CONFIGS[0])))


def _added_tokens(path: Path) -> list[dict[str, Any]]:
    tokens = read_json(path / "tokenizer.json", optional=True).get("added_tokens")
    return [token for token in tokens or [] if isinstance(token, dict)]


def _as_ids(value: Any) -> list[int]:
    """Returns the ids of a field that is an integer, a list of integers, or null."""
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, int) and not isinstance(item, bool)]


def _texts(path: Path) -> Iterator[str]:
    """Yields the end tokens that the tokenizer's files name by text."""
    for name in TOKEN_MAPS:
        token = read_json(path / name, optional=True).get("eos_token")
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            yield text
