"""A loss of somebody's own: one class, registered under a name, with options that are checked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from forkdiv.core.config.base import Frozen
from forkdiv.core.config.load import load
from forkdiv.core.config.sft import LOSSES, SftConfig
from forkdiv.core.errors import UserError
from forkdiv.core.fingerprint import canonical
from forkdiv.train.losses.base import Loss, ResponseTokens
from forkdiv.train.losses.response import IGNORED
from tests.train.logits import loss_of_logits


class FlooredOptions(Frozen):
    floor: float = Field(
        0.1, ge=0, lt=1, description="Probability below which a token is left out."
    )


class Floored(Loss):
    """Cross-entropy of the tokens that the model gives at least `floor`."""

    options = FlooredOptions

    def __call__(self, tokens: ResponseTokens) -> Tensor:
        options = FlooredOptions.model_validate(self.config.loss_options)
        p = torch.softmax(tokens.logits, -1).gather(-1, tokens.targets[:, None])[:, 0]
        return -(p.log() * (p >= options.floor)).sum()


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    LOSSES.names()
    LOSSES.register("floored", lambda: Floored)
    yield
    del LOSSES._loaders["floored"]


def test_a_registered_loss_is_chosen_by_its_name_and_reads_its_options() -> None:
    logits = torch.tensor([[[0.0, 3.0], [3.0, 0.0], [0.0, 0.0]]])
    targets, first = torch.tensor([[1, 1, IGNORED]]), torch.tensor([[True, False, False]])

    def of(**options: float) -> float:
        config = SftConfig(loss="floored", loss_options=dict(options))
        return float(loss_of_logits(logits, targets, first, config))

    sure, unsure = -torch.log_softmax(logits, -1)[0, :2, 1]
    assert of() == pytest.approx(float(sure))
    assert of(floor=0.0) == pytest.approx(float(sure + unsure))


def test_loss_options_are_part_of_the_identity_only_if_set() -> None:
    plain, other = (
        SftConfig(loss="floored", loss_options=options) for options in ({}, {"floor": 0.2})
    )
    assert "loss_options" not in canonical(plain.deciding)
    assert canonical(other.deciding)["loss_options"] == {"floor": 0.2}
    assert SftConfig.model_validate(other.model_dump()) == other


def test_unknown_options_are_refused_before_any_work() -> None:
    with pytest.raises(UserError, match=r"sft.*floor"):
        load(None, ["sft.loss=floored", "sft.loss_options.floor=2"])
    with pytest.raises(ValidationError, match="bottom"):
        SftConfig(loss="floored", loss_options={"bottom": 0.2})
    with pytest.raises(UserError, match="loss=gem has no options"):
        load(None, ["sft.loss=gem", "sft.loss_options.floor=0.2"])
