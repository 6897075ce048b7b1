"""The graph that INT8 is made from: the model's own, or that rewritten by remedies."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from calib.graph.fold import fold_batchnorm
from calib.graph.load import Graph
from calib.graph.qdq import Corrections
from calib.graph.select import Selection, select
from calib.stages.improve import Remedied, improved
from calib.stages.inputs import Inputs
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
