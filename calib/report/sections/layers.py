"""How far each tensor is from FP32's, what was asked of it and what it got, and the engines."""

from collections.abc import Iterable
from typing import Any

from calib.engine_record import EngineRecord, NodePrecision
from calib.report.grid import Cell, Column, Row, Table, figure, fixed
from calib.report.page import Context, Page
from calib.report.plots import layers_plot
from calib.report.tables import nodes_that_ran
from calib.report.words import NOTHING, anchor, megabytes, number
from calib.results import CandidateRecord, RunResult, TensorError

_WORST = 10
_ENGINES = (
    Column("Candidate"),
    Column("Target"),
    Column("INT8, % of MACs", numeric=True),
    Column("Asked for INT8, got other", numeric=True),
    Column("Weights, MB", numeric=True),
    Column("Activations, MB", numeric=True),
    Column("Plan, MB", numeric=True),
    Column("Build, s", numeric=True),
    Column("Ran here"),
)
_DEMOTED = (
    Column("Node", name=True),
    Column("Operator"),
    Column("Ran in"),
    Column("MMACs", numeric=True),
    Column("Likely cause"),
)


def context(page: Page) -> Context:
    """See `Section.context`."""
    shown = page.shown
    engines = [(c.name, engine) for c in page.result.candidates for engine in c.engines]
    built: Context = {
        "engines": engines,
        "engines_table": _engines(page.result, engines),
        "demoted": [
            (f"{name}, {e.target}", _demoted(k, name, e))
            for k, (name, e) in enumerate(engines)
            if e.demoted
        ],
        "engine_layers": [
            (f"{name}, {e.target}", _engine_layers(k, e))
            for k, (name, e) in enumerate(engines)
            if name == shown.name
        ],
    }
    return {
        **built,
        "outputs": _errors("outputs-table", f"Outputs of {shown.name}", shown, shown.outputs),
        "layers": _errors("layers-table", f"Tensors of {shown.name}", shown, shown.layers),
        "layers_plot": layers_plot(page.result),
        "data": {"depth": _depth(page.result, shown)} if shown.layers else {},
    }


def _errors(
    name: str, caption: str, shown: CandidateRecord, errors: Iterable[TensorError]
) -> Table:
    errors = tuple(errors)
    nodes = {n.node: n for n in nodes_that_ran(shown)}
    ranked = sorted((e for e in errors if e.sqnr_db is not None), key=lambda e: e.sqnr_db or 0.0)
    worst = frozenset(e.tensor for e in ranked[:_WORST]) if len(errors) > _WORST else frozenset()
    columns = (
        Column("Tensor", name=True),
        Column("Operator", choice=True),
        Column("Asked", choice=True),
        *((Column("Got", choice=True),) if nodes else ()),
        Column("SQNR, dB", numeric=True),
        Column("Cosine", numeric=True),
        Column("Max error", numeric=True),
        Column("Relative L2", numeric=True),
    )
    rows = tuple(_error_row(e, nodes, e.tensor in worst) for e in errors)
    return Table(name, caption, columns, rows, interactive=True)


def _error_row(error: TensorError, nodes: dict[str, NodePrecision], is_worst: bool) -> Row:
    left_out = f"{error.left_out:,} values not compared: not finite, or a mask, in FP32"
    unlike = f"another shape than FP32's in {error.unlike_batches} batches"
    notes = [left_out] * (error.left_out > 0) + [unlike] * (error.unlike_batches > 0)
    return Row(
        id=anchor("layer", error.tensor),
        mark="worst" if is_worst else "",
        cells=(
            Cell(
                f"▼ {error.tensor}" if is_worst else error.tensor,
                notes=tuple(notes),
            ),
            Cell(error.op_type),
            Cell("INT8" if error.quantized else "float"),
            *((_got(nodes.get(error.node)),) if nodes else ()),
            _sqnr(error),
            figure(error.cosine, 6),
            figure(error.max_abs, 3),
            figure(error.relative_l2, 3),
        ),
    )


def _sqnr(error: TensorError) -> Cell:
    if error.sqnr_db is None:
        return Cell("exact", float("inf")) if error.samples else Cell(NOTHING)
    return figure(error.sqnr_db)


def _got(node: NodePrecision | None) -> Cell:
    """What the node ran in; marked where that is not what was asked for."""
    if node is None:
        return Cell("")
    ran = node.ran or "?"
    return Cell(f"⚠ {ran}", tag="no_evidence") if node.is_demoted else Cell(ran)


def _depth(result: RunResult, shown: CandidateRecord) -> dict[str, Any]:
    """Error along the depth: of each candidate in the order of the shown one's tensors."""
    tensors = [e.tensor for e in shown.layers]
    series = []
    for candidate in result.candidates:
        if candidate.layers:
            found = {e.tensor: e.sqnr_db for e in candidate.layers}
            values = [_finite(found.get(name)) for name in tensors]
            series.append({"name": candidate.name, "values": values})
    return {"tensors": tensors, "ids": [anchor("layer", t) for t in tensors], "series": series}


def _finite(value: float | None) -> float | None:
    return None if value is None or abs(value) == float("inf") else round(value, 2)


def _engines(result: RunResult, engines: list[tuple[str, EngineRecord]]) -> Table:
    rows = (
        Row(
            mark="chosen" if name == result.verdict.chosen else "",
            cells=(
                Cell(name),
                Cell(e.target),
                figure(e.int8_macs_pct),
                figure(len(e.demoted)),
                Cell(megabytes(e.weights_bytes)),
                Cell(megabytes(e.activation_bytes)),
                Cell(megabytes(e.plan_bytes)),
                fixed(e.seconds, "%.1f"),
                Cell("yes" if e.ran_here else "no"),
            ),
        )
        for name, e in engines
    )
    return Table("engines-table", "Engines by candidate and target", _ENGINES, tuple(rows))


def _demoted(place: int, name: str, engine: EngineRecord) -> Table:
    rows = (
        Row(
            (
                Cell(n.node),
                Cell(n.op_type),
                Cell(n.ran or "?"),
                figure(None if n.macs is None else n.macs / 1e6),
                Cell(n.cause),
            )
        )
        for n in engine.demoted
    )
    caption = f"{name}, {engine.target}: asked for INT8, ran in something else"
    return Table(f"demoted-{place}", caption, _DEMOTED, tuple(rows))


def _engine_layers(place: int, engine: EngineRecord) -> Table:
    times = engine.layer_times_ms
    rows = (
        Row(
            (
                Cell(layer.name),
                Cell(layer.kind),
                Cell(layer.precision),
                *((figure(times.get(layer.name), 3),) if times else ()),
                Cell(", ".join(layer.nodes)),
            )
        )
        for layer in engine.layers
    )
    columns = (
        Column("Layer", name=True),
        Column("Kind", choice=True),
        Column("Precision", choice=True),
        *((Column("ms", numeric=True),) if times else ()),
        Column("Nodes", name=True),
    )
    caption = f"{number(len(engine.layers))} engine layers and the ONNX nodes in them"
    return Table(f"engine-layers-{place}", caption, columns, tuple(rows), interactive=True)
