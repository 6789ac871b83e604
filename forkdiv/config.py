"""One frozen config per stage. YAML and dotted overrides in, a checked `StudyConfig` out.

What decides a result (everything but `PlaceConfig`) is identity and is fingerprinted;
where it runs is `PlaceConfig` and never is.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from forkdiv.errors import UserError, refuse

Density = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


def _sampled_as_asked(temperature: float) -> float:
    """vLLM raises anything between to 0.01, with a warning only."""
    if 0 < temperature < 0.01:
        raise ValueError(
            f"got {temperature}; allowed: 0 (greedy), or 0.01 and more: "
            "vLLM samples anything between at 0.01; correct the temperature"
        )
    return temperature


Temperature = Annotated[
    float, Field(ge=0.0, le=100.0, allow_inf_nan=False), AfterValidator(_sampled_as_asked)
]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


RESERVED_NAMES = ("store", "tune", "mlartifacts")  # folders under place.root


class Frozen(BaseModel):
    """Immutable; unknown keys and values of other types are refused. Text that spells a number
    is one, since YAML 1.1 reads 1e-3 as text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    @model_validator(mode="before")
    @classmethod
    def _plain_values(cls, data: Any) -> Any:
        """YAML's `yes` would silently become 1 where a number is meant; an empty section is one
        that sets nothing."""
        if not isinstance(data, Mapping):
            return data
        for key, value in data.items():
            field = cls.model_fields.get(str(key))
            several = value if isinstance(value, list | tuple) else [value]
            if field and field.annotation is not bool and any(isinstance(v, bool) for v in several):
                raise ValueError(
                    f"{key} is no yes or no: got {value}; allowed: a number, or its own type; "
                    f"correct {key} in the config"
                )
        empty = {key for key, value in data.items() if value is None and cls._is_section(str(key))}
        return {key: value for key, value in data.items() if key not in empty}

    @classmethod
    def _is_section(cls, key: str) -> bool:
        field = cls.model_fields.get(key)
        kind = field.annotation if field else None
        return isinstance(kind, type) and issubclass(kind, BaseModel)


class GraphBranchingConfig(Frozen):
    """The graph task: `degree` arms of `length` edges; `names` node names to draw from."""

    kind: Literal["graph_branching"] = "graph_branching"
    degree: int = Field(3, ge=2, le=64)
    length: int = Field(3, ge=3, le=64)  # with shorter arms the first node sits next to the goal
    names: int = Field(16, ge=7, le=2600)
    seed: Seed = 0

    @model_validator(mode="after")
    def _names_suffice(self) -> Self:
        needed = self.degree * self.length + 1
        if self.names < needed:
            raise ValueError(
                f"names={self.names} is too few for degree={self.degree} and "
                f"length={self.length}; allowed: at least {needed}; raise task.names"
            )
        return self


class DatasetConfig(Frozen):
    """The SFT data. `direction` is the share of forward traces, 1.0 all forward."""

    examples: int = Field(800, ge=1)
    fork_density: Density = 0.5
    direction: Density = 1.0
    seed: Seed = 0


class SftConfig(Frozen):
    """Supervised fine-tuning; `batch_size` is global, over all workers."""

    epochs: int = Field(4, ge=1)
    save_epochs: tuple[Annotated[int, Field(ge=1)], ...] = ()  # the last one is always saved
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    warmup_share: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    grad_clip: float = Field(1.0, gt=0, allow_inf_nan=False)
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: Seed = 0

    @model_validator(mode="after")
    def _saved_epochs_exist(self) -> Self:
        beyond = [epoch for epoch in self.save_epochs if epoch > self.epochs]
        if beyond:
            raise ValueError(
                f"save_epochs names epoch {beyond[0]} of {self.epochs}; allowed: 1 to epochs"
            )
        return self


class PretrainConfig(Frozen):
    """A base model from random weights, on random walks that heed neither sign nor target."""

    preset: Literal["tiny-llama", "micro-llama"] = "tiny-llama"
    examples: int = Field(64_000, ge=1)
    walks: int = Field(6, ge=1)
    seed: Seed = 0
    sft: SftConfig = SftConfig(epochs=1, batch_size=64, learning_rate=2e-3)


class DecoderConfig(Frozen):
    """How to sample. `top_p` 1 and `top_k` 0 leave the distribution whole."""

    temperature: Temperature = 1.0
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    max_new_tokens: int = Field(16, ge=1)
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def truncates(self) -> bool:
        """Whether the model's distribution is cut, so that exact probabilities do not hold."""
        return self.top_p < 1 or self.top_k > 0


class EvalConfig(Frozen):
    """Held-out problems and samples of each. `k` empty means 1, 2, 4 ... and `samples`."""

    split: Literal["validation", "test"] = "test"
    problems: int = Field(200, ge=2)
    samples: int = Field(64, ge=1, le=4096)
    k: tuple[Annotated[int, Field(ge=1)], ...] = ()
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
        if self.problems % 2:
            raise ValueError(f"problems={self.problems} must be even: half signed, half unsigned")
        return self

    @property
    def ks(self) -> tuple[int, ...]:
        if self.k:
            return tuple(sorted(set(self.k)))
        powers = (2**i for i in range(self.samples.bit_length()))
        return tuple(sorted({*powers, self.samples}))


class SweepConfig(Frozen):
    """The axes of the grid; an empty axis takes the value of its own stage."""

    fork_density: tuple[Density, ...] = ()
    temperature: tuple[Temperature, ...] = ()
    seed: tuple[Seed, ...] = ()

    @model_validator(mode="after")
    def _no_value_twice(self) -> Self:
        for axis in type(self).model_fields:
            values = getattr(self, axis)
            if len(set(values)) != len(values):
                raise ValueError(f"{axis} names a value twice: {list(values)}")
        return self


class EngineConfig(Frozen):
    """The vLLM engine. Place, not identity: the versions that change numbers are hashed apart."""

    replicas: int = Field(1, ge=1)
    tensor_parallel: int = Field(1, ge=1)
    kv_cache_gib: int = Field(1, ge=1)
    max_num_seqs: int = Field(256, ge=1)
    enforce_eager: bool = True
    start_timeout_s: float = Field(600, gt=0)
    request_timeout_s: float = Field(600, gt=0)
    requests_in_flight: int = Field(16, ge=1)
    max_failures: int = Field(3, ge=0)  # of one request, before the cell becomes invalid


def _absolute(path: Path) -> Path:
    """Ray's workers have working directories of their own: a path is fixed where it is read."""
    return path.absolute()


class PlaceConfig(Frozen):
    """Where it runs. Nothing here changes a fingerprint."""

    root: Annotated[Path, AfterValidator(_absolute)] = Field(Path("runs"), validate_default=True)
    device: Literal["cpu", "gpu"] = "cpu"
    workers: int = Field(2, ge=1)
    cpus_per_worker: float = Field(0.5, gt=0, allow_inf_nan=False)
    zero_stage: Literal[0, 1, 2, 3] = 1
    max_failures: int = Field(2, ge=0)
    max_concurrent_trials: int = Field(1, ge=1)
    ray_address: str | None = None  # None: RAY_ADDRESS where set, else a Ray of its own
    num_cpus: int | None = Field(None, ge=1)  # CPUs of a Ray of its own; None: the machine's
    dashboard: bool = True
    dashboard_port: int = Field(8265, ge=1, le=65535)
    mlflow_uri: str | None = None  # None: sqlite under root
    min_free_mib: int = Field(512, ge=0)
    engine: EngineConfig = EngineConfig()


class StudyConfig(Frozen):
    """One study: everything that any verb needs, each verb reading its part."""

    name: Name = "study"
    task: GraphBranchingConfig = GraphBranchingConfig()
    base: Path = Path("forkdiv/base/graph-d3-l3")
    checkpoint: Path | None = None  # sample or evaluate this one instead of training one
    pretrain: PretrainConfig = PretrainConfig()
    dataset: DatasetConfig = DatasetConfig()
    sft: SftConfig = SftConfig()
    decoder: DecoderConfig = DecoderConfig()
    eval: EvalConfig = EvalConfig()
    sweep: SweepConfig = SweepConfig()
    place: PlaceConfig = PlaceConfig()

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if self.name in RESERVED_NAMES:
            raise ValueError(
                f"name={self.name} is a folder of forkdiv's own; allowed: any but "
                f"{', '.join(RESERVED_NAMES)}; choose another name"
            )
        return self

    @model_validator(mode="after")
    def _workers_divide_batches(self) -> Self:
        for where, sft in (("sft", self.sft), ("pretrain.sft", self.pretrain.sft)):
            if sft.batch_size % self.place.workers:
                raise ValueError(
                    f"{where}.batch_size={sft.batch_size} does not divide over "
                    f"place.workers={self.place.workers}; allowed: a multiple of the workers"
                )
        return self


def load(path: Path | None, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a YAML config and apply `a.b=value` overrides.

    Raises UserError, in one line, for anything unknown, of a wrong type or impossible.
    """
    data = _read_yaml(path) if path else {}
    for override in overrides:
        _apply(data, override)
    try:
        return StudyConfig.model_validate(data)
    except ValidationError as error:
        raise UserError(_one_line(error)) from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise refuse(
            "the config cannot be read", path, "a readable YAML file", f"check --config ({error})"
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date like 2024-13-45
        problem = " ".join(str(error).split())
        raise refuse(
            "the config is not YAML", path, "key: value lines", f"mend it: {problem}"
        ) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise refuse(
            "the config is no mapping",
            f"{type(data).__name__} in {path}",
            "key: value lines",
            "mend the file",
        )
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise refuse(
            "an override is no key=value",
            repr(override),
            "dotted.key=value, e.g. sft.epochs=8",
            "add the =",
        )
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise refuse(
            f"the value of {dotted} is not YAML", repr(text), "a YAML value", "quote it"
        ) from error
    # YAML 1.1 reads 1e-3 as text: numbers are meant as numbers, unless they are quoted
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(text)
    node = data
    *parents, leaf = dotted.split(".")
    for parent in parents:
        child = node.get(parent) or {}
        if not isinstance(child, dict):
            raise refuse(f"{dotted} reaches into a value", override, "a section", f"set {parent}")
        # a copy: where the file used a YAML alias, two sections are one dict
        node[parent] = dict(child)
        node = node[parent]
    node[leaf] = value


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    came = first.get("input")
    more = error.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    if first["type"] == "extra_forbidden":
        return _unknown_key(where, came) + tail
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{where + ': ' if where else ''}{message}{tail}"
    allowed = message[0].lower() + message[1:]
    came_text = came if not isinstance(came, Mapping) else "a section"
    return f"{where}: got {came_text!r}; allowed: {allowed}; correct {where} in the config{tail}"


def _unknown_key(where: str, came: object) -> str:
    *parents, leaf = where.split(".")
    model: type[BaseModel] = StudyConfig
    for parent in parents:
        annotation = model.model_fields[parent].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    known = list(model.model_fields)
    close = difflib.get_close_matches(leaf, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "remove it"
    return f"{where}: unknown key, got {came!r}; allowed: {', '.join(known)}; {hint}"
