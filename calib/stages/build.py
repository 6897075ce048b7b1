"""From a choice of remedies to an INT8 model: the FP32 graph rewritten, weights rounded."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from calib.graph.absorb import absorb
from calib.graph.bias import takes_bias
from calib.graph.channel_affine import ChannelAffine, apply_affines
from calib.graph.linear import Linear
from calib.graph.load import Graph
from calib.graph.native import Range, insert_native_qdq, native_tensors, rounded_twice
from calib.graph.qdq import Corrections, QuantizedWeight, insert_qdq
from calib.graph.select import Selection, select
from calib.graph.selection_spec import SelectionSpec
from calib.remedies.bias_correction import bias_shift
from calib.remedies.quantized_input import Equalized, Reader, quantized_rows, scaled_weight
from calib.stages.codes import Rounding, rounded
from calib.stages.fit import Fitted
from calib.stages.native import ranges_from

_SIDE = "the few channels of an activation that go past its quantizer"


@dataclass(frozen=True, slots=True)
class Source:
    """The FP32 model, and what was seen of it.

    Attributes:
        graph: with BatchNormalization folded in.
        spec: which tensors may become INT8.
        selection: of this graph.
        linears: the selected nodes that remedies can treat.
        fitted: what remedies are fitted on.
        threads: how many nodes are treated at once.
        kept: tensors that variants are compared by: they keep their names and values.
        unfit: nodes that cannot be in INT8 and are not in `selection`, and why.
    """

    graph: Graph
    spec: SelectionSpec
    selection: Selection
    linears: Mapping[str, Linear]
    fitted: Fitted
    threads: int = 1
    kept: frozenset[str] = frozenset()
    unfit: Mapping[str, str] = field(default_factory=dict)

    def readers(self, tensor: str) -> dict[str, Reader]:
        """What the linear nodes that read a tensor are, by name."""
        return {
            linear.node: reader_from(self, linear)
            for linear in self.linears.values()
            if linear.tensor == tensor
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done.

    Attributes:
        equalized: by activation that linear nodes read.
        floats: nodes left in float, and why.
        rounding: of the weights.
        correct_bias: whether the mean error is taken off each output channel.
    """

    equalized: Mapping[str, Equalized]
    floats: Mapping[str, str] = field(default_factory=dict)
    rounding: Rounding = "nearest"
    correct_bias: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """A plan carried out.

    Attributes:
        graph: the FP32 model rewritten; equal to the source's within float rounding.
        selection: of that graph.
        amax: threshold by activation; those of `aligned` belong to a shift.
        aligned: activations whose threshold must stay.
        corrections: of weights and biases.
        floats: nodes that `selection` leaves in float beyond the config's rules, and why.
        found: the corrections before weights took up factors of what reads them; they hold for
            the same plan with more nodes in float.
        limit: the largest code of a weight.
        ranges: of the native layout: (minimum, maximum) by activation; None for TensorRT's.
    """

    graph: Graph
    selection: Selection
    amax: dict[str, float]
    aligned: frozenset[str]
    corrections: Corrections
    floats: Mapping[str, str]
    found: Corrections
    limit: int
    ranges: Mapping[str, Range] | None = None

    def int8(self) -> Graph:
        """The INT8 model in the layout that was asked for."""
        if self.ranges is not None:
            return insert_native_qdq(
                self.graph, self.selection, self.ranges, self.corrections, limit=self.limit
            )
        return insert_qdq(self.graph, self.selection, self.amax, self.corrections)


def reader_from(source: Source, linear: Linear) -> Reader:
    """The node's weight and what it reads."""
    weight = linear.matrices(weight_of(source.graph, linear))
    rows = source.fitted.samples[linear.tensor].rows[source.fitted.windows[linear.node]]
    return Reader(weight, rows, linear.taps, source.spec.weight_limit)


def weight_of(graph: Graph, linear: Linear) -> NDArray[np.float32]:
    """The weight's values."""
    constant = graph.graph.initializers[linear.weight].const_value
    if constant is None:
        raise AssertionError("a linear node has a constant weight")
    return constant.numpy()


def biased(graph: Graph) -> frozenset[str]:
    """Nodes whose bias can be added to."""
    return frozenset(str(node.name) for node in graph.graph if takes_bias(node))


def build(source: Source, plan: Plan, known: Corrections | None = None) -> Built:
    """Carry out a plan.

    Args:
        source: what it is for.
        plan: what to do.
        known: the corrections of the same plan with fewer nodes in float, not to find them again.
    """
    treated = _treated(source, plan)
    graph, renamed, scaled = _rewritten(source, plan, treated)
    beside = [f"{linear.node}_{name}" for linear in treated for name in ("side", "with_side")]
    present = {str(node.name) for node in graph.graph}
    sides = {name: _SIDE for name in beside if name in present}
    floats = {**sides, **source.unfit, **plan.floats}
    selection = select(graph, source.spec, floats)
    changed = {t: c for t, c in plan.equalized.items() if c.exponent is not None}
    amax = {**source.fitted.amax, **{t: _largest(source, t) for t in source.fitted.samples}}
    amax.update({renamed[t]: c.amax for t, c in changed.items() if t in renamed})
    aligned = {renamed[t] for t, c in changed.items() if t in renamed and c.offset is not None}
    found = _without(known, plan.floats) if known else _corrections(source, plan, treated)
    corrections = _scaled(found, scaled)
    limit = source.spec.weight_limit
    native = source.spec.layout == "native"
    ranges = ranges_from(source.fitted, plan.equalized, renamed, amax) if native else None
    return Built(
        graph, selection, amax, frozenset(aligned), corrections, floats, found, limit, ranges
    )


def settled(source: Source, plan: Plan, plain: Mapping[str, Equalized]) -> Plan:
    """The plan without the factors and shifts that a native model would round twice for.

    Args:
        source: what it is for.
        plan: with nothing in float by choice.
        plain: each activation left as it is.
    """
    if source.spec.layout != "native":
        return plan
    graph, renamed, _ = _rewritten(source, plan, _treated(source, plan))
    left = rounded_twice(graph, select(graph, source.spec, source.unfit), renamed)
    return replace(plan, equalized={**plan.equalized, **{t: plain[t] for t in left}})


def _treated(source: Source, plan: Plan) -> list[Linear]:
    return [linear for node, linear in source.linears.items() if node not in plan.floats]


def _rewritten(
    source: Source, plan: Plan, treated: list[Linear]
) -> tuple[Graph, Mapping[str, str], Mapping[str, NDArray[np.float64]]]:
    """The FP32 model, activations' new names by the old ones, factors that weights took up."""
    changed = {t: c for t, c in plan.equalized.items() if c.exponent is not None}
    affines = {t: ChannelAffine(c.gain, c.offset, c.side) for t, c in changed.items()}
    graph, renamed = apply_affines(source.graph, treated, affines)
    sites = source.selection.activations
    quantized = {site.tensor for site in sites if site.node not in plan.floats}
    native = source.spec.layout == "native"
    if native:
        # What integer nodes make has a range that was seen.
        made = native_tensors(source.graph, source.selection)
        quantized |= {*made} - source.fitted.samples.keys()
    fixed = (quantized - renamed.keys()) | source.kept
    scaled = absorb(graph, renamed.values(), fixed, keep_scalars=native)
    return graph, renamed, scaled


def _scaled(corrections: Corrections, factors: Mapping[str, NDArray[np.float64]]) -> Corrections:
    """The same codes for weights whose output channels were scaled."""
    weights = dict(corrections.weights)
    for node in weights.keys() & factors.keys():
        steps = (weights[node].scales * factors[node]).astype(np.float32)
        weights[node] = replace(weights[node], scales=steps)
    bias = {n: delta * factors.get(n, 1.0) for n, delta in corrections.bias.items()}
    return Corrections(weights, bias)


def _without(corrections: Corrections, floats: Mapping[str, str]) -> Corrections:
    return Corrections(
        {node: value for node, value in corrections.weights.items() if node not in floats},
        {node: value for node, value in corrections.bias.items() if node not in floats},
    )


def _largest(source: Source, tensor: str) -> float:
    sample = source.fitted.samples[tensor]
    return float(max(abs(sample.low).max(), abs(sample.high).max())) or 1.0


def _corrections(source: Source, plan: Plan, treated: list[Linear]) -> Corrections:
    addable = biased(source.graph)
    chosen = [linear for linear in treated if linear.tensor in plan.equalized]
    with ThreadPoolExecutor(source.threads) as pool:
        found = list(pool.map(lambda linear: _corrected(source, plan, linear, addable), chosen))
    pairs = list(zip(chosen, found, strict=True))
    return Corrections(
        {linear.node: weight for linear, (weight, _) in pairs if weight is not None},
        {linear.node: delta for linear, (_, delta) in pairs if delta is not None},
    )


def _corrected(
    source: Source, plan: Plan, linear: Linear, addable: frozenset[str]
) -> tuple[QuantizedWeight | None, NDArray[np.float64] | None]:
    """A node's codes, if not the nearest, and what its bias needs, if anything."""
    choice = plan.equalized[linear.tensor]
    reader = reader_from(source, linear)
    sample = source.fitted.samples[linear.tensor]
    covariance = sample.covariances.get(source.fitted.windows[linear.node])
    codes, scales = rounded(reader, choice, plan.rounding, covariance)
    weight = None
    if plan.rounding != "nearest":
        flat = codes.reshape(linear.outputs, -1)
        weight = QuantizedWeight(linear.from_matrices(flat), scales)
    if linear.node not in addable or not (plan.correct_bias or choice.offset is not None):
        return weight, None
    return weight, _bias(reader, choice, codes, scales, measured=plan.correct_bias)


def _bias(
    reader: Reader,
    choice: Equalized,
    codes: NDArray[np.int8],
    scales: NDArray[np.float32],
    *,
    measured: bool,
) -> NDArray[np.float64]:
    """What is added to the bias, float64 (outputs,).

    Not measured: only what rounding the weights does to the shift.
    """
    weight = scaled_weight(reader, choice)
    steps = scales.astype(np.float64).reshape(*codes.shape[:2], 1)
    values = codes * steps
    if measured:
        moved, inputs = quantized_rows(reader, choice)
        means = [rows.mean(axis=1, dtype=np.float64) for rows in (moved, inputs)]
    else:
        offset = np.zeros(len(choice.gain)) if choice.offset is None else choice.offset
        column = reader.by_column(offset).astype(np.float64)[:, 0]
        means = [column, column]
    groups = zip(weight, values, *means, strict=True)
    return np.concatenate([bias_shift(w, v, x, q) for w, v, x, q in groups])
