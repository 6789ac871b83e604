"""Checks of a checkpoint's safetensors files by their headers, without loading tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forkdiv.core.errors import refuse, shortened
from forkdiv.models.files import check_regular, is_file_name, read_json

# dtypes of unquantised weights; integers and 8-bit floats are those of quantised ones
FLOATS = ("F64", "F32", "F16", "BF16")
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
STRAY = ("adapter_", "consolidated")  # beginnings of files that are not part of the model


def weight_files(path: Path) -> list[Path]:
    """Returns the safetensors files of the model, as `model_files` chooses them.

    Raises UserError if there are none, if one is missing, or if one is not a regular file.
    """
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise refuse(
            f"the checkpoint {path} has no weights",
            ", ".join(sorted(file.name for file in path.iterdir())) or "an empty folder",
            "*.safetensors files",
            "export it with save_pretrained(safe_serialization=True)",
        )
    names = model_files([file.name for file in files], index(path))
    chosen = [path / name for name in names]
    for file in chosen:
        check_regular(file)
    return chosen


def model_files(names: Sequence[str], index: Mapping[str, str]) -> list[str]:
    """Returns which safetensors files of a folder are the model: those that its index names, as in
    vLLM, else model.safetensors, else all but stray ones (an adapter, the same weights in another
    layout). `index` has the file of each tensor; it is empty for a folder without an index."""
    if index:
        return sorted(set(index.values()))
    if WHOLE in names:
        return [WHOLE]
    return [name for name in names if not name.startswith(STRAY)] or list(names)


def check_weights(path: Path) -> None:
    """Raises UserError for damaged or truncated weights, for tensors that the index names and no
    file has, and for quantised weights."""
    tensors: dict[str, str] = {}  # dtype by name
    for file in weight_files(path):
        tensors |= _dtypes(file)
    missing = sorted(index(path).keys() - tensors.keys())
    if missing:
        raise refuse(
            f"the checkpoint {path} is incomplete",
            f"no tensor {missing[0]}" + (f" and {len(missing) - 1} more" * (len(missing) > 1)),
            f"all tensors that {INDEX} names",
            "copy or export it again",
        )
    other = sorted({dtype for dtype in tensors.values() if dtype not in FLOATS and dtype != "BOOL"})
    weights = [name for name, dtype in tensors.items() if dtype in other and "weight" in name]
    if weights:
        raise refuse(
            f"the checkpoint {path} is quantised",
            f"{weights[0]} of dtype {tensors[weights[0]]}",
            f"weights of dtype {', '.join(FLOATS)}",
            "use the checkpoint that it was made from",
        )


def check_one_model(path: Path) -> None:
    """Raises UserError if model.safetensors lies beside an index that does not name it:
    transformers would load the one, and vLLM the files of the other."""
    if (path / INDEX).exists() and (path / WHOLE).exists() and WHOLE not in index(path).values():
        raise refuse(
            f"the checkpoint {path} has two sets of weights",
            f"{WHOLE}, and the files that {INDEX} names",
            "one of them",
            "remove the older one from a copy of the folder",
        )


def embedding_rows(path: Path) -> int | None:
    """Returns the number of rows of the input embedding; None if no tensor has a known name."""
    for name, shape in shapes(path).items():
        if name.endswith(EMBEDDINGS) and len(shape) == 2:
            return shape[0]
    return None


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every tensor, read from the headers of the files."""
    out: dict[str, tuple[int, ...]] = {}
    chosen = index(path)
    for file in weight_files(path):
        with opened(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                if name not in out or chosen.get(name) == file.name:
                    out[name] = tuple(tensors.get_slice(name).get_shape())
    return out


def parameter_count(path: Path) -> int:
    """Returns the number of parameters, of which those that a tied model shares count once."""
    return sum(math.prod(shape) for shape in shapes(path).values())


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """Opens a file for its header. Raises UserError if it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:
        raise refuse(
            f"the weights {file} cannot be read",
            " ".join(str(error).split()),
            "a complete safetensors file",
            "copy or export it again",
        ) from error


def _dtypes(file: Path) -> dict[str, str]:
    with opened(file) as tensors:
        return {name: str(tensors.get_slice(name).get_dtype()) for name in tensors.keys()}  # noqa: SIM118


def index(path: Path) -> dict[str, str]:
    """Returns the file of each tensor that the index names; an empty dict without an index. Raises
    UserError if a file is missing, or is not in this folder."""
    files = named_in_index(path)
    problems = {
        file: "not a safetensors file" if is_file_name(file) else "not a file of the folder"
        for file in sorted(set(files.values()))
        if not is_file_name(file) or not file.endswith(".safetensors")
    }
    # a name with a null character, or a very long one, cannot be looked up
    missing = sorted({file for file in files.values() if not (problems or (path / file).exists())})
    if problems or missing:
        came = [f"{shortened(file)}, which is {problem}" for file, problem in problems.items()]
        raise refuse(
            f"the checkpoint {path} is incomplete",
            came[0] if came else f"no {', '.join(missing)}",
            f"all files that {INDEX} names, in the folder itself",
            "copy or export it again",
        )
    return files


def named_in_index(path: Path) -> dict[str, str]:
    """As `index`, but the files themselves need not be there. Raises UserError if the index cannot
    be read."""
    if not (path / INDEX).exists():
        return {}
    try:
        files = {
            str(name): str(file) for name, file in read_json(path / INDEX)["weight_map"].items()
        }
        if not files:
            raise ValueError("an empty weight_map")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise refuse(
            f"the checkpoint {path} has no readable {INDEX}",
            f"{type(error).__name__} {error}",
            "a weight_map that maps tensors to files",
            "export it again",
        ) from error
    return files
