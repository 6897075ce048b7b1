"""Which axes of inner tensors are padded, told from the shapes that they have."""

import numpy as np

from calib.graph.load import Graph
from calib.graph.taps import Tap, sized
from calib.observe import LengthAxes, length_axes
from calib.stages.inputs import Inputs
from calib.stages.workbench import Workbench
from data_loaders import Batch
from data_loaders.types import Array


def padded_axes(
    bench: Workbench, inputs: Inputs, graph: Graph, taps: tuple[Tap, ...]
) -> LengthAxes:
    """The axes of the taps that are padded, from the shapes of two samples of unlike length."""
    if not bench.experiment.calibration.ignore_padding:
        return {}
    lengths = [axes[0] for axes in inputs.calibration.scan.shapes.values() if len(axes) == 1]
    if all(shortest == longest for shortest, _, longest in lengths):
        return {}
    padded = next((b for b in inputs.calibration.batches() if b.real is not None), None)
    if padded is None or padded.real is None:
        return {}
    lengths = padded.real.sum(axis=1)
    order = lengths.argsort(kind="stable")
    pair = [inputs.calibration.stack([padded.samples[order[k]]]) for k in (0, -1)]
    inner = [tap.source for tap in taps if not tap.is_input]
    outer = [tap.source for tap in taps if tap.is_input]
    short, long = (
        {**shapes, **{name: np.array(batch.inputs[name].shape) for name in outer}}
        for batch, shapes in zip(pair, shapes_by_batch(bench, graph, inner, pair), strict=True)
    )
    return length_axes((int(lengths[order[0]]), int(lengths[order[-1]])), (short, long))


def shapes_by_batch(
    bench: Workbench, graph: Graph, tensors: list[str], batches: list[Batch]
) -> list[dict[str, Array]]:
    """The shapes of these tensors in each batch, int64 (rank,), without keeping their values."""
    with bench.engine(sized(graph, tensors), spinning=False) as engine:
        found = [engine.infer(batch.inputs).values() for batch in batches]
    return [dict(zip(tensors, shapes, strict=True)) for shapes in found]
