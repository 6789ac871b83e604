"""Checks of a checkpoint's safetensors files by their headers, without loading tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forkdiv.core.errors import refuse, shortened
from forkdiv.models.files import check_regular, is_file_name, read_json

# dtypes of unquantised weights; integers and 8-bit floats are those of quantised ones
FLOATS = ("F64", "F32", "F16", "BF16")
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def weight_files(path: Path) -> list[Path]:
    """Returns the safetensors files of the model, as transformers chooses them: those that the
    index names, else model.safetensors, else all.

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
    if (path / INDEX).exists():
        files = [path / name for name in sorted(set(_index(path).values()))]
    elif (path / WHOLE) in files:
        files = [path / WHOLE]
    for file in files:
        check_regular(file)
    return files


def check_weights(path: Path) -> None:
    """Raises UserError for damaged or truncated weights, for tensors that the index names and no
    file has, and for quantised weights."""
    tensors: dict[str, str] = {}  # dtype by name
    for file in weight_files(path):
        tensors |= _dtypes(file)
    missing = sorted(set(_index(path)) - set(tensors)) if (path / INDEX).exists() else []
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


def embedding_rows(path: Path) -> int | None:
    """Returns the number of rows of the input embedding; None if no tensor has a known name."""
    for name, shape in shapes(path).items():
        if name.endswith(EMBEDDINGS) and len(shape) == 2:
            return shape[0]
    return None


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every tensor, read from the headers of the files."""
    out: dict[str, tuple[int, ...]] = {}
    for file in weight_files(path):
        with _opened(file) as tensors:
            out |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    return out


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
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
    with _opened(file) as tensors:
        return {name: str(tensors.get_slice(name).get_dtype()) for name in tensors.keys()}  # noqa: SIM118


def _index(path: Path) -> dict[str, str]:
    """Returns the file of each tensor that the index names. Raises UserError if a file is missing,
    or is not in this folder."""
    try:
        files = {
            str(name): str(file) for name, file in read_json(path / INDEX)["weight_map"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise refuse(
            f"the checkpoint {path} has no readable {INDEX}",
            f"{type(error).__name__} {error}",
            "a weight_map that maps tensors to files",
            "export it again",
        ) from error
    outside = sorted({file for file in files.values() if not is_file_name(file)})
    missing = sorted({file for file in files.values() if not (outside or (path / file).exists())})
    if outside or missing:
        raise refuse(
            f"the checkpoint {path} is incomplete",
            f"{shortened(outside[0])}, which is not a file of the folder"
            if outside
            else f"no {', '.join(missing)}",
            f"all files that {INDEX} names, in the folder itself",
            "copy or export it again",
        )
    return files
