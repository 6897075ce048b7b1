"""What a run keeps of what it made."""

import io
import re
import zipfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from calib.deployment import write_deployment
from calib.results import Precision, RunResult
from calib.stages.calibrate import TWIN_NAME, Calibration, Candidate
from calib.stages.engine_runs import BuiltEngine
from calib.stages.inputs import Inputs
from calib.stages.pinned import pinned
from calib.stages.workbench import Workbench
from calib.store import place, write_atomically
from data_loaders import Batch
from data_loaders.types import Array

WARMUP_NAME = "warmup.npz"
_WARMUP_BYTES = 16 * 2**20


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


def keep_engines(candidate: str, engines: tuple[BuiltEngine, ...], folder: Path) -> None:
    """Put a candidate's engines beside its model, `<target>.plan`, each with what it was built for.

    Args:
        candidate: its name.
        engines: one for each target.
        folder: the run's.
    """
    for engine in engines:
        name = re.sub(r"[^\w.-]", "_", engine.record.target)
        for suffix in (".plan", ".json"):
            target = folder / "models" / candidate / f"{name}{suffix}"
            place(engine.plan.with_suffix(suffix), target)


def keep_deployment(
    bench: Workbench,
    inputs: Inputs,
    candidates: tuple[Candidate, ...],
    result: RunResult,
    folder: Path,
) -> None:
    """Beside each INT8 model: what serves it as it was measured."""
    keep_sessions(bench, candidates, result, folder)
    keep_warmup(bench, inputs, candidates, result, folder)


def keep_warmup(
    bench: Workbench,
    inputs: Inputs,
    candidates: tuple[Candidate, ...],
    result: RunResult,
    folder: Path,
) -> None:
    """Beside each INT8 model: a batch of calibration samples to warm it up with, if they may be.

    An .npz with the inputs by name, as the model takes them. The batch is the first one, no larger
    than the largest that was timed; one sample where it would be more than 16 MiB.
    """
    if not bench.experiment.output.keep_warmup:
        return
    for candidate in candidates:
        if candidate.precision is not Precision.INT8:
            continue
        timed = result.candidate(candidate.name).latency_at()
        size = inputs.calibration.batch_size
        batch = _warmup_batch(inputs, size if timed is None else min(size, timed.batch_size))
        if batch is not None:
            write_atomically(folder / "models" / candidate.name / WARMUP_NAME, _npz(batch.inputs))


def _warmup_batch(inputs: Inputs, size: int) -> Batch | None:
    """The first samples, as many as asked or as the model takes; None if there are too few."""
    split, fixed = inputs.calibration, inputs.axes.size
    batch = split.stack(list(islice(split.data, fixed or size)))
    if fixed is not None and len(batch) != fixed:
        return None
    if fixed is None and sum(array.nbytes for array in batch.inputs.values()) > _WARMUP_BYTES:
        batch = split.stack(list(islice(split.data, 1)))
    return batch


def _npz(arrays: Mapping[str, Array]) -> bytes:
    """Arrays by name; `np.savez` has no room for one that is called `file`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


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
