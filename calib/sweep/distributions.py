"""The axes of a space in optuna's words."""

from types import ModuleType
from typing import Any

from calib.specs.sweep import AxisSpec


def distribution(optuna: ModuleType, axis: AxisSpec) -> Any:
    """The axis as optuna's samplers take it."""
    kinds = optuna.distributions
    if axis.values is not None:
        return kinds.CategoricalDistribution(axis.texts)
    low, high = axis.low or 0.0, axis.high or 0.0
    if axis.int:
        step = round(axis.step or 1)
        return kinds.IntDistribution(round(low), _last(low, high, step), log=axis.log, step=step)
    if axis.step is not None:
        return kinds.FloatDistribution(low, _last(low, high, axis.step), step=axis.step)
    return kinds.FloatDistribution(low, high, log=axis.log)


def _last(low: float, high: float, step: float) -> Any:
    """The last of the steps: optuna warns where the upper end is none."""
    last = low + int((high - low) / step * (1 + 1e-12)) * step
    return round(last) if isinstance(step, int) else min(last, high)


def text_of(axis: AxisSpec, param: Any) -> str:
    """The value that optuna proposes, as `--set` takes it."""
    return str(param) if axis.values is not None else axis.text_of(float(param))


def param_of(axis: AxisSpec, text: str) -> Any:
    """What optuna calls the value of that text."""
    if axis.values is not None:
        return text
    return int(text) if axis.int else float(text)
