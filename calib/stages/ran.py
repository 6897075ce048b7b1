"""What ONNX Runtime really runs of a candidate. It is read once, then kept."""

from pathlib import Path

from calib.backends.precision import int8_macs_pct
from calib.engine_record import RanRecord
from calib.environment import environment_record
from calib.errors import BackendError
from calib.graph.optimized import kernel_counts, operators, read_optimized, work_counts
from calib.graph.ran import node_runs
from calib.graph.read import read_graph
from calib.progress import Advance
from calib.record import Precision
from calib.stages.calibrate import Candidate
from calib.stages.engines import engine_profile
from calib.stages.inputs import Inputs
from calib.stages.workbench import Workbench
from calib.store import write_atomically


def what_ran(bench: Workbench, inputs: Inputs, candidate: Candidate) -> RanRecord | None:
    """The operators of a candidate's optimized graph, and what each of its nodes ran in.

    None for FP32, and where TensorRT engines are built: those tell of themselves. A runtime that
    cannot write what it made of the model leaves the record empty, with the reason.
    """
    if bench.builder is not None or candidate.precision is Precision.FP32:
        return None
    ranks = {spec.name: len(spec.shape) for spec in inputs.model.record.inputs}
    profile = engine_profile(bench, inputs)
    shapes = {name: of[1] for name, of in profile.items() if len(of[1]) == ranks[name]}
    key = {
        "engine": candidate.digest,
        "file": candidate.runs.name,
        "backend": bench.backend.describe(),
        "machine": environment_record(bench.backend).hostname_sha256,
        "shapes": shapes,
    }

    def make(folder: Path, _: Advance) -> None:
        optimized = folder / "optimized.onnx"
        bench.backend.write_structure(candidate.runs, optimized)
        record = _record(candidate.runs, optimized, shapes)
        optimized.unlink()
        write_atomically(folder / "ran.json", record.model_dump_json())

    try:
        found = bench.artifact("ran", f"what ran of {candidate.name}", key, make)
    except BackendError as error:
        return RanRecord(
            operators={},
            kernels={},
            nodes=(),
            int8_macs_pct=None,
            asked_int8_macs_pct=None,
            problem=str(error),
        )
    return RanRecord.model_validate_json((found.path / "ran.json").read_bytes())


def _record(given: Path, optimized: Path, shapes: dict[str, tuple[int, ...]]) -> RanRecord:
    found = operators(read_optimized(optimized))
    runs = node_runs(read_graph(given), found, shapes)
    asked = (node.model_copy(update={"ran": node.asked}) for node in runs.nodes)
    return RanRecord(
        operators=work_counts(found),
        kernels=kernel_counts(found),
        nodes=runs.nodes,
        int8_macs_pct=int8_macs_pct(runs.nodes),
        asked_int8_macs_pct=int8_macs_pct(asked),
        uncounted=runs.uncounted,
    )
