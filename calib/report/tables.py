"""The CSV files of a run."""

from pathlib import Path

import pandas as pd

from calib.engine_record import NodePrecision
from calib.results import CandidateRecord, RunResult, SensitivityRecord
from calib.store import write_atomically

_INT8_MAX = 127
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def safe_text(text: str) -> str:
    """Text that a spreadsheet will not take for a formula; numbers are left as they are."""
    if not text.startswith(_FORMULA_STARTS) or _is_number(text):
        return text
    return f"'{text}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_layers_csv(result: RunResult, path: Path) -> None:
    """A line for each candidate and tensor, in graph order, and what the engine ran it in."""
    rows = []
    for candidate in result.candidates:
        ran = {node.node: node.ran for node in nodes_that_ran(candidate)}
        for error in (*candidate.layers, *candidate.outputs):
            row = {"candidate": candidate.name, **error.model_dump()}
            rows.append({**row, "ran_in": ran.get(error.node)})
    frame = pd.DataFrame(rows)
    for name in ("tensor", "node"):
        if name in frame:
            frame[name] = frame[name].map(safe_text)
    frame.to_csv(path, index=False)


def nodes_that_ran(candidate: CandidateRecord) -> tuple[NodePrecision, ...]:
    """What each weighted node ran in: on the first target, or on ONNX Runtime."""
    if candidate.engines:
        return candidate.engines[0].nodes
    return candidate.ran.nodes if candidate.ran is not None else ()


def write_ran_csv(result: RunResult, path: Path) -> None:
    """A line for each candidate and node: what it was asked to run in, and what it ran in."""
    rows = []
    for candidate in result.candidates:
        nodes = nodes_that_ran(candidate)
        total = sum(node.macs or 0 for node in nodes)
        for node in nodes:
            share = None if node.macs is None or not total else 100 * node.macs / total
            names = {"node": safe_text(node.node), "engine_layer": safe_text(node.engine_layer)}
            row = {"candidate": candidate.name, **node.model_dump(), **names}
            rows.append({**row, "macs_pct": share})
    columns = ["candidate", *NodePrecision.model_fields, "macs_pct"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)


def write_thresholds_csv(result: RunResult, path: Path) -> None:
    """A line for each calibrator and activation: its threshold, scale and how it came about."""
    rows = [
        {
            "calibrator": name,
            "tensor": safe_text(a.tensor),
            "amax": a.amax[name],
            "scale": a.amax[name] / _INT8_MAX,
            "clipped_pct": a.clipped_pct[name],
            "standard_error_pct": a.standard_error_pct.get(name),
            "enough": a.enough.get(name),
            "chosen": a.chosen.get(name),
            "fallback": a.fallback.get(name),
            "growth": " ".join(f"{value:.6g}" for value in a.growth.get(name, ())),
        }
        for name in result.calibration.calibrators
        for a in result.calibration.activations
    ]
    pd.DataFrame(rows).to_csv(path, index=False)


def write_sensitivity(found: SensitivityRecord, path: Path) -> None:
    """A line for each group, in graph order.

    Raises:
        StoreError: if the file cannot be written.
    """
    rows = [
        {
            **group.model_dump(),
            "name": safe_text(group.name),
            "nodes": safe_text(" ".join(group.nodes)),
            "widest_channels": " ".join(map(str, group.widest_channels)),
        }
        for group in found.groups
    ]
    write_atomically(path, pd.DataFrame(rows).to_csv(index=False))
