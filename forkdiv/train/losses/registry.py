"""The losses by name. To add a loss, add a file to this folder and a line to `LOSSES`."""

from __future__ import annotations

from functools import partial

from forkdiv.core.config.open_list import load_object
from forkdiv.core.config.sft import LOSSES as NAMES

LOSSES = {
    "cross-entropy": "forkdiv.train.losses.cross_entropy:CrossEntropy",
    "label-smoothing": "forkdiv.train.losses.cross_entropy:LabelSmoothing",
    "gem": "forkdiv.train.losses.gem:Gem",
    "dco": "forkdiv.train.losses.dco:Dco",
    "fork-aware": "forkdiv.train.losses.fork_aware:ForkAware",
}

for _name, _place in LOSSES.items():
    NAMES.register(_name, partial(load_object, _place))
