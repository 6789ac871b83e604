"""Reinforcement learning from verifiable rewards (GRPO) from a checkpoint."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from forkdiv.core.config.base import Frozen, Nats, Seed, Share, Steps, Temperature

# Settings that only say when a run stops with an error, or where it can go on
NOT_DECIDING = frozenset({"save_state_every", "max_divergence", "give_up_after"})


class RlConfig(Frozen):
    """GRPO: in each iteration responses are sampled in groups of one prompt, graded, and used for
    one optimizer step. A checkpoint is always saved at the end."""

    iterations: Steps = Field(400, description="Iterations, each with one optimizer step.")
    save_iterations: tuple[Steps, ...] = Field(
        (), description="Iterations after which a checkpoint is saved, such as [100, 200]."
    )
    save_every: Steps | None = Field(
        None, description="Iterations between two checkpoints. null: not used."
    )
    episodes: int = Field(
        64, ge=2, description="Sampled responses in one iteration, a multiple of `group`."
    )
    group: int = Field(
        4,
        ge=1,
        description="Responses to one prompt. Advantages compare the responses of a group, so it "
        "must have at least two.",
    )
    prompts: int | None = Field(
        None,
        ge=1,
        description="Number of different prompts, used again in another order when all were used. "
        "null: as many as the iterations need, or as many as there are.",
    )
    unseen: bool = Field(
        True,
        description="Whether only training problems are used that the fine-tuning data of "
        "`dataset` does not have. false: all training problems, for a file that fine-tuning did "
        "not use.",
    )
    learning_rate: float = Field(
        1e-6,
        gt=0,
        allow_inf_nan=False,
        description="Learning rate of AdamW, constant after the warm-up.",
    )
    warmup: int = Field(0, ge=0, description="Iterations in which the learning rate rises.")
    weight_decay: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Weight decay of AdamW."
    )
    grad_clip: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="Largest norm of the gradient."
    )
    kl: float = Field(
        1e-3,
        ge=0,
        allow_inf_nan=False,
        description="Coefficient of the KL divergence from the starting checkpoint. 0: no "
        "reference model.",
    )
    loss: Literal["grpo", "dapo", "dr_grpo"] = Field(
        "grpo",
        description="How the losses of tokens are averaged, TRL's loss_type. grpo: over each "
        "response, then over responses. dapo: over all tokens of the iteration. dr_grpo: over "
        "responses, divided by decoder.max_new_tokens.",
    )
    advantage: Literal["group", "pass-at-k"] = Field(
        "group",
        description="group: the reward minus the mean of its group, divided by its standard "
        "deviation. pass-at-k: that of the event that one of `k` responses of the group is right "
        "(arXiv 2508.10751), which rewards diverse groups.",
    )
    k: int = Field(2, ge=1, description="For advantage=pass-at-k: the k, at most `group`.")
    temperature: Temperature = Field(
        1.0, gt=0, description="Temperature at which responses are sampled."
    )
    min_p: Share = Field(
        0.0,
        description="Responses are sampled from the tokens whose probability is at least this "
        "share of the highest token probability. 0: all.",
    )
    entropy_bonus: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Coefficient of the mean entropy per token, which is added to the objective.",
    )
    top_entropy: Share = Field(
        1.0,
        gt=0,
        description="Share of the tokens, those with the highest entropy, that the policy loss is "
        "computed on (arXiv 2506.01939). 1: all.",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Number format of the forward and backward pass. Weights and the optimizer's "
        "state are in float32.",
    )
    max_divergence: Nats = Field(
        0.1,
        gt=0,
        description="Bound on the mean difference between the log-probabilities that the engine "
        "and the trainer give to the same sampled tokens. A run above it stops.",
    )
    give_up_after: Steps = Field(
        1,
        description="The run stops if no response is right in this many iterations from the start.",
    )
    save_state_every: Steps = Field(
        25, description="Iterations between two saved states from which a run can resume."
    )
    seed: Seed = Field(0, description="Seed of the prompts, of their order and of sampling.")

    @property
    def groups(self) -> int:
        """The number of prompts in one iteration."""
        return self.episodes // self.group

    @property
    def saved(self) -> tuple[int, ...]:
        """The iterations after which a checkpoint is saved, in order; the last one is always."""
        every = range(self.save_every, self.iterations, self.save_every) if self.save_every else ()
        return tuple(sorted({*self.save_iterations, *every, self.iterations}))

    @property
    def deciding(self) -> dict[str, Any]:
        """What decides a run's result."""
        unused = set() if self.advantage == "pass-at-k" else {"k"}
        return self.model_dump(exclude=unused | NOT_DECIDING)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.group < 2:
            raise ValueError(
                f"group={self.group} gives every response an advantage of 0; allowed: at least 2, "
                "because advantages compare the responses of a group; raise rl.group"
            )
        if self.episodes % self.group:
            raise ValueError(
                f"episodes={self.episodes} is not a multiple of group={self.group}; allowed: whole "
                "groups; correct rl.episodes or rl.group"
            )
        if self.advantage == "pass-at-k" and self.k > self.group:
            raise ValueError(
                f"k={self.k} is larger than group={self.group}; allowed: at most the number of "
                "responses to one prompt; lower rl.k or raise rl.group"
            )
        if beyond := [save for save in self.save_iterations if save > self.iterations]:
            raise ValueError(
                f"save_iterations has an iteration beyond the last: got {beyond[0]}; allowed: 1 to "
                f"{self.iterations}; raise rl.iterations or correct rl.save_iterations"
            )
        return self
