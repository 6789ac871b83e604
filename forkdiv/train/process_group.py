"""Sets up torch's process group for Ray Train and imports torch in the workers only.

With `ray.train.torch`, the trial and then Ray Train's controller import torch before a worker
starts, which took five seconds of every run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.util import TrainingFramework

from forkdiv.core.gc_pause import gc_paused

SHUTDOWN_TIMEOUT_S = 30
log = logging.getLogger(__name__)


@dataclass
class ProcessGroup(BackendConfig):  # type: ignore[misc]
    """A Ray Train backend config for torch's `backend`: nccl or gloo."""

    backend: str

    @property
    def backend_cls(self) -> type[Backend]:
        return _WorkerBackend

    @property
    def train_func_context(self) -> Callable[[], AbstractContextManager[None]]:
        return _device_context

    @property
    def framework(self) -> TrainingFramework:
        return TrainingFramework.TORCH

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class _WorkerBackend(Backend):  # type: ignore[misc]
    """Runs in the controller and calls the same functions on the workers as Ray's torch backend."""

    share_cuda_visible_devices = True  # LOCAL_RANK indexes the devices of a node

    def on_start(self, worker_group: Any, backend_config: ProcessGroup) -> None:
        address = worker_group.execute_single(0, get_address_and_port)
        world = len(worker_group)
        backend = backend_config.backend
        joining = [
            worker_group.execute_single_async(rank, _join, backend, address, rank, world)
            for rank in range(world)
        ]
        ray.get(joining)

    def on_shutdown(self, worker_group: Any, backend_config: ProcessGroup) -> None:
        leaving = worker_group.execute_async(_leave, len(worker_group) > 1)
        try:
            ray.get(leaving, timeout=SHUTDOWN_TIMEOUT_S)
        except ray.exceptions.GetTimeoutError:  # as in Ray, which then ends the processes
            log.warning("the process group did not shut down within %d s", SHUTDOWN_TIMEOUT_S)


def _join(backend: str, address: tuple[str, int], rank: int, world: int) -> None:
    with gc_paused():
        from ray.train.torch import config

    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = address[0], str(address[1])
    config._set_torch_distributed_env_vars()
    config._setup_torch_process_group(backend, rank, world, "env://")


def _leave(destroy: bool) -> None:
    from ray.train.torch import config

    config._shutdown_torch(destroy)


@contextmanager
def _device_context() -> Iterator[None]:
    """Runs the training function with the worker's GPU as the current device."""
    from ray.train.torch.config import TorchConfigContextManager

    with TorchConfigContextManager():
        yield
