"""What is unusual about the samples of the tail: ranges they leave, and how far calibration is."""

from collections.abc import Iterable

import numpy as np

from calib.analysis.profiles import Profiles, nearest
from calib.results import (
    CalibrationRecord,
    CandidateRecord,
    NearestSample,
    RangeExcess,
    SampleVerdict,
)
from calib.stages.calibrate import Calibration
from calib.stages.inputs import Inputs
from calib.stages.profiles import profile
from calib.stages.workbench import Workbench

_LAYERS_SHOWN = 10


def explain_tails(
    bench: Workbench,
    inputs: Inputs,
    calibration: Calibration,
    candidates: Iterable[CandidateRecord],
    known: Profiles | None,
) -> tuple[CandidateRecord, ...]:
    """The candidates with what their tails' samples do inside FP32.

    Args:
        bench: the backend and the store.
        inputs: the model and the validation samples.
        calibration: thresholds by calibrator.
        candidates: with their tails.
        known: the calibration samples among which the nearest is looked for; None looks for none.
    """
    given = tuple(candidates)
    ids = frozenset(verdict.id for c in given for verdict in c.tail)
    seen = profile(bench, inputs, calibration, inputs.validation, ids, "saturation of the tail")
    if seen is None:
        return given
    neighbours = {} if known is None else _neighbours(seen, known, inputs.class_names or ())
    return tuple(
        c.model_copy(
            update={
                "tail": tuple(
                    explained(verdict, seen, c.calibrator, calibration.record).model_copy(
                        update={"nearest": neighbours.get(verdict.id)}
                    )
                    for verdict in c.tail
                )
            }
        )
        for c in given
    )


def explained(
    verdict: SampleVerdict, seen: Profiles, calibrator: str | None, record: CalibrationRecord
) -> SampleVerdict:
    """The verdict with the activations that left their range, what clipping costs first.

    Args:
        verdict: of a sample of the profiles.
        seen: the profiles.
        calibrator: whose thresholds count; None leaves the verdict as it is.
        record: what the calibration samples had.
    """
    if calibrator not in seen.calibrators:
        return verdict
    row, at = seen.ids.index(verdict.id), seen.calibrators.index(calibrator)
    clipped, values = seen.clipped[row, :, at], seen.values[row]
    energy = seen.energy[row]
    lost = 100 * np.divide(
        seen.lost[row, :, at], energy, out=np.zeros_like(energy), where=energy > 0
    )
    beyond = [k for k in np.argsort(-lost, kind="stable").tolist() if clipped[k]]
    by_name = {a.tensor: a for a in record.activations}
    excess = []
    for k in beyond[:_LAYERS_SHOWN]:
        own = by_name[seen.tensors[k]]
        excess.append(
            RangeExcess(
                tensor=own.tensor,
                nodes=own.consumers,
                amax=float(seen.amax[row, k]),
                threshold=own.amax[calibrator],
                calibration_amax=max(abs(own.minimum or 0.0), abs(own.maximum or 0.0)),
                clipped_pct=float(100 * clipped[k] / values[k]),
                lost_pct=float(lost[k]),
            )
        )
    return verdict.model_copy(
        update={
            "saturation_pct": float(100 * clipped.sum() / max(int(values.sum()), 1)),
            "left_range": tuple(excess),
            "left_range_count": len(beyond),
        }
    )


def _neighbours(
    seen: Profiles, known: Profiles, names: tuple[str, ...]
) -> dict[str, NearestSample]:
    index, distance = nearest(seen.hidden, known.hidden)
    return {
        name: NearestSample(
            id=known.ids[k], distance=float(gap), prediction=_class(int(known.predicted[k]), names)
        )
        for name, k, gap in zip(seen.ids, index.tolist(), distance.tolist(), strict=True)
    }


def _class(predicted: int, names: tuple[str, ...]) -> str | None:
    if predicted < 0:
        return None
    return names[predicted] if predicted < len(names) else str(predicted)
