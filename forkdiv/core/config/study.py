"""One frozen config per stage, and `StudyConfig`, which has them all.

What decides a result (everything but `PlaceConfig`) is identity and is fingerprinted;
where it runs is `PlaceConfig` and never is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from forkdiv.core.config.base import AbsolutePath, Frozen, Name, Seed, Share, Temperature
from forkdiv.core.config.decoder import DecoderConfig as DecoderConfig
from forkdiv.core.config.tasks import AnyTask, default_task

RESERVED_NAMES = ("store", "tune", "mlartifacts")  # folders under place.root

# The knobs of the data that a sweep may vary, in the order results are named by.
DATA_AXES = ("fork_density", "direction", "branch_coverage", "structure", "synthesis")
# What a sweep may vary of the tuning itself, on any task; `AXES` are all that name a model.
TUNING_AXES = ("loss", "interpolation")
AXES = (*DATA_AXES, *TUNING_AXES)

Loss = Literal["cross-entropy", "label-smoothing", "gem", "dco"]


class PromptConfig(Frozen):
    """How a problem becomes the text a model sees, the same for training and sampling.

    `raw` is the problem's own text; `plain` puts it into `text`, where {prompt} stands for it;
    `chat` applies the tokenizer's chat template, once, with `system` before it where set.
    """

    template: Literal["raw", "plain", "chat"] = "raw"
    text: str = "### Instruction:\n{prompt}\n\n### Response:\n"
    system: str | None = None

    @model_validator(mode="after")
    def _holds_the_prompt(self) -> Self:
        if self.text.count("{prompt}") != 1:
            raise ValueError(
                f"text={self.text!r} must hold {{prompt}} once; allowed: any text around it; "
                "correct prompt.text"
            )
        if self.system is not None and self.template != "chat":
            raise ValueError(
                f"system={self.system!r} needs a chat template; allowed: prompt.template=chat; "
                "set it, or write the text into prompt.text"
            )
        return self


class DatasetConfig(Frozen):
    """The SFT data. Which knobs a task reads is the task's; one it does not read is refused.

    `fork_density` is the share of the forks that are unsigned, over those that responses meet.
    `direction` is the share of forward traces, 1.0 all forward. `branch_coverage` is how many
    of the valid branches the data shows for one problem (None: one). `structure` is how modes
    are spread: data-level shows each problem in one mode, problem-level in every mode, with
    `solutions` responses to a problem either way. `synthesis` repairs low branch coverage
    before training, from the task's enumerator or from verified samples of the base, within
    the same number of examples. `examples` None is the task's own number.
    """

    examples: int | None = Field(None, ge=1)
    fork_density: Share = 0.5
    direction: Share = 1.0
    branch_coverage: int | None = Field(None, ge=1)
    structure: Literal["data-level", "problem-level"] = "problem-level"
    solutions: int = Field(2, ge=2, le=8)
    mode_share: Share = 0.5
    synthesis: Literal["none", "enumerator", "samples"] = "none"
    seed: Seed = 0

    @classmethod
    def knobs(cls) -> frozenset[str]:
        """What shapes the data, beside how much of it and which draw."""
        return frozenset(cls.model_fields) - {"examples", "seed"}


class SynthesisConfig(Frozen):
    """Data synthesis at decision points: `samples` draws from each under-covered fork under
    `temperature`, of which the verifier keeps the correct ones. `budget` is the most examples
    that there may be afterwards (None: as many as before). Where the task does not know its
    forks, they are the `forks_per_problem` places at which the base is least sure."""

    budget: int | None = Field(None, ge=1)
    samples: int = Field(16, ge=1, le=4096)
    forks_per_problem: int = Field(1, ge=1)
    temperature: Temperature = 1.0
    max_new_tokens: int = Field(64, ge=1)
    seed: Seed = 0


class AuditConfig(Frozen):
    """Where the forks of a dataset are, and by which ways to find them.

    `exact` asks the task, `tree` compares several solutions to one prompt, `model` takes the
    positions at which the next-token entropy of `model` is above `quantile` of all response
    positions (0.8: the forking tokens of arXiv 2506.01939) or, where set, above `min_entropy`
    nats; its branches are the tokens with at least `min_probability`. Empty `ways` are all
    that apply. `limit` examples are read at most.
    """

    ways: tuple[Literal["exact", "tree", "model"], ...] = ()
    model: AbsolutePath | None = None
    quantile: float = Field(0.8, ge=0, lt=1)
    min_entropy: float | None = Field(None, ge=0)
    min_probability: float = Field(0.05, gt=0, lt=1)
    limit: int | None = Field(None, ge=1)
    shown: int = Field(20, ge=1, le=500)  # sample texts on the page


class LoraConfig(Frozen):
    """Low-rank adapters in place of the weights themselves, merged into them in every checkpoint.

    `rank` 0 trains all weights. `alpha`/`rank` scales the adapters. Empty `targets` are all linear
    layers but the output layer; else names of layers, such as [q_proj, v_proj].
    """

    rank: int = Field(0, ge=0)
    alpha: float = Field(16.0, gt=0, allow_inf_nan=False)
    targets: tuple[str, ...] = ()


class SftConfig(Frozen):
    """Supervised fine-tuning; `batch_size` is global, over all workers.

    `loss` is taken over response tokens. `smoothing` is the share that label-smoothing gives to
    the whole vocabulary, `gem_beta` the temperature of GEM's target (1: cross-entropy's
    gradient). `dco_n` is the number of tries that DCO optimises for (1: cross-entropy), and
    `dco_per` what is to succeed in one of them: a response, a step (a line of it) or a token.

    Checkpoints are saved after `save_epochs`, after `save_steps`, after every `save_every` steps,
    and always at the end; `keep` is how many of them a run keeps, the newest (None: all).
    """

    epochs: int = Field(4, ge=1)
    save_epochs: tuple[Annotated[int, Field(ge=1)], ...] = ()
    save_steps: tuple[Annotated[int, Field(ge=1)], ...] = ()
    save_every: int | None = Field(None, ge=1)
    keep: int | None = Field(None, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    warmup_share: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    grad_clip: float = Field(1.0, gt=0, allow_inf_nan=False)
    dtype: Literal["float32", "bfloat16"] = "float32"
    loss: Loss = "cross-entropy"
    smoothing: float = Field(0.1, gt=0, lt=1)
    gem_beta: float = Field(0.7, gt=0, allow_inf_nan=False)
    dco_n: int = Field(16, ge=1)
    dco_per: Literal["response", "step", "token"] = "response"
    lora: LoraConfig = LoraConfig()
    seed: Seed = 0

    @property
    def deciding(self) -> dict[str, Any]:
        """What decides a run's result: without the settings of losses that are not used, and of
        adapters where there are none. Runs keep the names they had before these settings."""
        later = {name for name in ("save_steps", "save_every", "keep") if not getattr(self, name)}
        later |= set() if self.lora.rank else {"lora"}
        own = {"label-smoothing": {"smoothing"}, "gem": {"gem_beta"}, "dco": {"dco_n", "dco_per"}}
        unused = set().union(*own.values()) - own.get(self.loss, set())
        plain = {"loss"} if self.loss == "cross-entropy" else set()
        return self.model_dump(
            exclude=unused | plain | later | (set() if self.lora.rank else {"lora"})
        )

    @model_validator(mode="after")
    def _saved_epochs_exist(self) -> Self:
        beyond = [epoch for epoch in self.save_epochs if epoch > self.epochs]
        if beyond:
            raise ValueError(
                f"save_epochs names epoch {beyond[0]} of {self.epochs}; allowed: 1 to epochs"
            )
        return self


class PretrainConfig(Frozen):
    """A base model from random weights, on random walks that heed neither sign nor target;
    `direction` is the share of problems whose walks go forward.

    With `start` it goes on from that checkpoint, one of ours, and `preset` means nothing: walks
    in two directions are learnt soon by a model that can look an edge up; from
    random weights 2,500 steps were not enough.
    """

    preset: Literal["tiny-llama", "micro-llama"] = "tiny-llama"
    start: AbsolutePath | None = None
    examples: int = Field(64_000, ge=1)
    walks: int = Field(6, ge=1)
    direction: Share = 1.0
    seed: Seed = 0
    sft: SftConfig = SftConfig(epochs=1, batch_size=64, learning_rate=2e-3)


class EvalConfig(Frozen):
    """Held-out problems (None: the task's own number) and samples of each. `k` empty means
    1, 2, 4 ... and `samples`.

    With `validation_problems` every model is also sampled on that many problems of the
    validation split, and is compared at the temperature that was best for it there as well.
    `predict` are the k beyond `samples` for which the coverage law is asked (empty: 8
    and 64 times `samples`).

    With `enough`, effort is adaptive: `first` samples of each problem, then twice, four times as
    many … up to `samples`, and a problem with `enough` correct ones gets no more. pass@k stays
    unbiased (coverage.sequential); what needs equally many samples of each problem is left out.
    """

    split: Literal["validation", "test"] = "test"
    problems: int | None = Field(None, ge=1)
    validation_problems: int | None = Field(None, ge=1)
    samples: int = Field(64, ge=1, le=4096)
    k: tuple[Annotated[int, Field(ge=1)], ...] = ()
    predict: tuple[Annotated[int, Field(ge=1)], ...] = ()
    enough: int | None = Field(None, ge=1)
    first: int = Field(8, ge=1)
    seed: Seed = 0
    bootstrap: int = Field(2000, ge=100)
    confidence: float = Field(0.95, gt=0.5, lt=1)

    @model_validator(mode="after")
    def _k_within_samples(self) -> Self:
        beyond = [k for k in self.k if k > self.samples]
        if beyond:
            raise ValueError(
                f"k={beyond[0]} needs at least that many samples, got samples={self.samples}; "
                f"allowed: k up to samples; raise eval.samples or drop the k"
            )
        return self

    @property
    def ks(self) -> tuple[int, ...]:
        if self.k:
            return tuple(sorted(set(self.k)))
        powers = (2**i for i in range(self.samples.bit_length()))
        return tuple(sorted({*powers, self.samples}))

    @property
    def predicted(self) -> tuple[int, ...]:
        """The k that the coverage law is asked for, in order."""
        return tuple(sorted(set(self.predict))) or (8 * self.samples, 64 * self.samples)


class SweepConfig(Frozen):
    """The axes of the grid; an empty axis takes the value of its own stage."""

    fork_density: tuple[Share, ...] = ()
    direction: tuple[Share, ...] = ()
    branch_coverage: tuple[Annotated[int, Field(ge=1)], ...] = ()
    structure: tuple[Literal["data-level", "problem-level"], ...] = ()
    synthesis: tuple[Literal["none", "enumerator", "samples"], ...] = ()
    decoder: tuple[Name, ...] = ()  # those that `decoders` names
    loss: tuple[Loss, ...] = ()
    interpolation: tuple[Share, ...] = ()
    temperature: tuple[Temperature, ...] = ()
    seed: tuple[Seed, ...] = ()

    @model_validator(mode="after")
    def _no_value_twice(self) -> Self:
        for axis in type(self).model_fields:
            values = getattr(self, axis)
            if len(set(values)) != len(values):
                raise ValueError(f"{axis} names a value twice: {list(values)}")
        return self


class PlanConfig(Frozen):
    """What `plan` takes for granted: `architecture` is a config.json or a folder with one (None:
    the base's), `tokens` the length of the longest examples, `examples` their number (None:
    dataset.examples or the task's own), `gpu_gib` the memory of one GPU in GiB."""

    architecture: AbsolutePath | None = None
    examples: int | None = Field(None, ge=1)
    tokens: int = Field(512, ge=2)
    gpus_per_node: int = Field(8, ge=1)
    gpu_gib: float = Field(80, gt=0, allow_inf_nan=False)


class EngineConfig(Frozen):
    """The vLLM engine. Place, not identity: the versions that change numbers are hashed apart."""

    replicas: int = Field(1, ge=1)
    max_replicas: int | None = Field(None, ge=1)  # more of them under load; None: no autoscaling
    tensor_parallel: int = Field(1, ge=1)
    kv_cache_gib: int = Field(1, ge=1)
    max_num_seqs: int = Field(256, ge=1)
    enforce_eager: bool = True
    start_timeout_s: float = Field(600, gt=0)
    request_timeout_s: float = Field(600, gt=0)
    requests_in_flight: int = Field(32, ge=1)
    max_failures: int = Field(3, ge=0)  # of one request, before the cell becomes invalid

    @model_validator(mode="after")
    def _most_is_not_below_least(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(
                f"max_replicas={self.max_replicas} is below replicas={self.replicas}; allowed: at "
                "least as many; raise it, or drop it for no autoscaling"
            )
        return self


class HttpConfig(Frozen):
    """Where `forkdiv serve` listens. Beyond this machine it asks for an API key."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)


class PlaceConfig(Frozen):
    """Where it runs. Nothing here changes a fingerprint.

    A step of fine-tuning is cut into passes of `micro_batch` lines on each worker (None: all at
    once), and `pack_tokens` puts several examples into one line of that many tokens, without
    attention between them. Neither changes which examples make a step, nor what it computes.
    `offload` keeps the optimizer's state (or with ZeRO-3 the parameters too) in the host's memory.

    A run that is killed goes on from the last state that was written: at the end of each epoch,
    and after every `resume_every` steps. The newest `keep_states` of them are kept. With
    `overlap`, checkpoints are sampled and scored while the training that wrote them goes on.
    """

    root: AbsolutePath = Field(Path("runs"), validate_default=True)
    device: Literal["cpu", "gpu"] = "cpu"
    workers: int = Field(2, ge=1)
    cpus_per_worker: float = Field(0.5, gt=0, allow_inf_nan=False)
    zero_stage: Literal[0, 1, 2, 3] = 1
    micro_batch: int | None = Field(None, ge=1)
    pack_tokens: int | None = Field(None, ge=1)
    activation_checkpointing: bool = False
    offload: Literal["none", "optimizer", "parameters"] = "none"
    resume_every: int | None = Field(None, ge=1)
    keep_states: int = Field(1, ge=1)
    overlap: bool = True
    max_failures: int = Field(2, ge=0)
    max_concurrent_trials: int = Field(1, ge=1)
    ray_address: str | None = None  # None: RAY_ADDRESS where set, else a Ray of its own
    num_cpus: int | None = Field(None, ge=1)  # CPUs of a Ray of its own; None: the machine's
    dashboard: bool = True
    dashboard_port: int = Field(8265, ge=1, le=65535)
    mlflow_uri: str | None = None  # None: sqlite under root
    min_free_mib: int = Field(512, ge=0)
    engine: EngineConfig = EngineConfig()
    http: HttpConfig = HttpConfig()

    @model_validator(mode="after")
    def _offloads_what_is_spread(self) -> Self:
        least = {"none": 0, "optimizer": 1, "parameters": 3}[self.offload]
        if self.zero_stage < least:
            raise ValueError(
                f"offload={self.offload} needs zero_stage={least} or more, got {self.zero_stage}; "
                "allowed: optimizer from stage 1, parameters at stage 3; raise place.zero_stage"
            )
        return self


class StudyConfig(Frozen):
    """One study: everything that any verb needs, each verb reading its part. With `base` null
    the base is the one that `pretrain` describes, built where it does not exist yet.

    `decoders` names decoders for `sweep.decoder`; one that does not set its dtype or how many
    new tokens it may draw takes those of `decoder`. `sweep.temperature` overrides theirs.

    `interpolation` is how far from the base the tuned model lies that is measured (WiSE-FT): 1
    as tuned, 0.5 half way back.
    """

    name: Name = "study"
    task: AnyTask = Field(default_factory=default_task)
    prompt: PromptConfig = PromptConfig()
    base: Path | None = Path("forkdiv/models/base/graph-d3-l3")
    checkpoint: Path | None = None  # sample or evaluate this one instead of training one
    data: AbsolutePath | None = None  # audit or synthesize this file or dataset, not `dataset`'s
    pretrain: PretrainConfig = PretrainConfig()
    dataset: DatasetConfig = DatasetConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    audit: AuditConfig = AuditConfig()
    sft: SftConfig = SftConfig()
    interpolation: Share = 1.0
    decoder: DecoderConfig = DecoderConfig()
    decoders: dict[Name, DecoderConfig] = Field(default_factory=dict)
    eval: EvalConfig = EvalConfig()
    sweep: SweepConfig = SweepConfig()
    plan: PlanConfig = PlanConfig()
    place: PlaceConfig = PlaceConfig()

    @property
    def folder(self) -> Path:
        """Where the study's results lie for people: a view of what is in the store."""
        return self.place.root / self.name

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if self.name in RESERVED_NAMES:
            raise ValueError(
                f"name={self.name} is a folder of forkdiv's own; allowed: any but "
                f"{', '.join(RESERVED_NAMES)}; choose another name"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _decoders_share_dtype_and_length(cls, data: Any) -> Any:
        named = data.get("decoders") if isinstance(data, Mapping) else None
        own = data.get("decoder") if isinstance(data, Mapping) else None
        if not isinstance(named, Mapping) or not isinstance(own, Mapping):
            return data
        shared = {key: own[key] for key in ("max_new_tokens", "dtype") if key in own}
        filled = {
            name: {**shared, **one} if isinstance(one, Mapping) else one
            for name, one in named.items()
        }
        return {**data, "decoders": filled}

    @model_validator(mode="after")
    def _decoders_can_be_measured(self) -> Self:
        unknown = [name for name in self.sweep.decoder if name not in self.decoders]
        if unknown:
            raise ValueError(
                f"sweep.decoder names {unknown[0]}; allowed: {', '.join(self.decoders) or 'none'}, "
                "as decoders has them; define it there"
            )
        for name, one in self.swept_decoders.items():
            where = f"decoders.{name}" if name else "decoder"
            if one.dtype != self.decoder.dtype:
                raise ValueError(
                    f"{where}.dtype={one.dtype} is another than decoder's; allowed: "
                    f"{self.decoder.dtype}, since one engine draws all; drop it"
                )
            if self.eval.enough and one.design != "independent":
                raise ValueError(
                    f"eval.enough={self.eval.enough} does not fit {where}, whose samples hang "
                    "together; allowed: decoders that draw each sample by itself; drop eval.enough"
                )
            if self.eval.samples % one.unit or self.eval.samples < one.first_tokens:
                raise ValueError(
                    f"eval.samples={self.eval.samples} does not fit {where}; allowed: whole trees "
                    f"of {one.unit}, and at least {one.first_tokens} samples; correct one of them"
                )
            for temperature in self.sweep.temperature:
                one.at(temperature)
        return self

    @property
    def swept_decoders(self) -> dict[str | None, DecoderConfig]:
        """Those of the sweep by name, or the study's own one under None."""
        named: dict[str | None, DecoderConfig] = {
            name: self.decoders[name] for name in self.sweep.decoder
        }
        return named or {None: self.decoder}

    @model_validator(mode="after")
    def _workers_divide_batches(self) -> Self:
        for where, sft in (("sft", self.sft), ("pretrain.sft", self.pretrain.sft)):
            if sft.batch_size % self.place.workers:
                raise ValueError(
                    f"{where}.batch_size={sft.batch_size} does not divide over "
                    f"place.workers={self.place.workers}; allowed: a multiple of the workers"
                )
        return self
