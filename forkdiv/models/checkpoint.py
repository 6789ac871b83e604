"""A Hugging Face checkpoint folder, judged by its files alone: no torch, no loading."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core.config import shipped
from forkdiv.core.errors import UserError, refuse
from forkdiv.models.torchvision import check_torchvision

# What decides a checkpoint's answers beside its weights. Not generation_config.json: its
# sampling defaults are never used here.
SMALL_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
SAVES = "saves.json"  # of a run's folder: the epoch that each checkpoint in it is of


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint and the fingerprint that requests name it by."""

    path: Path
    fingerprint: str


def open_checkpoint(path: Path) -> Checkpoint:
    """A user's own folder, identified by its content.

    Raises UserError where it is missing, incomplete or no causal language model, and where a
    torchvision is installed with which no model can be loaded.
    """
    check_torchvision()
    config = read_config(path)
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or not any(
        str(name).endswith("ForCausalLM") for name in architectures
    ):
        raise refuse(
            f"the checkpoint {path} is no causal language model",
            architectures or "no architecture in config.json",
            "an architecture ending in ForCausalLM",
            "name another checkpoint",
        )
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise refuse(
            f"the checkpoint {path} has no weights",
            ", ".join(sorted(file.name for file in path.iterdir())),
            "*.safetensors files",
            "export it with save_pretrained(safe_serialization=True)",
        )
    _check_shards(path)
    if not (path / "tokenizer.json").is_file():
        raise refuse(
            f"the checkpoint {path} has no tokenizer",
            "no tokenizer.json",
            "a fast tokenizer beside the weights",
            "save the tokenizer into the same folder",
        )
    return Checkpoint(path.resolve(), _content_digest(path, weights))


def saved_in(path: Path) -> tuple[str, dict[float, Path]]:
    """The checkpoints of a folder by the number they were saved under, and what that counts:
    one, under 0, or those of a run (`epoch-0003`, `checkpoint-500` …) in order. Where the run says
    what epoch each is of (1.5: in the middle of the second), epochs it is.

    Raises UserError for a folder that is neither.
    """
    if (path / "config.json").is_file() or not path.is_dir():
        read_config(path)
        return "epoch", {0: path}
    if (path / SAVES).is_file():
        epochs = json.loads((path / SAVES).read_text())
        found = {"epoch": {_whole(epoch): path / name for name, epoch in epochs.items()}}
    else:
        found = _by_name(path)
    if len(found) != 1:
        raise refuse(
            f"{path} is neither a checkpoint nor a run's folder of them",
            "no config.json" if not found else "both epochs and steps",
            "a Hugging Face folder, or one that holds checkpoint-N or epoch-N folders",
            "check the path",
        )
    ((unit, saved),) = found.items()
    return unit, dict(sorted(saved.items()))


def _by_name(path: Path) -> dict[str, dict[float, Path]]:
    found: dict[str, dict[float, Path]] = {}
    for folder in path.iterdir():
        match = re.fullmatch(r"(epoch|checkpoint|step)[-_](\d+)", folder.name)
        if match and (folder / "config.json").is_file():
            unit = "epoch" if match[1] == "epoch" else "step"
            found.setdefault(unit, {})[int(match[2])] = folder
    return found


def _whole(number: float) -> float:
    """2 for 2.0: what people read, and what names cells."""
    return int(number) if number == int(number) else round(number, 4)


def read_config(path: Path) -> dict[str, Any]:
    """The folder's config.json. Raises UserError where there is none."""
    if not path.is_dir():
        raise refuse(
            "the checkpoint does not exist",
            path,
            "a Hugging Face folder (config.json, *.safetensors, tokenizer.json), or a base that "
            f"forkdiv ships: {', '.join(shipped.bases())}",
            "check the path, or build a base with `forkdiv pretrain`",
        )
    try:
        config = json.loads((path / "config.json").read_text())
        if not isinstance(config, dict):
            raise ValueError(f"config.json holds a {type(config).__name__}")
    except (OSError, ValueError) as error:
        raise refuse(
            f"the checkpoint {path} has no readable config.json",
            str(error),
            "a Hugging Face folder",
            "export it again",
        ) from error
    return config


def check_vocabulary(path: Path, words: list[str]) -> None:
    """Refuse a word-level checkpoint that does not know every word of the task; no `words` is a
    task in plain language, which has no list of them."""
    try:
        model = json.loads((path / "tokenizer.json").read_text())["model"]
        if model["type"] != "WordLevel":
            return  # subword tokenizers spell any word
        if not words:
            raise refuse(
                f"the checkpoint {path} knows only the words it was built for",
                f"{len(model['vocab'])} words, for a task in plain language",
                "a checkpoint with a subword tokenizer",
                "set base to a Hugging Face model",
            )
        unknown = sorted(set(words) - set(model["vocab"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_tokenizer(path, error) from error
    if unknown:
        raise refuse(
            f"the checkpoint {path} does not know every word of the task",
            " ".join(unknown),
            "a checkpoint built for this task's settings",
            "lower task.names, or rebuild the base with `forkdiv pretrain`",
        )


def check_end(path: Path, end: str) -> None:
    """Refuse a checkpoint whose responses end in another token than `end`."""
    try:
        found = json.loads((path / "tokenizer_config.json").read_text())["eos_token"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_tokenizer(path, error, "tokenizer_config.json") from error
    if found != end:
        raise refuse(
            f"the checkpoint {path} ends its responses in another token",
            found,
            end,
            "start from a base that `forkdiv pretrain` built",
        )


def same_shape(path: Path, other: Path) -> bool:
    """Whether one engine can hold both: equal configs, and equal words for equal tokens."""
    return same_config(path, other) and same_tokenizer(path, other)


def check_tensors(path: Path, like: Path) -> None:
    """Refuse weights that do not hold the tensors of the checkpoint at `like`, in its shapes:
    an engine that loads them goes on with a warning where some are missing."""
    own, wanted = _shapes(path), _shapes(like)
    if read_config(like).get("tie_word_embeddings"):
        wanted.pop("lm_head.weight", None)  # the input embedding once more
    wrong = [f"no {name}" for name in sorted(wanted.keys() - own.keys())]
    wrong += [
        f"{name} of shape {list(own[name])}, not {list(wanted[name])}"
        for name in sorted(own.keys() & wanted.keys())
        if own[name] != wanted[name]
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise refuse(
            f"the checkpoint {path} has other tensors than the engine holds",
            f"{'; '.join(wrong[:3])}{more}",
            f"those of {like}",
            "export it again",
        )


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape, read from the files' heads."""
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy") as tensors:
                names = tensors.keys()
                shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
        except (SafetensorError, OSError) as error:
            raise refuse(
                f"the weights {file} cannot be read",
                " ".join(str(error).split()),
                "a whole safetensors file",
                "copy or export it again",
            ) from error
    return shapes


def same_tokenizer(path: Path, other: Path) -> bool:
    """Whether equal tokens are equal words in both."""
    return _words(path) == _words(other)


def same_config(path: Path, other: Path) -> bool:
    """Whether both compute in the same way."""
    first, second = (read_config(folder) for folder in (path, other))
    if first == second:
        return True
    # Each release of transformers writes its own form of the same config: read both by one.
    from transformers import AutoConfig

    notes = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"}
    normal = [
        AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
        for folder in (path, other)
    ]
    first, second = ({k: v for k, v in config.items() if k not in notes} for config in normal)
    return first == second


def _words(path: Path) -> tuple[Any, dict[str, int]]:
    """The vocabulary and the added tokens with their ids; the file's form may differ."""
    try:
        tokenizer = json.loads((path / "tokenizer.json").read_text())
        added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
        return tokenizer["model"]["vocab"], added
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_tokenizer(path, error) from error


def _no_tokenizer(path: Path, error: Exception, file: str = "tokenizer.json") -> UserError:
    return refuse(
        f"the checkpoint {path} has no readable tokenizer",
        f"{file}: {type(error).__name__} {error}",
        "a fast tokenizer beside the weights",
        "save the tokenizer into the same folder",
    )


def _check_shards(path: Path) -> None:
    """Refuse weights in parts of which one is missing."""
    for index in path.glob("*.safetensors.index.json"):
        try:
            shards = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise refuse(
                f"the checkpoint {path} has no readable {index.name}",
                f"{type(error).__name__} {error}",
                "a weight_map from tensors to files",
                "export it again",
            ) from error
        missing = sorted(shard for shard in shards if not (path / shard).is_file())
        if missing:
            raise refuse(
                f"the checkpoint {path} is incomplete",
                f"no {', '.join(missing)}",
                f"all files that {index.name} names",
                "copy or export it again",
            )


def _content_digest(path: Path, weights: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in [*(path / name for name in SMALL_FILES if (path / name).is_file()), *weights]:
        digest.update(f"{file.name} {file.stat().st_size} ".encode())
        with file.open("rb") as handle:
            while block := handle.read(2**22):
                digest.update(block)
    return digest.hexdigest()[:32]
