"""What a checkpoint is asked: the token ids of prompts under its own tokenizer and chat template,
and the tokens that end its responses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forkdiv.core.chat_template import NAMED_TEMPLATES
from forkdiv.core.config.prompt import PromptConfig
from forkdiv.models.checkpoint import check_token_ids
from forkdiv.models.end_tokens import end_ids
from forkdiv.models.files import TOKEN_FILES
from forkdiv.models.prompting import chat_text, prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = "chat templates"  # one of `differences`


@dataclass(frozen=True)
class OwnTokenizer:
    """The tokenizer of a checkpoint, and the sorted ids of all tokens that end its responses."""

    tokenizer: PreTrainedTokenizerBase
    ends: tuple[int, ...]


@dataclass(frozen=True)
class Asked:
    """What a checkpoint sees and where it stops: a digest over the token ids of prompts, and the
    ids that end a response."""

    prompts: str
    stop_ids: tuple[int, ...]


_LOADED: dict[str, OwnTokenizer] = {}  # by `token_digest`
_ASKED: dict[tuple[str, str], Asked] = {}  # by `token_digest`, and a digest of prompts and config
MAX_LOADED, MAX_ASKED = 16, 4096


def own_tokenizer(path: Path) -> OwnTokenizer:
    """Returns the tokenizer and the end tokens of the checkpoint. Loaded once for all checkpoints
    with the same files, such as those of one training run."""
    key = token_digest(path)
    if key not in _LOADED:
        from forkdiv.models.loading import load_tokenizer  # torch: seconds

        tokenizer = load_tokenizer(path)
        # special_tokens_map.json and tokenizer_config.json can add tokens to tokenizer.json
        check_token_ids(path, max(tokenizer.get_vocab().values()))
        _drop_oldest(_LOADED, MAX_LOADED)
        _LOADED[key] = OwnTokenizer(tokenizer, end_ids(path, tokenizer))
    return _LOADED[key]


def asked(path: Path, prompts: Sequence[str], config: PromptConfig) -> Asked:
    """Returns what the checkpoint is asked with these prompts.

    Raises UserError for a chat template that cannot be applied to them.
    """
    settings = json.dumps([config.model_dump(), list(prompts)])
    key = token_digest(path), hashlib.sha256(settings.encode()).hexdigest()
    if key not in _ASKED:
        own = own_tokenizer(path)
        ids = [prompt_ids(own.tokenizer, prompt, config) for prompt in prompts]
        digest = hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:32]
        _drop_oldest(_ASKED, MAX_ASKED)
        _ASKED[key] = Asked(digest, own.ends)
    return _ASKED[key]


def differences(
    first: Path, second: Path, prompts: Sequence[str], config: PromptConfig
) -> list[str]:
    """Returns what differs in how two checkpoints are asked: the text of the prompts, its token
    ids, or the end tokens. Empty if they see the same and stop at the same tokens."""
    one, two = (own_tokenizer(path) for path in (first, second))
    found = []
    if config.template == "chat" and any(
        chat_text(one.tokenizer, prompt, config) != chat_text(two.tokenizer, prompt, config)
        for prompt in prompts
    ):
        found.append(TEMPLATES)
    elif asked(first, prompts, config).prompts != asked(second, prompts, config).prompts:
        found.append("tokenizers")
    ends = [own.tokenizer.convert_ids_to_tokens(list(own.ends)) for own in (one, two)]
    if sorted(ends[0]) != sorted(ends[1]):
        shown = (", ".join(tokens) or "none" for tokens in ends)
        found.append(f"end tokens ({' against '.join(shown)})")
    return found


def token_digest(path: Path) -> str:
    """Returns a digest over the files that decide the checkpoint's tokens."""
    digest = hashlib.sha256()
    named = sorted((path / NAMED_TEMPLATES).glob("*.jinja"))
    versioned = sorted(path.glob("tokenizer.*.json"))
    for file in [*(path / name for name in TOKEN_FILES), *named, *versioned]:
        if file.is_file():
            content = file.read_bytes()
            digest.update(f"{file.name} {len(content)} ".encode())
            digest.update(content)
    return digest.hexdigest()


def _drop_oldest(cache: dict[Any, Any], size: int) -> None:
    """Removes the oldest entry of a full cache."""
    if len(cache) >= size:
        cache.pop(next(iter(cache)))
