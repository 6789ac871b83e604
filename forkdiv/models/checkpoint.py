"""Checks of a Hugging Face checkpoint folder by its files alone, without torch or loading it."""

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

# The files that decide a checkpoint's answers besides its weights. generation_config.json is not
# among them: its sampling defaults are never used here.
SMALL_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
SAVES = "saves.json"  # in a run's folder: maps each checkpoint's folder to its epoch


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder and the fingerprint that identifies it in requests."""

    path: Path
    fingerprint: str


def open_checkpoint(path: Path) -> Checkpoint:
    """Checks a user's checkpoint folder and returns it, identified by its content.

    Raises UserError if it is missing, incomplete or not a causal language model, or if the
    installed torchvision prevents loading any model.
    """
    check_torchvision()
    config = read_config(path)
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or not any(
        str(name).endswith("ForCausalLM") for name in architectures
    ):
        raise refuse(
            f"the checkpoint {path} is not a causal language model",
            architectures or "no architecture in config.json",
            "an architecture whose name ends in ForCausalLM",
            "use another checkpoint",
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
            "a fast tokenizer in the folder of the weights",
            "save the tokenizer into the same folder",
        )
    return Checkpoint(path.resolve(), _content_digest(path, weights))


def saved_checkpoints(path: Path) -> tuple[str, dict[float, Path]]:
    """Returns the unit ("epoch" or "step") and the checkpoints of a folder, keyed in that unit.

    A folder that is itself a checkpoint has the key 0. A run's folder has subfolders such as
    `epoch-0003` or `checkpoint-500`; if the run recorded the epoch of each (1.5: in the middle of
    the second epoch), the unit is the epoch. Raises UserError for any other folder.
    """
    if (path / "config.json").is_file() or not path.is_dir():
        read_config(path)
        return "epoch", {0: path}
    if (path / SAVES).is_file():
        epochs = json.loads((path / SAVES).read_text())
        by_unit = {"epoch": {_whole(epoch): path / name for name, epoch in epochs.items()}}
    else:
        by_unit = _by_name(path)
    if len(by_unit) != 1:
        raise refuse(
            f"{path} is neither a checkpoint nor a run's folder of checkpoints",
            "no config.json" if not by_unit else "both epochs and steps",
            "a Hugging Face folder, or a folder with checkpoint-N or epoch-N folders",
            "check the path",
        )
    ((unit, checkpoints),) = by_unit.items()
    return unit, dict(sorted(checkpoints.items()))


def _by_name(path: Path) -> dict[str, dict[float, Path]]:
    by_unit: dict[str, dict[float, Path]] = {}
    for folder in path.iterdir():
        match = re.fullmatch(r"(epoch|checkpoint|step)[-_](\d+)", folder.name)
        if match and (folder / "config.json").is_file():
            unit = "epoch" if match[1] == "epoch" else "step"
            by_unit.setdefault(unit, {})[int(match[2])] = folder
    return by_unit


def _whole(number: float) -> float:
    """Returns 2 for 2.0: the form that users read and that identifies cells."""
    return int(number) if number == int(number) else round(number, 4)


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
    try:
        config = json.loads((path / "config.json").read_text())
        if not isinstance(config, dict):
            raise ValueError(f"config.json contains a {type(config).__name__}")
    except (OSError, ValueError) as error:
        raise refuse(
            f"the checkpoint {path} has no readable config.json",
            str(error),
            "a Hugging Face folder",
            "export it again",
        ) from error
    return config


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
    """Whether one engine can serve both checkpoints: same config and same tokenizer."""
    return same_config(path, other) and same_tokenizer(path, other)


def check_tensors(path: Path, like: Path) -> None:
    """Raises UserError unless the weights have the tensors of the checkpoint `like` with the same
    shapes: an engine only warns about missing tensors."""
    shapes, required = _shapes(path), _shapes(like)
    if read_config(like).get("tie_word_embeddings"):
        required.pop("lm_head.weight", None)  # the same tensor as the input embedding
    problems = [f"no {name}" for name in sorted(required.keys() - shapes.keys())]
    problems += [
        f"{name} of shape {list(shapes[name])}, not {list(required[name])}"
        for name in sorted(shapes.keys() & required.keys())
        if shapes[name] != required[name]
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise refuse(
            f"the tensors of the checkpoint {path} do not match the engine's model",
            f"{'; '.join(problems[:3])}{more}",
            f"the tensors of {like}",
            "export it again",
        )


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every tensor, read from the headers of the files."""
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
                "a complete safetensors file",
                "copy or export it again",
            ) from error
    return shapes


def same_tokenizer(path: Path, other: Path) -> bool:
    """Whether both tokenizers map the same text pieces to the same ids."""
    return _vocabulary(path) == _vocabulary(other)


def same_config(path: Path, other: Path) -> bool:
    """Whether both configs describe the same model architecture."""
    first, second = (read_config(folder) for folder in (path, other))
    if first == second:
        return True
    # Releases of transformers write the same config differently: normalise both with this one.
    from transformers import AutoConfig

    ignored = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"}
    normal = [
        AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
        for folder in (path, other)
    ]
    first, second = ({k: v for k, v in config.items() if k not in ignored} for config in normal)
    return first == second


def _vocabulary(path: Path) -> tuple[Any, dict[str, int]]:
    """Returns the vocabulary, and the added tokens with their ids."""
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
        "a fast tokenizer in the folder of the weights",
        "save the tokenizer into the same folder",
    )


def _check_shards(path: Path) -> None:
    """Raises UserError if a shard of the weights is missing."""
    for index in path.glob("*.safetensors.index.json"):
        try:
            shards = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise refuse(
                f"the checkpoint {path} has no readable {index.name}",
                f"{type(error).__name__} {error}",
                "a weight_map that maps tensors to files",
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
