"""Every loss by its name. A new loss is a file in this folder and a line in `LOSSES`."""

from __future__ import annotations

from functools import partial

from forkdiv.core.config.open_list import load_object
from forkdiv.core.config.sft import LOSSES as NAMES

LOSSES = {
    "cross-entropy": "forkdiv.train.losses.cross_entropy:CrossEntropy",
    "label-smoothing": "forkdiv.train.losses.cross_entropy:LabelSmoothing",
    "gem": "forkdiv.train.losses.gem:Gem",
    "dco": "forkdiv.train.losses.dco:Dco",
}

for _name, _place in LOSSES.items():
    NAMES.register(_name, partial(load_object, _place))
