"""Models of the Hugging Face Hub by name: which of their files forkdiv needs.

Only safetensors weights, the tokenizer's files and the configs are downloaded: no pickles, no
Python code, no copies of the weights in other layouts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from forkdiv.core.chat_template import NAMED_TEMPLATES
from forkdiv.core.errors import UserError, refuse
from forkdiv.core.files import size_text
from forkdiv.core.hub import Repository, listed, open_repository
from forkdiv.core.hub_names import ModelName
from forkdiv.models.files import TOKEN_FILES
from forkdiv.models.supported import ADAPTER, check_no_remote_code, check_supported
from forkdiv.models.weights import INDEX, model_files, named_in_index

CONFIG = "config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# besides those that a checkpoint has by name: tokenizer.NAME.json, and templates by name
_OTHER_TOKEN_FILES = re.compile(rf"tokenizer\.[^/]+\.json|{NAMED_TEMPLATES}/[^/]+\.jinja")
_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".msgpack", ".h5", ".safetensors")


@dataclass(frozen=True)
class HubModel:
    """A model or an adapter on the hub, whose configs and tokenizer are in the hub's cache in
    `folder`."""

    repository: Repository
    folder: Path

    @property
    def commit(self) -> str:
        """The 40 hexadecimal digits of its commit."""
        return self.repository.commit

    def download(self, show: Callable[[str], None]) -> Path:
        """Returns the folder with its weights as well; `show` gets a line before a download.

        Raises UserError if the disk has too little space, or for an index that names files that the
        repository does not have; InvalidResult for an interrupted download.
        """
        small, wanted = _small_files(self.repository.files), self._weight_files()
        if size := self.repository.missing(wanted):
            self.repository.require_space(wanted)
            name = self.repository.name
            show(f"downloading {name} from the Hugging Face Hub: {size_text(size)} of weights")
        return self.repository.folder([*small, *wanted])

    def _weight_files(self) -> list[str]:
        """Returns the safetensors files of the model, and those of an adapter."""
        files = self.repository.files
        adapter = [ADAPTER_WEIGHTS] if ADAPTER in files and ADAPTER_WEIGHTS in files else []
        if CONFIG not in files:
            return adapter
        at_top = [file for file in files if file.endswith(".safetensors") and "/" not in file]
        chosen = model_files(at_top, named_in_index(self.folder))
        if missing := sorted(set(chosen) - set(at_top)):
            raise refuse(
                f"the model {self.repository.name} is incomplete on the hub",
                f"no {listed(missing)}",
                f"all files that {INDEX} names",
                "use another revision (org/name@revision)",
            )
        return list(dict.fromkeys([*chosen, *adapter]))


def open_model(name: ModelName, weights: bool = True) -> HubModel:
    """Returns a model or an adapter on the hub; its configs and its tokenizer are downloaded, its
    weights are not yet. Without `weights`, it need not have any that forkdiv can load.

    Raises UserError for a repository that is not there or not readable, that has no config.json or
    no safetensors weights, and for a model that `check_supported` refuses.
    """
    repository = open_repository("model", name)
    _check_is_model(repository, weights)
    folder = repository.folder(_small_files(repository.files))
    check_no_remote_code(folder)
    if weights and CONFIG in repository.files:
        check_supported(folder)
    return HubModel(repository, folder)


def _small_files(files: Iterable[str]) -> list[str]:
    named = {*TOKEN_FILES, INDEX, ADAPTER}
    return [file for file in files if file in named or _OTHER_TOKEN_FILES.fullmatch(file)]


def _check_is_model(repository: Repository, weights: bool) -> None:
    """Raises UserError for a repository without a model or an adapter that can be used, by the
    names of its files."""
    files = repository.files
    if CONFIG not in files and ADAPTER not in files:
        raise refuse(
            f"{repository.name} on the Hugging Face Hub is no model for transformers",
            f"no {CONFIG}, but {listed(files)}",
            f"a repository with {CONFIG}, safetensors weights and tokenizer.json",
            "name the repository of the original weights"
            if any(file.endswith(".gguf") for file in files)
            else "name another repository",
        )
    if not weights:
        return
    if not any(file.endswith(".safetensors") and "/" not in file for file in files):
        raise _no_safetensors(repository)
    if CONFIG in files and "tokenizer.json" not in files:
        raise refuse(
            f"the model {repository.name} has no tokenizer.json on the hub",
            listed(file for file in files if "token" in file or "vocab" in file),
            "a fast tokenizer in the repository of the weights",
            "load its tokenizer with transformers, save it and the model with save_pretrained into "
            "a folder, and name that folder",
        )


def _no_safetensors(repository: Repository) -> UserError:
    found = [file for file in repository.files if file.endswith(_WEIGHTS)]
    return refuse(
        f"the model {repository.name} has no safetensors weights on the hub",
        listed(found),
        "*.safetensors: other weight files can run code when they are read, so they are not "
        "downloaded",
        f"name a revision that has them ({repository.name.repo}@revision; the hub's converter "
        "offers one as refs/pr/NUMBER), or convert a copy with save_pretrained and name its folder",
    )
