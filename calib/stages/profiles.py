"""Single samples seen from inside FP32, one at a time."""

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from calib.analysis.profiles import ProfileAccumulator, Profiles, load_profiles, pooled
from calib.graph.hidden import last_hidden
from calib.graph.taps import Tap, taps_from_tensors
from calib.observe import tapped_engine
from calib.progress import Advance
from calib.results import TaskKind
from calib.stages.calibrate import Calibration
from calib.stages.inputs import Inputs
from calib.stages.splits import Split
from calib.stages.workbench import Workbench
from data_loaders import Batch, Sample
from data_loaders.types import Array


def some_ids(split: Split, count: int) -> frozenset[str]:
    """The ids of so many samples, by a hash of the id: no order of the data changes the choice."""
    # A checksum would not do: of numbered ids it picks by their digits.
    ranked = sorted(
        split.scan.ids.values(), key=lambda name: hashlib.sha256(name.encode()).digest()
    )
    return frozenset(ranked[:count])


def profile(
    bench: Workbench,
    inputs: Inputs,
    calibration: Calibration,
    split: Split,
    ids: Collection[str],
    title: str,
) -> Profiles | None:
    """The profiles of some samples of a split; None if there is nothing to look at.

    Args:
        bench: the backend and the store.
        inputs: the model.
        calibration: the FP32 graph, what of it is quantized, and every calibrator's thresholds.
        split: where the samples are.
        ids: of the samples.
        title: of the stage.
    """
    if not ids or not calibration.selection.activations:
        return None
    key = {
        "calibration": calibration.digest,
        "amax": calibration.amax,
        "data": split.scan.sha256,
        "ids": sorted(ids),
        "output": inputs.task_output.name,
        "task": bench.experiment.task.kind,
    }

    def make(folder: Path, advance: Advance) -> None:
        found = _profile(bench, inputs, calibration, split, frozenset(ids), folder, advance)
        found.save(folder / "profiles.npz")

    made = bench.artifact("profiles", title, key, make, len(ids))
    return load_profiles(made.path / "profiles.npz")


def _profile(
    bench: Workbench,
    inputs: Inputs,
    calibration: Calibration,
    split: Split,
    ids: frozenset[str],
    folder: Path,
    advance: Advance,
) -> Profiles:
    graph, output = calibration.graph, inputs.task_output.name
    taps = taps_from_tensors(graph, calibration.selection.activation_tensors)
    hidden = last_hidden(graph, output)
    read = {tap.source: tap for tap in taps}
    # A layout of the runtime's own would hide the features' axis.
    plain = {hidden.tensor: (), output: ()}
    shown = (*taps, *taps_from_tensors(graph, {*plain} - {*read}))
    found = ProfileAccumulator(tuple(tap.tensors[0] for tap in taps), calibration.amax)
    has_classes = TaskKind(bench.experiment.task.kind) is TaskKind.CLASSIFICATION
    axis = inputs.axes.outputs[output]
    with tapped_engine(bench.backend, graph, shown, folder, plain) as engine:
        for sample, batch in _alone(split, ids):
            values = {**batch.inputs, **engine.infer(batch.inputs)}
            found.add(
                sample.id,
                {tap.tensors[0]: values[tap.source] for tap in taps},
                pooled(_values_of(hidden.tensor, shown, values), hidden.axis),
                _class(values[output], axis) if has_classes else -1,
            )
            advance(1)
    return found.freeze()


def _alone(split: Split, ids: frozenset[str]) -> Iterator[tuple[Sample, Batch]]:
    """Each of the samples in a batch of its own; of a fixed size, it fills the batch."""
    for sample in split.data:
        if sample.id in ids:
            yield sample, split.stack([sample] * (split.axes.size or 1))


def _values_of(tensor: str, taps: tuple[Tap, ...], values: dict[str, Array]) -> Array:
    source = next((tap.source for tap in taps if tensor in (tap.source, *tap.tensors)), tensor)
    return values[source]


def _class(output: Array, axis: int | None) -> int:
    """The largest of one sample's scores."""
    own = np.moveaxis(output, axis, 0)[0] if axis is not None and output.ndim > 1 else output
    return int(own.ravel().argmax())
