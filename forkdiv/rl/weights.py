"""The weights of a run as checkpoint folders: those that the engine loads in each iteration, and
those that are kept.

A folder has the small files of the starting checkpoint and its tensors, with the same names and
number formats: TRL changes the config and the tokenizer that it gets, and a checkpoint must be
asked like the one it started from.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from forkdiv.core.errors import InvalidResult
from forkdiv.core.store import publish_folder
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.digests import DIGESTS, write_digests
from forkdiv.models.files import read_json
from forkdiv.models.weights import weight_files
from forkdiv.models.written import copy_small_files, write_shards


class Weights:
    """Writes the weights of `model`, which started from the checkpoint `start`."""

    def __init__(self, model: Any, start: Path, folder: Path) -> None:
        self._model, self._start, self._folder = model, start, folder
        self._files: dict[str, str] = {}
        self._dtypes: dict[str, torch.dtype] = {}
        for file in weight_files(start):
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  it is no dict
                    self._files[name] = file.name
                    self._dtypes[name] = tensors.get_tensor(name).dtype
        state = model.state_dict()
        if missing := sorted(self._files.keys() - state.keys()):
            raise RuntimeError(f"the model has no tensor {missing[0]} of {start}")

    def for_engine(self, iteration: int) -> Checkpoint:
        """Returns the weights before an iteration, counted from 1, as a checkpoint. Its fingerprint
        is that of its content. The weights of earlier iterations are deleted: the engine is idle,
        and no request names them again."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.iterdir():
            shutil.rmtree(old)
        aside = self._folder / f".{iteration:06d}"  # never loaded before it has its name
        digest = self._write(aside)
        # another folder for other weights, also where an attempt repeats an iteration
        folder = self._folder / f"{iteration:06d}-{digest[:16]}"
        aside.rename(folder)
        return Checkpoint(folder, f"rl-{digest[:32]}")

    def keep(self, folder: Path) -> None:
        """Writes a checkpoint that is kept; does nothing if it exists."""
        if folder.exists():
            return
        aside = folder.with_name(f".{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        self._write(aside)
        publish_folder(aside, folder)

    def _write(self, folder: Path) -> str:
        """Writes the checkpoint; returns a digest of its weights. Raises InvalidResult for weights
        that are NaN or infinite."""
        folder.mkdir(parents=True)
        copy_small_files(self._start, folder)
        state = self._model.state_dict()

        def tensor(name: str) -> torch.Tensor:
            made: torch.Tensor = state[name].detach().to("cpu", self._dtypes[name]).contiguous()
            if not bool(torch.isfinite(made).all()):
                raise InvalidResult(
                    f"the weights became NaN or infinite ({name}); lower rl.learning_rate"
                )
            return made

        write_shards(self._files, tensor, folder)
        write_digests(folder)
        return "".join(read_json(folder / DIGESTS).values())
