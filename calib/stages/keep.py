"""What a run keeps of what it made."""

from pathlib import Path

from calib.deployment import write_deployment
from calib.results import Precision, RunResult
from calib.stages.calibrate import TWIN_NAME, Calibration, Candidate
from calib.stages.pinned import pinned
from calib.stages.workbench import Workbench
from calib.store import place, write_atomically


def keep_models(candidates: tuple[Candidate, ...], calibration: Calibration, folder: Path) -> None:
    """Put the models, their scales and the statistics into the run's folder."""
    for candidate in candidates:
        if candidate.precision is Precision.FP32:
            continue
        for pattern in ("model.onnx*", f"{TWIN_NAME}*", "scales.json"):
            for part in candidate.path.parent.glob(pattern):
                place(part, folder / "models" / candidate.name / part.name)
    place(calibration.statistics_file, folder / "statistics.npz")
    if calibration.remedied is not None:
        write_atomically(folder / "quantization.yaml", pinned(calibration.remedied))
        for part in calibration.remedied.path.parent.glob("rewritten.onnx*"):
            place(
                part, folder / "models" / "rewritten" / part.name.replace("rewritten", "model", 1)
            )


def keep_sessions(
    bench: Workbench,
    candidates: tuple[Candidate, ...],
    result: RunResult,
    folder: Path,
) -> None:
    """Beside each INT8 model that ONNX Runtime ran: how."""
    dtypes = {spec.name: spec.dtype for spec in result.model.inputs}
    for candidate in candidates:
        timed = result.candidate(candidate.name).latency_at()
        if candidate.precision is not Precision.INT8 or bench.builder is not None or timed is None:
            continue
        write_deployment(
            folder / "models" / candidate.name,
            candidate.runs.name,
            bench.backend.with_threads(timed.threads).session_settings(),
            {name: (dtypes[name], shape) for name, shape in timed.shapes.items()},
        )
