"""Optuna as Ray Tune runs it, with two objectives: pass@k at the smallest and at the largest k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from ray.tune.search.optuna import OptunaSearch

from forkdiv.core.config.axis_range import AxisRange
from forkdiv.core.config.study import StudyConfig
from tuning.choices import Choices
from tuning.draws import Domain, combination, domains, draws

NAME = "study"  # of Optuna's study, which is in memory
MOST_REPEATED = 50  # choices in a row that an earlier trial has measured


class OptunaChooser:
    """Chooses settings from the results of earlier trials (TPE, multi-objective).

    Optuna is given the results of finished trials at its start, and chooses among numbers: a list
    is the range of its indices. A choice that an earlier trial has is answered with the result of
    that trial.
    """

    def __init__(
        self,
        study: StudyConfig,
        choices: Choices,
        objectives: Sequence[str],
        finished: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]],
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study, self._choices, self._objectives = study, choices, list(objectives)
        self._domains = {domain.path: domain for domain in domains(study)}
        self._space = {path: distribution(domain) for path, domain in self._domains.items()}
        self._metrics: dict[str, Mapping[str, float]] = {}  # by combination
        self._ids: dict[str, str] = {}  # Ray Tune's id of a trial: Optuna's
        modes = ["max"] * len(self._objectives)
        storage = optuna.storages.InMemoryStorage()
        self._record = optuna.create_study(
            storage=storage, study_name=NAME, directions=["maximize"] * len(modes)
        )
        for values, metrics in finished:
            self._add(values, metrics)
        # not the same random numbers again after each start
        seed = (study.sweep.search_seed + 7919 * len(choices.chosen)) % 2**32
        self._search = OptunaSearch(
            self._space,
            metric=self._objectives,
            mode=modes,
            sampler=optuna.samplers.TPESampler(seed=seed),
            study_name=NAME,
            storage=storage,
        )

    def choose(self, trial: str) -> dict[str, Any] | None:
        for attempt in range(MOST_REPEATED):
            name = f"{trial}-{attempt}"
            params = self._search.suggest(name)
            values = {path: self._value(path, params[path]) for path in self._domains}
            if not self._choices.has(values):
                self._ids[trial] = name
                return values
            known = self._metrics.get(combination(values))
            self._search.on_trial_complete(name, known, error=known is None)
        # what is left of a small space
        return next((v for v in draws(self._study) if not self._choices.has(v)), None)

    def learn(
        self, trial: str, values: Mapping[str, Any], metrics: Mapping[str, float] | None
    ) -> None:
        if metrics is not None:
            self._metrics[combination(values)] = metrics
        if (name := self._ids.pop(trial, None)) is not None:
            self._search.on_trial_complete(name, metrics, error=metrics is None)
        elif metrics is not None:  # a trial that an earlier run has chosen
            self._add(values, metrics)

    def _add(self, values: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        self._metrics[combination(values)] = metrics
        params = {path: self._param(path, values[path]) for path in self._domains}
        self._record.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions=self._space,
                values=[metrics[name] for name in self._objectives],
            )
        )

    def _value(self, path: str, param: float) -> Any:
        """Returns the value of an axis for Optuna's number."""
        domain = self._domains[path]
        if not isinstance(domain.values, AxisRange):
            return domain.values[int(param)]
        return int(param) if domain.is_integer else domain.number(param)

    def _param(self, path: str, value: Any) -> float:
        """Returns Optuna's number for a value of an axis."""
        domain = self._domains[path]
        if isinstance(domain.values, AxisRange):
            return int(value) if domain.is_integer else float(value)
        return [combination({"": v}) for v in domain.values].index(combination({"": value}))


def distribution(domain: Domain) -> BaseDistribution:
    """Returns the numbers from which Optuna chooses for an axis."""
    values = domain.values
    if not isinstance(values, AxisRange):
        return IntDistribution(0, len(values) - 1)
    low, high = values.ends
    if domain.is_integer:
        return IntDistribution(int(low), int(high), log=values.log is not None)
    return FloatDistribution(low, high, log=values.log is not None)
