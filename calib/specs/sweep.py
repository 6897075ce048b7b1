"""What a sweep looks through, as the config says it."""

import math
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

_STEPS_MAX = 100_000


def yaml_text(value: Any) -> str:
    """A setting as `--set` takes it: YAML in one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, width=math.inf, sort_keys=False, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...")


class AxisSpec(BaseModel):
    """One setting of the space: some values, or a range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: tuple[Any, ...] | None = Field(
        default=None, min_length=1, description="Each as `--set` takes it: text, number, list, …"
    )
    low: float | None = Field(
        default=None, allow_inf_nan=False, description="A range in place of values: its lower end."
    )
    high: float | None = Field(default=None, allow_inf_nan=False, description="Its upper end.")
    step: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="From the lower end on; any if absent."
    )
    log: bool = Field(default=False, description="Small values as often as large ones.")
    int: bool = Field(default=False, description="Whole numbers only.")

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        if self.values is None and (self.low is None or self.high is None):
            raise ValueError("needs values, or low and high")
        if self.values is not None:
            given = {"low", "high", "step", "log", "int"} & self.model_fields_set
            if given:
                raise ValueError(f"has values, so {min(given)} has no meaning")
            texts = [yaml_text(value) for value in self.values]
            if len(set(texts)) < len(texts):
                raise ValueError("holds a value twice")
        return self

    @model_validator(mode="after")
    def _range_is_one(self) -> Self:
        if self.low is None or self.high is None:
            return self
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low > 0, and no step")
        ends = (self.low, self.high, self.step or 1.0)
        if self.int and not all(end.is_integer() for end in ends):
            raise ValueError("int needs low, high and step that are whole numbers")
        return self

    @property
    def texts(self) -> tuple[str, ...] | None:
        """Every value as `--set` takes it; None where there are too many to name them all."""
        if self.values is not None:
            return tuple(yaml_text(value) for value in self.values)
        step = self.step or (1.0 if self.int else None)
        low, high = self.low or 0.0, self.high or 0.0
        if step is None or (high - low) / step > _STEPS_MAX:
            return None
        count = math.floor((high - low) / step * (1 + 1e-12)) + 1
        return tuple(self.text_of(low + index * step) for index in range(count))

    @property
    def corners(self) -> tuple[str, ...]:
        """The values at which the whole experiment is checked: all, or the ends of a range."""
        if self.values is not None:
            return self.texts or ()
        return tuple(self.text_of(end) for end in (self.low, self.high) if end is not None)

    def text_of(self, number: float) -> str:
        """A number of the range as `--set` takes it: six digits, and within the range."""
        if self.int:
            return str(round(number))
        rounded = float(f"{number:.6g}")
        low, high = self.low, self.high
        if low is not None and high is not None:
            rounded = min(max(rounded, low), high)
        return yaml_text(rounded)


class SweepSpec(BaseModel):
    """What `calib sweep` tries: many settings of one experiment, on the same samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: dict[str, AxisSpec] = Field(
        default_factory=dict,
        description="Settings by their dotted path, as `--set` has it; where absent, calibrators "
        "with and without remedies.",
    )
    trials: int = Field(
        default=24, ge=1, le=10_000, description="At most so many settings are tried."
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Of the sampler.")
    sampler: Literal["auto", "grid", "random", "tpe", "nsga2"] = Field(
        default="auto",
        description="`grid`: each point of the space once; `random`; `tpe` and `nsga2` learn from "
        "what was found. `auto`: the grid where it has no more points than `trials`, else `tpe`.",
    )
    timeout_minutes: float | None = Field(
        default=None, gt=0, description="No trial begins after this long."
    )
