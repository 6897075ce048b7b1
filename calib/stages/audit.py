"""Gathering what the audit judges: counts of both splits, inputs, and samples seen from inside."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calib.analysis.profiles import Profiles
from calib.audit import AuditFacts, SplitFacts, judge
from calib.config import Experiment
from calib.errors import ConfigError
from calib.progress import Advance, Progress
from calib.results import AuditRecord, TaskKind
from calib.runtime_log import runtime_log
from calib.stages.calibrate import Calibration, calibrate
from calib.stages.input_profiles import input_profiles
from calib.stages.inputs import Inputs, read_inputs
from calib.stages.profiles import profile, some_ids
from calib.stages.splits import Split
from calib.stages.workbench import Workbench, open_workbench
from calib.store import write_atomically


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found, and the calibration samples that were looked at.

    Attributes:
        record: None where no audit was asked for.
        known: None where nothing was looked at.
    """

    record: AuditRecord | None
    known: Profiles | None


def audit(bench: Workbench, inputs: Inputs, calibration: Calibration) -> Audit:
    """Judge the calibration data, with what validation samples do inside FP32.

    Nothing is quantized for it. `analysis.audit_samples` of each split are run, one at a time; all
    are read.
    """
    count = bench.experiment.analysis.audit_samples
    if count == 0:
        return Audit(None, None)
    splits = {"calibration": inputs.calibration, "validation": inputs.validation}
    chosen = {name: some_ids(split, count) for name, split in splits.items()}
    seen = {
        name: profile(bench, inputs, calibration, split, chosen[name], f"audit: {name} inside")
        for name, split in splits.items()
    }
    key = {
        "calibration": calibration.digest,
        "record": calibration.record.model_dump(
            mode="json", exclude={"seconds", "inference_seconds"}
        ),
        "classes": inputs.class_names,
        "output": list(inputs.task_output.shape),
        "task": bench.experiment.task.kind,
        "samples": {name: sorted(ids) for name, ids in chosen.items()},
        "splits": {name: _counts(split) for name, split in splits.items()},
    }

    def make(folder: Path, advance: Advance) -> None:
        facts = AuditFacts(
            calibration=_facts(bench, inputs, splits["calibration"], seen["calibration"], advance),
            validation=_facts(bench, inputs, splits["validation"], seen["validation"], advance),
            record=calibration.record,
            known_classes=_known_classes(bench, inputs),
        )
        write_atomically(folder / "audit.json", judge(facts).model_dump_json())

    total = sum(split.scan.samples for split in splits.values())
    made = bench.artifact("audit", "audit: judge", key, make, total)
    record = AuditRecord.model_validate_json((made.path / "audit.json").read_bytes())
    return Audit(record, seen["calibration"])


def run_audit(experiment: Experiment, progress: Progress) -> AuditRecord:
    """Audit the calibration data; nothing is quantized, and remedies are not looked for.

    Raises:
        ConfigError: if `analysis.audit_samples` is 0.
        InputError: if the model, the data or the config cannot be used.
    """
    if experiment.analysis.audit_samples == 0:
        raise ConfigError(
            "analysis.audit_samples",
            "asks for no audit",
            got="0",
            expected="1 or more",
            fix="Set analysis.audit_samples=256.",
        )
    plain = experiment.quantization.model_copy(
        update={"remedies": "none", "mixed_precision": "none"}
    )
    experiment = experiment.model_copy(update={"quantization": plain})
    with runtime_log(experiment.output.reports / experiment.name):
        bench = open_workbench(experiment, progress)
        inputs = read_inputs(bench)
        found = audit(bench, inputs, calibrate(bench, inputs)).record
    if found is None:
        raise AssertionError("an audit was asked for")
    return found


def _counts(split: Split) -> Mapping[str, Any]:
    """What the digest of the content leaves out."""
    found = split.scan
    return {
        "data": found.sha256,
        "labels": {str(label): count for label, count in found.label_counts.items()},
        "changes": found.label_changes,
        "slices": found.slice_counts,
    }


def _facts(
    bench: Workbench, inputs: Inputs, split: Split, seen: Profiles | None, advance: Advance
) -> SplitFacts:
    found = split.scan
    has_classes = TaskKind(bench.experiment.task.kind) is TaskKind.CLASSIFICATION
    names = inputs.class_names or ()
    counts: Mapping[int, int] = found.label_counts if has_classes else {}
    predicted = has_classes and not counts and seen is not None
    if predicted and seen is not None:
        values, times = np.unique(seen.predicted, return_counts=True)
        counts = dict(zip(values.tolist(), times.tolist(), strict=True))
    return SplitFacts(
        samples=found.samples,
        distinct=len(found.ids),
        labelled=sum(found.label_counts.values()),
        classes={_class_name(label, names): count for label, count in counts.items()},
        predicted=predicted,
        label_changes=found.label_changes,
        slices=found.slice_counts,
        inputs=input_profiles(split, inputs.model.record.inputs, advance),
        profiles=seen,
    )


def _known_classes(bench: Workbench, inputs: Inputs) -> tuple[str, ...]:
    """All classes, by name or by number, where the task has classes and their number is known."""
    if TaskKind(bench.experiment.task.kind) is not TaskKind.CLASSIFICATION:
        return ()
    names = inputs.class_names or ()
    last = inputs.task_output.shape[-1] if inputs.task_output.shape else None
    count = len(names) or (last if isinstance(last, int) and last > 1 else 0)
    return tuple(_class_name(label, names) for label in range(count))


def _class_name(label: int, names: tuple[str, ...]) -> str:
    return names[label] if 0 <= label < len(names) else str(label)
