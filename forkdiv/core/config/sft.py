"""Supervised fine-tuning: what is trained, for how long, with which loss; and how a base of our
own is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from forkdiv.core.config.base import AxisWords, Epochs, Examples, Frozen, Seed, Share, Steps
from forkdiv.core.config.open_list import OpenList
from forkdiv.core.config.shipped import CheckpointPath

FORK_AWARE = "fork-aware"  # the loss that reads a learnability table

# name: the class of the loss
LOSSES: OpenList[Any] = OpenList("loss", "forkdiv.train.losses.registry", "forkdiv.losses")
LossName = Annotated[str, LOSSES, AfterValidator(LOSSES.check)]


class LoraConfig(Frozen):
    """Low-rank adapters that are trained instead of the weights, and merged into every
    checkpoint."""

    rank: Annotated[int, AxisWords(title="LoRA rank")] = Field(
        0, ge=0, description="Rank of the adapters. 0: all weights are trained."
    )
    alpha: Annotated[float, AxisWords(title="LoRA alpha")] = Field(
        16.0, gt=0, allow_inf_nan=False, description="The adapters are scaled by alpha / rank."
    )
    targets: tuple[str, ...] = Field(
        (),
        description="Names of the layers that get adapters, such as [q_proj, v_proj]. Empty: all "
        "linear layers except the output layer.",
    )


class ForkAwareConfig(Frozen):
    """For loss=fork-aware: what is trained at each class of tokens that the stage `learnability`
    found."""

    kl: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="Weight of KL(base ‖ model) at tokens that are left to the base.",
    )
    label_share: Share = Field(
        0.5,
        description="At tokens that cannot be learned and to which the base gives nearly nothing: "
        "the share of the label in the target; the rest is the base's distribution.",
    )
    kl_learnable: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Weight of KL(base ‖ model) that is added at tokens trained on their label. "
        "With learnability.mask=none this is KL to the base everywhere.",
    )
    kl_unlabelled: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="Weight of KL(base ‖ model) at the tokens of learnability.prompts.",
    )


class SftConfig(Frozen):
    """Supervised fine-tuning on response tokens. A checkpoint is always saved at the end."""

    epochs: Epochs = Field(4, description="Passes over the data.")
    save_epochs: tuple[Epochs, ...] = Field(
        (), description="Epochs after which a checkpoint is saved, such as [1, 2]."
    )
    save_steps: tuple[Steps, ...] = Field(
        (), description="Optimizer steps after which a checkpoint is saved, such as [10, 50]."
    )
    save_every: Steps | None = Field(
        None, description="Optimizer steps between two checkpoints. null: not used."
    )
    keep: int | None = Field(
        None, ge=1, description="Number of checkpoints kept, the newest ones. null: all."
    )
    batch_size: Examples = Field(
        32,
        description="Examples in one optimizer step, over all workers together; a multiple of "
        "place.workers.",
    )
    learning_rate: float = Field(
        1e-3, gt=0, allow_inf_nan=False, description="Peak learning rate of AdamW."
    )
    warmup_share: Share = Field(
        0.05, lt=1, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Weight decay of AdamW."
    )
    grad_clip: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="Largest norm of the gradient."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Number format of the model in training; sums and the optimizer's state are in "
        "float32. If it is not set, a study with a base has that of the base's config.json "
        "(bfloat16 for float16).",
    )
    loss: Annotated[
        LossName,
        AxisWords(meaning="is the loss on the response tokens in fine-tuning", phrase="{} loss"),
    ] = Field(
        "cross-entropy",
        description="Training loss. gem: arXiv 2408.16673. dco: direct coverage optimization, "
        "arXiv 2502.07154. fork-aware: cross-entropy at tokens that can be learned, and "
        "KL(base ‖ model) at the others (see `learnability`).",
    )
    loss_options: dict[str, Any] = Field(
        {},
        description="Settings of a loss from an installed package, checked by its class.",
    )
    smoothing: Share = Field(
        0.1,
        gt=0,
        lt=1,
        description="For loss=label-smoothing: the share of the target probability that is spread "
        "over the whole vocabulary.",
    )
    gem_beta: float = Field(
        0.7,
        gt=0,
        allow_inf_nan=False,
        description="For loss=gem: temperature of its target distribution. 1: the gradient of "
        "cross-entropy.",
    )
    dco_n: int = Field(
        16,
        ge=1,
        description="For loss=dco: the number of attempts, N; the loss optimizes the probability "
        "that one of N attempts succeeds (pass@N). 1: cross-entropy.",
    )
    dco_per: Literal["response", "step", "token"] = Field(
        "response",
        description="For loss=dco: the unit that must succeed in one of the attempts: a whole "
        "response, a step (one line of the response) or a token.",
    )
    fork_aware: ForkAwareConfig = Field(
        ForkAwareConfig(), description="For loss=fork-aware: its weights."
    )
    lora: LoraConfig = Field(LoraConfig(), description="Low-rank adapters.")
    seed: Seed = Field(
        0, description="Seed of the order of examples and of all that is random in training."
    )

    @property
    def deciding(self) -> dict[str, Any]:
        """What decides a run's result: without the settings of losses that are not used, and of
        adapters where there are none. Runs keep the names they had before these settings."""
        later = {name for name in ("save_steps", "save_every", "keep") if not getattr(self, name)}
        own = {"label-smoothing": {"smoothing"}, "gem": {"gem_beta"}, "dco": {"dco_n", "dco_per"}}
        own |= {"fork-aware": {"fork_aware"}}
        unused = set().union(*own.values()) - own.get(self.loss, set())
        plain = {"loss"} if self.loss == "cross-entropy" else set()
        adapters = set() if self.lora.rank else {"lora"}
        return self.model_dump(exclude=unused | plain | later | adapters)

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omits later settings at their defaults, so that runs from before them are reused."""
        values: dict[str, Any] = plain(self)
        unset = {"loss_options"} if not self.loss_options else set()
        unset |= {"fork_aware"} if self.fork_aware == ForkAwareConfig() else set()
        return {k: v for k, v in values.items() if k not in unset}

    def __hash__(self) -> int:
        """Of the values as text: the options of a loss are a dict, which has no hash."""
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _loss_options_are_known(self) -> Self:
        if not self.loss_options:
            return self
        options: type[Frozen] | None = LOSSES.get(self.loss).options
        if options is None:
            raise ValueError(
                f"loss={self.loss} has no options, got loss_options={self.loss_options}; "
                "allowed: no options; remove sft.loss_options"
            )
        options.model_validate(self.loss_options)
        return self

    @model_validator(mode="after")
    def _saved_epochs_exist(self) -> Self:
        beyond = [epoch for epoch in self.save_epochs if epoch > self.epochs]
        if beyond:
            raise ValueError(
                f"save_epochs has an epoch beyond the last: got {beyond[0]}; allowed: 1 to "
                f"{self.epochs}; raise epochs or correct save_epochs"
            )
        return self


class PretrainConfig(Frozen):
    """A base model that forkdiv trains on random walks through the task's graphs; it can write
    every path and prefers none of them. Used by `forkdiv pretrain`, and by a study with base=null.
    If you set one setting of pretrain.sft, set all that matter: the others then have the defaults
    of `sft`, not those listed here."""

    preset: Literal["tiny-llama", "micro-llama"] = Field(
        "tiny-llama", description="Architecture of the model, trained from random weights."
    )
    start: CheckpointPath | None = Field(
        None,
        description="Checkpoint from which training continues, instead of random weights: the "
        "name of a shipped base, or a folder that `forkdiv pretrain` wrote. `preset` is then not "
        "used. null: random weights.",
    )
    examples: Examples = Field(64_000, description="Number of training examples.")
    walks: int = Field(6, ge=1, description="Random walks through one graph in each example.")
    direction: Share = Field(
        1.0, description="Share of the examples whose walks go forward; the others go backward."
    )
    seed: Seed = Field(0, description="Seed of the walks and of the random weights.")
    sft: SftConfig = Field(
        SftConfig(epochs=1, batch_size=64, learning_rate=2e-3),
        description="How this base is trained; the settings are those of `sft`. If one of them is "
        "set, the others have the defaults of `sft`.",
    )
