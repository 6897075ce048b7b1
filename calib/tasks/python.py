"""A metric of the user's own, in two functions."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from calib.errors import DataError
from calib.tasks.base import Comparison, Metric, stacked
from data_loaders.base import resolve_entry
from data_loaders.types import Array, Sample


class PythonTaskSpec(BaseModel):
    """A metric of your own: `entry` names a class with two functions, sample and total."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["python"] = "python"
    entry: str = Field(
        pattern=r"^[\w.]+:\w+$", description="`module:Class`, made without arguments."
    )
    outputs: tuple[str, ...] = Field(
        default=(), description="The outputs that it reads; all of the model's if absent."
    )
    unit: str = Field(default="", description="Of the metric, for the report.")
    higher_is_better: bool = Field(default=True, description="The direction of the metric.")


class PythonTask:
    """A class of the user's with two functions.

    `sample(outputs, label)` gives (score, statistics) of one sample: a number, and numbers that are
    added up over samples. `total(sums)` makes the metric of those sums. Outputs are numpy arrays by
    name, without batch axis; where a sample has no label, FP32's outputs take its place.

    Args:
        spec: which class.
        names: of the model's outputs.

    Raises:
        DataError: if there is no such class, or it has not both functions.
    """

    def __init__(self, spec: PythonTaskSpec, names: Sequence[str]) -> None:
        self._entry = spec.entry
        self._user = resolve_entry(spec.entry)()
        for name in ("sample", "total"):
            if not callable(getattr(self._user, name, None)):
                raise DataError(
                    f"task.entry {spec.entry}",
                    f"has no function {name}",
                    expected="sample(outputs, label) and total(sums)",
                )
        self.outputs = spec.outputs or tuple(names)
        title = spec.entry.partition(":")[2]
        direction = spec.higher_is_better
        self.metrics = (Metric("value", title, spec.unit, direction),)
        self.sample_metric = Metric("score", title, spec.unit, direction)

    def answer(self, outputs: Mapping[str, Array], sample: Sample) -> dict[str, Array]:  # noqa: ARG002
        """See `Kind.answer`: the outputs themselves."""
        return {name: outputs[name] for name in self.outputs}

    def target(self, sample: Sample) -> Any:
        """See `Kind.target`: the label as the loader gave it."""
        return sample.label

    def target_from_answer(self, answer: dict[str, Array]) -> Any:
        """See `Kind.target_from_answer`."""
        return answer

    def compare(self, answer: dict[str, Array], target: Any) -> Comparison:
        """See `Kind.compare`.

        Raises:
            DataError: if the user's function fails, or gives something else.
        """
        try:
            score, statistics = self._user.sample(answer, target)
            sums = np.asarray(statistics, dtype=np.float64).ravel()
            return Comparison(float(score), None, sums)
        except Exception as error:  # whatever the user's code does
            raise DataError(
                f"task.entry {self._entry}",
                f"sample failed: {type(error).__name__}: {error}",
                expected="(score, statistics): a number, and numbers to add up",
            ) from error

    def is_same(self, first: dict[str, Array], second: dict[str, Array]) -> bool:
        """Whether all outputs are equal."""
        return all(np.array_equal(first[name], second[name]) for name in self.outputs)

    def summarise(
        self, statistics: Sequence[NDArray[np.float64]], weights: NDArray[np.float64] | None = None
    ) -> dict[str, float]:
        """See `Kind.summarise`.

        Raises:
            DataError: if the user's function fails, or statistics have different lengths.
        """
        try:
            table = stacked(statistics)
            sums = table.sum(axis=0) if weights is None else weights @ table
            return {"value": float(self._user.total(sums))}
        except Exception as error:  # whatever the user's code does
            raise DataError(
                f"task.entry {self._entry}",
                f"total failed: {type(error).__name__}: {error}",
                expected="a number; sample gives as many statistics each time",
            ) from error

    def words(self, answer: dict[str, Array]) -> str:
        """The first numbers of the first output."""
        first = answer[self.outputs[0]].ravel()[:4]
        return " ".join(f"{value:.4g}" for value in first)

    def target_words(self, target: Any) -> str:
        """The label, shortened."""
        return str(target)[:80]
