"""A split of the data, as the model takes it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from calib.results import ModelRecord
from calib.stages.batch_axes import BatchAxes
from calib.stages.shard import Shard
from calib.stages.typed import typed
from data_loaders import (
    Batch,
    DataSpec,
    FiniteSamples,
    Sample,
    Scan,
    batches,
    data_set_from_spec,
    stack,
)


def shared_shapes(model: ModelRecord, axes: BatchAxes) -> dict[str, tuple[int, ...]]:
    """The shapes of the inputs that a batch shares, as the model has them."""
    return {
        spec.name: tuple(size for size in spec.shape if isinstance(size, int))
        for spec in model.inputs
        if axes.inputs[spec.name] is None
    }


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the samples of a split come from.

    Attributes:
        spec: as the config has it.
        dtypes: of the model's inputs.
        drop_not_finite: whether samples with NaN or infinity are left out.
        known: what a first reading found out; see `Choosing.known`.
    """

    spec: DataSpec
    dtypes: dict[str, str]
    drop_not_finite: bool
    known: dict[str, Any] = field(default_factory=dict)

    def samples(self) -> Any:
        """The data set, in the types that the model takes."""
        data = self.unfiltered()
        return FiniteSamples(data) if self.drop_not_finite else data

    def unfiltered(self) -> Any:
        """The same with the samples that hold NaN or infinity."""
        source: Any = data_set_from_spec(self.spec)
        if self.known:
            source.recall(self.known)
        return typed(source, self.dtypes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """The samples of a split as the model takes them.

    Attributes:
        data: the data set.
        batch_size: samples a batch.
        axes: where the batch is.
        shared_shapes: of inputs that a batch shares, as the model has them.
    """

    data: Any
    batch_size: int
    axes: BatchAxes = field(default_factory=BatchAxes)
    shared_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def batches(
        self, samples: Iterable[Sample] | None = None, size: int | None = None
    ) -> Iterator[Batch]:
        """Its batches, from the start, always the same; or those of some of its samples.

        Args:
            samples: all of them if None. Of some, a model of fixed batch size gets whole batches.
            size: samples a batch; that of the config, or of the model, if None.
        """
        fixed = self.axes.size
        source = self.data if samples is None else samples
        for batch in batches(
            source,
            fixed or size or self.batch_size,
            pad_values=self._pad_values,
            axes=self.axes.inputs,
        ):
            if samples is None or fixed is None or len(batch) == fixed:
                yield self._shaped(batch)

    def of_shard(self, shard: Shard, stretch: range | None) -> Iterator[tuple[int, Batch]]:
        """The batches of a shard with their numbers.

        Args:
            shard: which.
            stretch: the numbers, where batches are stretches of the data: no other sample is made.
        """
        if stretch is not None:
            size = self.axes.size or self.batch_size
            samples = self.data.part(stretch.start * size, stretch.stop * size)
            yield from enumerate(self.batches(samples), stretch.start)
            return
        for number, batch in enumerate(self.batches()):
            if shard.has(number):
                yield number, batch

    def stack(self, samples: Sequence[Sample]) -> Batch:
        """One batch of these samples."""
        return self._shaped(stack(samples, self._pad_values, self.axes.inputs))

    @property
    def _pad_values(self) -> Mapping[str, int | float]:
        found: Mapping[str, int | float] = getattr(self.data, "pad_values", {})
        return found

    def _shaped(self, batch: Batch) -> Batch:
        shapes = self.shared_shapes
        if not shapes:
            return batch
        reshaped = {name: batch.inputs[name].reshape(shape) for name, shape in shapes.items()}
        return replace(batch, inputs={**batch.inputs, **reshaped})


@dataclass(frozen=True, slots=True, kw_only=True)
class Split(Batches):
    """One split: where it comes from, and what a first reading found.

    Attributes:
        origin: makes the data set again, in another process.
        scan: what is in it.
    """

    origin: Origin
    scan: Scan

    @property
    def batch_count(self) -> int:
        """Number of batches."""
        return -(-self.scan.samples // self.batch_size)

    def stretch(self, shard: Shard) -> range | None:
        """The numbers of a shard's batches, if batches are stretches of the data.

        They are where nothing puts samples into another order (all are of one length, no input is
        shared by a batch), none is left out, and the data set can be read in part.
        """
        axes = (axis for found in self.scan.shapes.values() if len(found) == 1 for axis in found)
        if (
            any(low != high for low, _, high in axes)
            or None in self.axes.inputs.values()
            or self.scan.dropped
            or not hasattr(self.data, "part")
        ):
            return None
        return shard.stretch(self.batch_count)
