"""The refusal of content that two splits share, and of samples that are no numbers."""

from collections.abc import Iterable, Iterator
from typing import Any

from data_loaders.errors import DataError
from data_loaders.scanning import Scan, not_finite, not_finite_inputs
from data_loaders.types import DataSet, Sample


class FiniteSamples:
    """A data set without the samples that have NaN or infinity in an input.

    Whatever else the data set has, such as class names, it has too.
    """

    def __init__(self, data_set: DataSet) -> None:
        self._data_set = data_set

    def __iter__(self) -> Iterator[Sample]:
        return (sample for sample in self._data_set if not not_finite_inputs(sample))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data_set, name)


def refuse_not_finite(samples: Iterable[Sample], where: str) -> Iterator[Sample]:
    """Pass samples on as long as their inputs are finite.

    Raises:
        DataError: naming the sample and the input.
    """
    for sample in samples:
        names = not_finite_inputs(sample)
        if names:
            raise not_finite(where, names[0], [sample.id])
        yield sample


def refuse_overlap(calibration: Scan, validation: Scan) -> None:
    """Refuse content that is in both splits: its errors would look smaller than they are.

    Raises:
        DataError: naming up to three pairs of ids.
    """
    shared = [digest for digest in calibration.ids if digest in validation.ids]
    if shared:
        pairs = [f"{calibration.ids[d]} = {validation.ids[d]}" for d in shared[:3]]
        raise DataError(
            "data",
            f"{len(shared)} samples are in both the calibration and the validation split",
            got=", ".join(pairs),
            expected="splits that share no content",
            fix="Take the samples from different parts of the data.",
        )
