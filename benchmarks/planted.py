"""Failures put there on purpose, in the text-line example: does the tail or the audit name them?

1 % of the validation lines are of a kind that calibration never saw, or have one channel wrongly
preprocessed; one activation has a tenth of its scale; one class is broken by another. `--check`
exits with 1 if one is missed. Prints its figures as the last line.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq

from calib.config import Experiment, load_experiment
from calib.pipeline import FinishedRun, run_experiment
from calib.progress import Silent
from calib.results import AuditFinding, AuditRecord
from calib.stages.audit import run_audit
from data_loaders.types import Sample
from examples.textline import samples as plain

ROOT = Path(__file__).parent.parent
_COUNT = 1000
_CALIBRATION = 384
_EVERY = 100
_SCALED = 3
"""How many activations get a tenth of their scale, each in an audit of its own."""

Plant = Literal["", "outliers", "channel"]


def samples(
    split: Literal["calibration", "validation"], count: int, plant: Plant
) -> Iterator[Sample]:
    """The example's lines, 1 % of the validation lines spoilt."""
    for index, sample in enumerate(plain(split, count)):
        spoilt = plant and split == "validation" and index % _EVERY == 7
        yield _spoilt(sample, plant) if spoilt else sample


def _spoilt(sample: Sample, plant: Plant) -> Sample:
    x = sample.inputs["x"].copy()
    metadata = dict(sample.metadata)
    if plant == "channel":
        x[1] = (x[1] * 0.5 + 0.5) * 255  # never scaled
    else:
        x *= 6  # as a sensor of a wider range gives it
        metadata["quality"] = "overexposed"
    return replace(sample, inputs={"x": x}, metadata=metadata)


def _experiment(
    folder: Path, name: str, plant: Plant, calibrator: str = "{kind: minmax}"
) -> Experiment:
    data = [
        f"data.{split}={{kind: python, entry: 'benchmarks.planted:samples', classes: [upright, "
        f"turned], args: {{split: {split}, count: {count}, plant: '{plant}'}}}}"
        for split, count in (("calibration", _CALIBRATION), ("validation", _COUNT))
    ]
    settings = [
        f"name={name}",
        *data,
        f"calibration.calibrators=[{calibrator}]",
        "engines.fp16=false",
        "analysis.layer_samples=0",
        "analysis.audit_samples=128",
        "throughput.batch_sizes=[]",
        f"output.reports={folder}",
        f"output.store={folder / 'store'}",
        "limits={}",
    ]
    return load_experiment(ROOT / "configs/textline_int8.yaml", settings)


def _top(run: FinishedRun) -> list[dict[str, Any]]:
    """The worst per cent of INT8's samples."""
    rows = pq.read_table(run.directory / "samples.parquet").to_pylist()
    own = [row for row in rows if row["candidate"].startswith("int8")]
    return sorted(own, key=lambda row: row["rank"])[: _COUNT // _EVERY]


def _findings(record: AuditRecord | None) -> tuple[AuditFinding, ...]:
    return record.findings if record else ()


def _spoilt_share(run: FinishedRun) -> float:
    hits = [int(row["id"].split("-")[1]) % _EVERY == 7 for row in _top(run)]
    return sum(hits) / len(hits)


def _samples_plant(folder: Path, plant: Plant) -> dict[str, Any]:
    run = run_experiment(_experiment(folder, plant, plant), Silent())
    named = [
        f
        for f in _findings(run.result.audit)
        if any(int(name.split("-")[1]) % _EVERY == 7 for name in f.samples)
    ]
    tail = [v for c in run.result.candidates for v in c.tail if v.left_range]
    return {
        "in the worst per cent": _spoilt_share(run),
        "named by": sorted({f.check for f in named}),
        "tensor": next((f.tensor for f in named if f.tensor), None),
        "layers told in the tail": sorted({v.left_range[0].tensor for v in tail})[:3],
        "found": bool(named) or _spoilt_share(run) > 0.5,
    }


def _scaled(folder: Path, amax: dict[str, float], tensor: str) -> dict[str, Any]:
    """One activation with a tenth of its scale: the audit alone."""
    record = run_audit(_with_scales(folder, amax, tensor, 10), Silent())
    told = next((f for f in record.findings if f.check == "saturation"), None)
    return {
        "named": told.tensor if told else None,
        "severity": told.severity.value if told else None,
        "what": told.title if told else None,
        "found": told is not None and told.tensor == tensor,
    }


def _broken_class(folder: Path, amax: dict[str, float], tensor: str) -> dict[str, Any]:
    """One activation all but cut off, so that one class is taken for the other."""
    run = run_experiment(_with_scales(folder, amax, tensor, 1000), Silent())
    score = next(c.score for c in run.result.candidates if c.name.startswith("int8"))
    lost = {c.name: c.reference_recall_pct - c.recall_pct for c in score.classes} if score else {}
    worst = max(lost, key=lambda name: lost[name])
    share = float(np.mean([row["label"] == worst for row in _top(run)]))
    return {
        "class": worst,
        "recall lost": lost[worst],
        "in the worst per cent": share,
        "found": share > 0.9,
    }


def _with_scales(folder: Path, amax: dict[str, float], tensor: str, by: float) -> Experiment:
    path = folder / "scales.json"
    scales = {name: value / 127 / (by if name == tensor else 1) for name, value in amax.items()}
    path.write_text(json.dumps(scales), encoding="utf-8")
    return _experiment(folder, "scale", "", f"{{kind: cache, path: {path}}}")


def _planted(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    whole = run_experiment(_experiment(folder, "whole", ""), Silent()).result
    yield "nothing", {"findings": [f.title for f in _findings(whole.audit)], "found": True}
    amax = {a.tensor: a.amax["minmax"] for a in whole.calibration.activations}
    order = list(amax)
    for k in range(_SCALED):
        tensor = order[round(k * (len(order) - 1) / (_SCALED - 1))]
        yield f"a tenth of the scale of {tensor}", _scaled(folder, amax, tensor)
    yield "a broken class", _broken_class(folder, amax, order[len(order) // 2])
    yield "outliers", _samples_plant(folder, "outliers")
    yield "a channel", _samples_plant(folder, "channel")


def main() -> int:
    """Plant each, run, and tell what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Exit with 1 if one is missed.")
    check = parser.parse_args().check
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        for title, found in _planted(Path(name)):
            figures[title] = found
            print(f"{title}: {found}", flush=True)
    print(json.dumps(figures))
    return int(check and not all(found["found"] for found in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
