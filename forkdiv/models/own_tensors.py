"""The tensors of a checkpoint's language model: which file has each, by the index of the folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from forkdiv.core.errors import refuse
from forkdiv.models.architecture import ties_embeddings
from forkdiv.models.weights import EMBEDDINGS, INDEX, WHOLE, index, opened, weight_files

HEADS = ("lm_head.weight", "embed_out.weight")  # names of output embeddings
# Buffers that old releases of transformers saved and loaders compute: rotary frequencies, and the
# causal masks of GPT-2 and GPT-NeoX. (ending, number of dimensions; None: any)
BUFFERS = (
    ("rotary_emb.inv_freq", None),
    (".masked_bias", None),
    (".attn.bias", 4),
    (".attention.bias", 4),
    (".attn.attention.bias", 4),
)


@dataclass(frozen=True)
class Stored:
    """Where a tensor is stored, its shape, and its dtype as safetensors names it (BF16)."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class OwnTensors:
    """The model's tensors by name. `notes` say what else the folder has that readers could take for
    a part of the model."""

    path: Path
    stored: dict[str, Stored]
    tied: bool
    notes: tuple[str, ...]

    def load(self, name: str) -> torch.Tensor:
        return _loaded(name, self.stored[name])

    @property
    def embedding(self) -> str | None:
        """The name of the input embedding; None if no tensor has a known name."""
        return next((name for name in self.stored if name.endswith(EMBEDDINGS)), None)

    @property
    def head(self) -> str | None:
        """The name of the output embedding; None if there is no tensor of its own for it."""
        return next((name for name in self.stored if name.endswith(HEADS)), None)


def read(path: Path) -> OwnTensors:
    """Returns the tensors of the model in a folder, without buffers that loaders compute, and
    without an output embedding that repeats the input embedding it is tied to. Reads headers, and
    only tensors that are stored twice.

    Raises UserError for files outside the folder, for a tensor with different values in two files
    if the index does not choose, and for a tied output embedding with values of its own.
    """
    files = weight_files(path)
    check_inside(path, files)
    copies: dict[str, list[Stored]] = defaultdict(list)
    for file in files:
        with opened(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                part = tensors.get_slice(name)
                copies[name].append(Stored(file, tuple(part.get_shape()), str(part.get_dtype())))
    chosen, notes = index(path), []
    if chosen and (path / WHOLE).exists() and path / WHOLE not in files:
        notes.append(
            f"{path} has {WHOLE} beside the files of {INDEX}: the index decides which are read"
        )
    stored: dict[str, Stored] = {}
    for name, found in copies.items():
        if any(name.endswith(end) and n in (None, len(found[0].shape)) for end, n in BUFFERS):
            continue
        stored[name] = next((s for s in found if s.file.name == chosen.get(name)), found[0])
        if len(found) > 1 and not _equal(name, found):
            notes.append(_copies(path, name, found, chosen.get(name)))
    own = OwnTensors(path, stored, ties_embeddings(path), tuple(notes))
    return _without_repeated_head(own) if own.tied else own


def check_inside(path: Path, files: Iterable[Path]) -> None:
    """Raises UserError for a link to a file outside the folder: a downloaded folder could use it to
    read other files. The cache of huggingface_hub consists of such links, which are accepted."""
    folder = path.resolve()
    for file in files:
        target = file.resolve()
        cached = target.parent.name == "blobs" and target.parent.parent.name.startswith("models--")
        if not (target.is_relative_to(folder) or cached):
            raise refuse(
                f"{file} is a link that leaves the folder of the checkpoint",
                target,
                "files in the folder itself, or links into the cache of huggingface_hub",
                "copy the file into the folder",
            )


def stored_twice(path: Path) -> bool:
    """Whether the folder has weights that are not part of the model, or a tensor in two files."""
    files = weight_files(path)
    if set(path.glob("*.safetensors")) - set(files):
        return True
    names: set[str] = set()
    for file in files:
        with opened(file) as tensors:
            if not names.isdisjoint(tensors.keys()):
                return True
            names.update(tensors.keys())
    return False


def same_values(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether both have the same shape and values, whatever their dtypes."""
    both = torch.promote_types(first.dtype, second.dtype)
    return first.shape == second.shape and torch.equal(first.to(both), second.to(both))


def _equal(name: str, copies: list[Stored]) -> bool:
    first, *others = (_loaded(name, copy) for copy in copies)
    return all(same_values(first, other) for other in others)


def _loaded(name: str, stored: Stored) -> torch.Tensor:
    with safe_open(stored.file, framework="pt") as tensors:
        tensor: torch.Tensor = tensors.get_tensor(name)
    return tensor


def _copies(path: Path, name: str, found: list[Stored], chosen: str | None) -> str:
    """Returns the note on a tensor with different values in several files. Raises UserError if the
    index does not say which of them belongs to the model."""
    names = [copy.file.name for copy in found]
    files = ", ".join(names)
    if chosen in names:
        return (
            f"{name} of {path} has different values in {files}: {INDEX} names {chosen}, used here"
        )
    raise refuse(
        f"the tensor {name} of {path} is stored with different values in several files",
        files,
        f"each tensor once, or {INDEX} that names its file",
        "remove the files that are not part of the model from a copy of the folder",
    )


def _without_repeated_head(own: OwnTensors) -> OwnTensors:
    embedding, head = own.embedding, own.head
    if embedding is None or head is None:
        return own
    first, second = own.load(embedding), own.load(head)
    if not same_values(first, second):
        differing = (
            f"{int((first.float() != second.float()).sum()):,} of {first.numel():,} values differ"
            if first.shape == second.shape
            else f"shapes {list(second.shape)} and {list(first.shape)}"
        )
        raise refuse(
            f"{head} of {own.path} differs from the input embedding {embedding}, to which its "
            "config.json ties it",
            differing,
            "one tensor for both, or tie_word_embeddings=false in config.json",
            f"in a copy, set tie_word_embeddings to false if {head} was trained, or else remove it "
            "from the weights",
        )
    kept = {name: stored for name, stored in own.stored.items() if name != head}
    note = f"{head} of {own.path} repeats the input embedding it is tied to: it is left out"
    return OwnTensors(own.path, kept, own.tied, (*own.notes, note))
