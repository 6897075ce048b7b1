"""What remedies are fitted on: channel extremes and rows of the FP32 model, in one pass."""

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from calib.calibrators import SAFE_AMAX, StatisticsAccumulator, TensorStatistics
from calib.graph.linear import Linear
from calib.graph.load import Graph
from calib.graph.taps import Tap, sized, tapped
from calib.observe import own_positions
from calib.progress import Advance
from calib.remedies.channels import ChannelAccumulator, ChannelSample, Kept, Window
from calib.stages.inputs import Inputs
from calib.stages.padding import padded_axes
from calib.stages.panel import fitting_batches
from calib.stages.unfit import why_out_of_range, why_unfit
from calib.stages.workbench import Workbench
from data_loaders import Batch
from data_loaders.types import Array

_ROW_BYTES = 1 << 27
"""Memory for rows, of all activations together."""
_ROWS_MIN, _ROWS_MAX = 512, 4096
_ROWS_A_COLUMN = 4
_ROWS_LEAST = 64
_MOMENT_ROWS_A_COLUMN, _MOMENT_ROWS_MIN = 4, 1024
_TAP_BYTES = 1 << 25
"""Memory for the activations of one batch."""
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the pass found.

    Attributes:
        samples: by activation that a linear node reads.
        amax: the largest |x| of every other quantized activation.
        windows: by node.
        unfit: activations that INT8 cannot hold, and why.
        spans: the smallest and the largest x of what `amax` has.
    """

    samples: dict[str, ChannelSample]
    amax: dict[str, float]
    windows: dict[str, Window]
    unfit: dict[str, str] = field(default_factory=dict)
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)


def window_from_linear(linear: Linear) -> Window:
    """How the node sees its input; padding that depends on the input's size is left out."""
    return Window(linear.groups, linear.kernel, linear.strides, linear.dilations, linear.pads or ())


def fit(
    bench: Workbench,
    inputs: Inputs,
    graph: Graph,
    linears: Mapping[str, Linear],
    others: Iterable[str],
    advance: Advance,
) -> Fitted:
    """Run FP32 over the samples that are not kept aside.

    Args:
        bench: the backend.
        inputs: the calibration samples.
        graph: the FP32 model.
        linears: the nodes to fit for.
        others: further activations, whose largest |x| is wanted.
        advance: told the samples done.
    """
    windows = {node: window_from_linear(linear) for node, linear in linears.items()}
    columns = _columns(linears, windows)
    by_tensor: dict[str, list[Window]] = {}
    for tensor, window in columns:
        by_tensor.setdefault(tensor, []).append(window)
    names = list(dict.fromkeys([*by_tensor, *others]))
    rest = {n: StatisticsAccumulator(n) for n in names if n not in by_tensor}
    taps = tuple(Tap(name, (name,), _is_input(graph, name)) for name in rest)
    axes = padded_axes(bench, inputs, graph, taps) if taps else {}
    kept = _kept(columns, inputs.calibration.scan.samples)
    counters = {
        name: ChannelAccumulator({window: kept[name, window] for window in seen})
        for name, seen in by_tensor.items()
    }

    def add(name: str, batch: Batch, outputs: Mapping[str, Array]) -> None:
        array = batch.inputs[name] if name in batch.inputs else outputs[name]
        if name in counters:
            counters[name].add(batch.ids, array, batch.real)
        else:
            own = axes.get(name, ())
            rest[name].add(array, own_positions(array, batch, own), own)

    inner = [name for name in names if not _is_input(graph, name)]
    size = _batch_size(bench, inputs, graph, inner)
    shown = bench.engine(tapped(graph, inner), spinning=False)
    with shown as engine, ThreadPoolExecutor(bench.backend.threads) as pool:
        for batch in fitting_batches(inputs, size):
            outputs = engine.infer(batch.inputs)
            list(pool.map(lambda name: add(name, batch, outputs), names))  # noqa: B023 - used at once
            advance(len(batch))
    others_found = {name: counter.freeze() for name, counter in rest.items()}
    unfit = {name: why for name, seen in others_found.items() if (why := why_unfit(seen))}
    unfit |= {n: why for n, c in counters.items() if (why := why_out_of_range(*c.extremes))}
    # Each is let go as soon as its rows are put together, so that they are not there twice.
    found = {name: counters.pop(name).freeze() for name in list(counters)}
    return _fitted(found, others_found, windows, unfit)


def _fitted(
    found: Mapping[str, ChannelSample | None],
    others: Mapping[str, TensorStatistics],
    windows: dict[str, Window],
    unfit: dict[str, str],
) -> Fitted:
    empty = {name: SAFE_AMAX for name, sample in found.items() if sample is None}
    return Fitted(
        {name: sample for name, sample in found.items() if sample is not None},
        {**empty, **{name: seen.amax or SAFE_AMAX for name, seen in others.items()}},
        windows,
        unfit,
        {n: (s.minimum, s.maximum) for n, s in others.items() if s.count and n not in unfit},
    )


def _columns(
    linears: Mapping[str, Linear], windows: Mapping[str, Window]
) -> dict[tuple[str, Window], tuple[int, int]]:
    """By activation and window: its columns, and those of one group."""
    found = {}
    for node, linear in linears.items():
        width = linear.channels * linear.taps
        found[linear.tensor, windows[node]] = width, width // linear.groups
    return found


def _kept(
    columns: Mapping[tuple[str, Window], tuple[int, int]], samples: int
) -> dict[tuple[str, Window], Kept]:
    """What to keep of a sample: more rows where a group has more columns, all within the memory.

    Args:
        columns: by activation and window, its columns and those of one group.
        samples: that share the rows.
    """
    each = 1 / max(samples, 1)
    wanted = {
        key: min(max(_ROWS_A_COLUMN * group, _ROWS_MIN), _ROWS_MAX)
        for key, (_, group) in columns.items()
    }
    need = sum(wanted[key] * width * _FLOAT_BYTES for key, (width, _) in columns.items())
    share = min(1.0, _ROW_BYTES / max(need, 1))
    return {
        key: Kept(
            max(wanted[key] * share, _ROWS_LEAST) * each,
            # The few columns of a depthwise convolution's group have rows enough.
            max(_MOMENT_ROWS_A_COLUMN * group, _MOMENT_ROWS_MIN) * each if group == width else 0.0,
        )
        for key, (width, group) in columns.items()
    }


def _is_input(graph: Graph, name: str) -> bool:
    return any(value.name == name for value in graph.graph.inputs)


def _batch_size(bench: Workbench, inputs: Inputs, graph: Graph, inner: list[str]) -> int:
    """The samples whose observed activations fit the memory, at most the config's."""
    if not inner:
        return inputs.calibration.batch_size
    first = next(fitting_batches(inputs, 1))
    with bench.engine(sized(graph, inner), spinning=False) as engine:
        shapes = engine.infer(first.inputs).values()
        need = sum(math.prod(shape.tolist()) for shape in shapes) * _FLOAT_BYTES
    return max(1, min(inputs.calibration.batch_size, _TAP_BYTES // max(int(need), 1)))
