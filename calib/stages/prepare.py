"""The graph that INT8 is made from: the model's own, or that rewritten by remedies."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from calib.calibrators import TensorStatistics
from calib.graph.fold import fold_batchnorm
from calib.graph.load import Graph
from calib.graph.qdq import Corrections
from calib.graph.select import Selection, select
from calib.stages.improve import Remedied, improved
from calib.stages.inputs import Inputs
from calib.stages.unfit import floats_from, why_unfit
from calib.stages.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is calibrated.

    Attributes:
        plain: the FP32 graph, BatchNormalization folded in.
        graph: what INT8 is made from.
        selection: what of it becomes INT8.
        corrections: of weights and biases.
        amax: thresholds that no calibrator may change.
        remedied: what remedies did, if they were asked for.
    """

    plain: Graph
    graph: Graph
    selection: Selection
    corrections: Corrections = field(default_factory=Corrections)
    amax: Mapping[str, float] = field(default_factory=dict)
    remedied: Remedied | None = None


def prepared(bench: Workbench, inputs: Inputs) -> Prepared:
    """Fold, select, and apply remedies where the config asks for them.

    Raises:
        ModelError: if nothing can be quantized.
    """
    graph = inputs.model.graph
    if bench.experiment.engines.fold_batchnorm:
        graph = fold_batchnorm(graph)
    spec = bench.experiment.quantization
    selection = select(graph, spec)
    if spec.remedies == "none":
        return Prepared(graph, graph, selection)
    found = improved(bench, inputs, graph, selection)
    return Prepared(graph, found.graph, found.selection, found.corrections, found.amax, found)


def without_unfit(
    bench: Workbench, ready: Prepared, statistics: Mapping[str, TensorStatistics]
) -> Prepared:
    """The same with the nodes in float that read what INT8 cannot hold.

    Args:
        bench: the config.
        ready: what was observed.
        statistics: of its selected activations at least.

    Raises:
        ModelError: if that leaves nothing to quantize.
    """
    tensors = ready.selection.activation_tensors
    found = {name: why for name in tensors if (why := why_unfit(statistics[name]))}
    if not found:
        return ready
    earlier = ready.remedied.floats if ready.remedied else {}
    floats = {**earlier, **floats_from(ready.selection, found)}
    selection = select(ready.graph, bench.experiment.quantization, floats)
    return replace(ready, selection=selection)
