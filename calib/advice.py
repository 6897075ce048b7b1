"""What to do about a verdict, where a limit does not say it."""

from calib.analysis.speedup import LEVEL, Speedup, paired_speedup
from calib.results import CandidateRecord, Precision, RunResult


def speedup_over(
    result: RunResult,
    own: str,
    rival: str,
    batch_size: int | None = None,
    threads: int | None = None,
    level: float = LEVEL,
) -> Speedup | None:
    """The speed-up of one candidate over another, at an operating point; see `latency_at`.

    None if they were not both timed there, or one of them ran in an emulated precision: then its
    time says nothing.
    """
    pair = [c for name in (own, rival) for c in result.candidates if c.name == name]
    if len(pair) < 2 or any(c.emulated for c in pair):
        return None
    first = pair[0].latency_at(batch_size, threads)
    second = pair[1].latency_at(first.batch_size, first.threads) if first is not None else None
    if first is None or second is None:
        return None
    return paired_speedup(first.samples_ms, second.samples_ms, level)


def speed_advice(
    result: RunResult,
    candidate: CandidateRecord,
    batch_size: int | None = None,
    threads: int | None = None,
) -> str:
    """A sentence where an INT8 candidate is no faster than what one could ship instead; or none."""
    if candidate.precision is not Precision.INT8:
        return ""
    for rival, name in ((Precision.FP16, "FP16"), (Precision.FP32, "FP32")):
        found = speedup_over(result, candidate.name, rival.value, batch_size, threads)
        if found is None:
            continue
        if found.is_faster:
            return ""
        if is_for_tensorrt(result):
            return (
                f"No faster than {name} on ONNX Runtime here ({found}). This layout is TensorRT's, "
                "and this is not its speed; to ship on ONNX Runtime, set "
                "quantization.layout=native."
            )
        return f"No faster than {name} here ({found}): ship {name}, or find out why."
    return ""


def is_for_tensorrt(result: RunResult) -> bool:
    """Whether INT8 was run by another runtime than the one that its layout is for."""
    layout = result.config.get("quantization", {}).get("layout")
    return layout == "tensorrt" and result.environment.backend == "onnxruntime"
