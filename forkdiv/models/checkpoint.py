"""Checks of a Hugging Face checkpoint folder by its files alone, without torch or loading it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from forkdiv.core.chat_template import NAMED_TEMPLATES
from forkdiv.core.config import shipped
from forkdiv.core.errors import UserError, refuse
from forkdiv.models.architecture import same_architecture
from forkdiv.models.end_tokens import named_only_in_generation_config
from forkdiv.models.files import (
    MAX_JSON_BYTES,
    TOKEN_FILES,
    check_regular,
    read_json,
    unreadable,
)
from forkdiv.models.shape import vocabulary_size
from forkdiv.models.supported import check_no_adapter, check_supported, is_causal_model
from forkdiv.models.torchvision import check_torchvision
from forkdiv.models.weights import check_one_model, check_weights, embedding_rows, shapes

# The files that decide a checkpoint's answers besides its weights. generation_config.json is not
# among them: only the end tokens in it are used here, not its sampling defaults.
SMALL_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder and the fingerprint that identifies it in requests.

    `start` is the checkpoint from which forkdiv fine-tunes this one, whose tokenizer, chat template
    and end tokens it gets; it is None for a user's checkpoint.
    """

    path: Path
    fingerprint: str
    start: Path | None = field(default=None, compare=False)

    @property
    def token_files(self) -> Path | None:
        """The folder with its tokenizer: that of `start` while it is not trained yet; None if that
        does not exist either."""
        folders = (folder for folder in (self.path, self.start) if folder is not None)
        return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def open_checkpoint(path: Path, stray_adapter: bool = False) -> Checkpoint:
    """Checks a user's checkpoint folder and returns it, identified by its content.
    `stray_adapter` accepts an adapter beside the weights, for a command that reads tensors itself.

    Raises UserError for a folder that `check_files` refuses, and if the installed torchvision
    prevents loading any model.
    """
    check_torchvision()
    check_files(path, stray_adapter)
    return Checkpoint(path.resolve(), _content_digest(path, sorted(path.glob("*.safetensors"))))


def check_files(path: Path, stray_adapter: bool = False) -> None:
    """Checks the files of a checkpoint without loading it; of the weights, their headers.

    Raises UserError if it is missing, damaged, incomplete, quantised, an adapter or not a causal
    language model, if it needs code of its own, or if its tokenizer does not fit its model.
    """
    if path.is_dir():
        check_no_adapter(path, stray_adapter)
    config = read_config(path)
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or not any(map(is_causal_model, architectures)):
        raise refuse(
            f"the checkpoint {path} is not a causal language model",
            architectures or "no architecture in config.json",
            "an architecture that transformers has as a causal language model, such as "
            "LlamaForCausalLM",
            "use another checkpoint",
        )
    check_supported(path)
    check_weights(path)
    if not stray_adapter:
        check_one_model(path)
    if not (path / "tokenizer.json").exists():
        raise refuse(
            f"the checkpoint {path} has no tokenizer",
            "no tokenizer.json",
            "a fast tokenizer in the folder of the weights",
            "save the tokenizer into the same folder",
        )
    check_token_ids(path, last_token_id(path))


def check_token_ids(path: Path, last: int) -> None:
    """Raises UserError if `last`, the largest token id of the tokenizer, has no row in the model's
    embedding. Without weights, which are refused elsewhere, the config says how many there are: of
    a checkpoint that was measured the tokenizer may be all that is left."""
    has_weights = any(path.glob("*.safetensors"))
    rows = (embedding_rows(path) if has_weights else None) or vocabulary_size(read_config(path))
    if rows is not None and last >= rows:
        raise refuse(
            f"the tokenizer of the checkpoint {path} has more tokens than the model",
            f"token id {last} with an embedding of {rows} rows",
            f"token ids up to {rows - 1}",
            "save the tokenizer that belongs to the model, or resize the model's embedding with "
            "resize_token_embeddings() and train it",
        )


def last_token_id(path: Path) -> int:
    """Returns the largest token id of the checkpoint's tokenizer, read from its files."""
    vocabulary = read_tokenizer(path).get_vocab(with_added_tokens=True)
    settings = read_json(path / "tokenizer_config.json", optional=True)
    try:
        added = map(int, settings.get("added_tokens_decoder") or {})
        return max([*vocabulary.values(), *added])
    except (ValueError, TypeError) as error:
        raise _no_tokenizer(path, error) from error


def read_tokenizer(path: Path) -> Tokenizer:
    """Returns the tokenizer of tokenizer.json. Raises UserError if it cannot be read."""
    for name in TOKEN_FILES:
        check_regular(path / name, MAX_JSON_BYTES)
    try:
        return Tokenizer.from_file(str(path / "tokenizer.json"))
    except Exception as error:  # tokenizers raises plain Exception
        raise _no_tokenizer(path, error) from error


def read_config(path: Path) -> dict[str, Any]:
    """Returns the content of the folder's config.json. Raises UserError if it cannot be read."""
    if not path.is_dir():
        raise refuse(
            "the checkpoint does not exist",
            path,
            "a Hugging Face folder (config.json, *.safetensors, tokenizer.json), or a shipped "
            f"base: {', '.join(shipped.bases())}",
            "check the path, or build a base with `forkdiv pretrain`",
        )
    return read_json(path / "config.json")


def check_vocabulary(path: Path, words: list[str]) -> None:
    """Raises UserError for a word-level checkpoint that lacks words of the task. `words` is empty
    for a task in plain language."""
    try:
        model = json.loads((path / "tokenizer.json").read_text())["model"]
        if model["type"] != "WordLevel":
            return  # a subword tokenizer can encode any word
        if not words:
            raise refuse(
                f"the checkpoint {path} has a word-level tokenizer, which cannot encode natural "
                "language",
                f"a vocabulary of {len(model['vocab'])} words",
                "a checkpoint with a subword tokenizer",
                "set base to a Hugging Face model",
            )
        unknown = sorted(set(words) - set(model["vocab"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_tokenizer(path, error) from error
    if unknown:
        raise refuse(
            f"the vocabulary of the checkpoint {path} lacks words of the task",
            " ".join(unknown),
            "a checkpoint built for the settings of this task",
            "lower task.names, or rebuild the base with `forkdiv pretrain`",
        )


def check_end_token(path: Path, end: str) -> None:
    """Raises UserError for a checkpoint whose end token is not `end`."""
    try:
        token = json.loads((path / "tokenizer_config.json").read_text())["eos_token"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_tokenizer(path, error, "tokenizer_config.json") from error
    if token != end:
        raise refuse(
            f"the checkpoint {path} has a different end token than the bases of forkdiv",
            token,
            end,
            "use a checkpoint that `forkdiv pretrain` built",
        )


def share_engine(path: Path, other: Path) -> bool:
    """Whether one engine can serve both checkpoints: the same architecture and the same number of
    token ids. Tokenizers, templates and end tokens may differ; each checkpoint uses its own."""
    return same_architecture(path, other)


def check_tensors(path: Path, like: Path) -> None:
    """Raises UserError unless the weights have the tensors of the checkpoint `like` with the same
    shapes: an engine only warns about missing tensors."""
    found, required = shapes(path), shapes(like)
    if read_config(like).get("tie_word_embeddings"):
        required.pop("lm_head.weight", None)  # the same tensor as the input embedding
    problems = [f"no {name}" for name in sorted(required.keys() - found.keys())]
    problems += [
        f"{name} of shape {list(found[name])}, not {list(required[name])}"
        for name in sorted(found.keys() & required.keys())
        if found[name] != required[name]
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise refuse(
            f"the tensors of the checkpoint {path} do not match the engine's model",
            f"{'; '.join(problems[:3])}{more}",
            f"the tensors of {like}",
            "export it again",
        )


def _no_tokenizer(path: Path, error: Exception, file: str = "tokenizer.json") -> UserError:
    return refuse(
        f"the checkpoint {path} has no readable tokenizer",
        f"{file}: {type(error).__name__} {error}",
        "a fast tokenizer in the folder of the weights",
        "save the tokenizer into the same folder",
    )


def _content_digest(path: Path, weights: list[Path]) -> str:
    digest = hashlib.sha256()
    named = [path / name for name in SMALL_FILES if (path / name).is_file()]
    small = [*named, *_other_token_files(path)]
    for file in small:
        check_regular(file, MAX_JSON_BYTES)
    for file in [*small, *weights]:
        check_regular(file)
        digest.update(f"{file.name} {file.stat().st_size} ".encode())
        try:
            with file.open("rb") as handle:
                while block := handle.read(2**22):
                    digest.update(block)
        except OSError as error:
            raise unreadable(file, error) from error
    # of generation_config.json only what is used, so that fingerprints from before this still hold
    if ends := named_only_in_generation_config(path):
        digest.update(f"generation_config.json {ends}".encode())
    return digest.hexdigest()[:32]


def _other_token_files(path: Path) -> list[Path]:
    """Returns the files that few checkpoints have, and that decide tokens where they are read."""
    files = [*sorted((path / NAMED_TEMPLATES).glob("*.jinja"))]
    settings = read_json(path / "tokenizer_config.json", optional=True)
    if "fast_tokenizer_files" in settings:
        files += sorted(path.glob("tokenizer.*.json"))
    if "added_tokens_decoder" not in settings:
        files += [path / "added_tokens.json"]
    return [file for file in files if file.is_file()]
