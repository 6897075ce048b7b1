"""Every limit: what was found, on how many samples."""

from dataclasses import replace

import numpy as np

from calib.advice import is_for_tensorrt, speedup_over
from calib.gate.facts import Facts, Found, Rule
from calib.gate.resampling import median_interval
from calib.gate.sample_size import scaled_samples
from calib.gate.sampled import (
    accuracy_drop_points,
    accuracy_drop_relative,
    embedding_cosine_mean,
    flips,
    macro_recall_drop,
    mean_abs_error_increase,
    worsened,
    worst_class_drop,
    worst_slice_drop,
)
from calib.gate.statistics import Interval
from calib.gate.tails import confident_flips, margin_loss_p99, saturation
from calib.gate.task_rules import TASK_RULES
from calib.gate.worst_loss import worst_slice_loss
from calib.results import CandidateRecord


def embedding_cosine_worst(facts: Facts) -> Found:
    """Smallest cosine to FP32's embedding."""
    score = facts.candidate.score
    if score is None or score.worst_cosine is None:
        return Found(None, 0, "no embeddings were compared")
    return Found(score.worst_cosine, score.samples, "worst of the samples")


def output_sqnr(facts: Facts) -> Found:
    """SQNR of the worst output."""
    return _worst_sqnr(facts.candidate, layers=False)


def layer_sqnr(facts: Facts) -> Found:
    """SQNR of the worst layer."""
    return _worst_sqnr(facts.candidate, layers=True)


def _worst_sqnr(candidate: CandidateRecord, *, layers: bool) -> Found:
    errors = [e for e in (candidate.layers if layers else candidate.outputs) if e.samples]
    if not errors:
        return Found(None, 0, "nothing was compared")
    noisy = [(e.sqnr_db, e) for e in errors if e.sqnr_db is not None]
    if not noisy:
        return Found(float("inf"), errors[0].samples, "equal to FP32")
    value, worst = min(noisy, key=lambda pair: pair[0])
    return Found(value, worst.samples, f"tensor {worst.tensor}")


def output_cosine(facts: Facts) -> Found:
    """Cosine of the worst output."""
    known = [(e.cosine, e) for e in facts.candidate.outputs if e.cosine is not None and e.samples]
    if not known:
        return Found(None, 0, "nothing was compared, or an output is zero everywhere")
    value, worst = min(known, key=lambda pair: pair[0])
    return Found(value, worst.samples, f"tensor {worst.tensor}")


def speedup_vs_fp32(facts: Facts) -> Found:
    """FP32's median latency over the candidate's."""
    return _speedup(facts, "fp32")


def speedup_vs_fp16(facts: Facts) -> Found:
    """FP16's median latency over the candidate's."""
    return _speedup(facts, "fp16")


def _speedup(facts: Facts, rival: str) -> Found:
    own, other = facts.latency(facts.candidate.name), facts.latency(rival)
    if own is None or other is None:
        return Found(None, 0, f"the candidate and {rival} were not both timed at this point")
    found = speedup_over(
        facts.result,
        facts.candidate.name,
        rival,
        own.batch_size,
        own.threads,
        1 - 2 * facts.alpha,
    )
    if found is None:
        return Found(None, 0, "a precision is emulated on this processor: its time says nothing")
    times = f"{own.p50_ms:.3g} ms against {other.p50_ms:.3g} ms at {own.point}"
    low, high = found.low, found.high
    bounds = None if low is None or high is None else Interval(low, high)
    return _timed(Found(found.ratio, found.rounds, times, bounds, "percentile bootstrap"), facts)


def latency_p50(facts: Facts) -> Found:
    """The candidate's median latency."""
    own = facts.latency(facts.candidate.name)
    if own is None:
        return Found(None, 0, "the candidate was not timed at this point")
    if facts.candidate.emulated:
        return Found(None, 0, "its precision is emulated on this processor: its time says nothing")
    bounds = median_interval(np.asarray(own.samples_ms), facts.alpha)
    found = Found(own.p50_ms, own.runs, f"at {own.point}", bounds, "order statistics")
    return _timed(found, facts)


def _timed(found: Found, facts: Facts) -> Found:
    """With the number of timed runs that would decide."""
    bounds, value = found.interval, found.value
    if bounds is None or value is None:
        return replace(found, unit="timed runs")

    def needed(limit: float) -> int | None:
        half = bounds.high - value if limit >= value else value - bounds.low
        return scaled_samples(found.samples, half, abs(limit - value), facts.alpha)

    return replace(found, needed=needed, unit="timed runs")


def size_ratio(facts: Facts) -> Found:
    """Size of the file over FP32's."""
    own, reference = facts.candidate.size_bytes, facts.result.reference.size_bytes
    if not own or not reference:
        return Found(None, 0, "a size is unknown")
    return Found(own / reference, 1, f"{own / 1e6:.2f} MB against {reference / 1e6:.2f} MB")


def int8_macs(facts: Facts) -> Found:
    """Share of the multiply-accumulates that ran in INT8, on the target where it is smallest."""
    if not facts.candidate.engines:
        return _int8_macs_here(facts)
    known = [(e.int8_macs_pct, e) for e in facts.candidate.engines if e.int8_macs_pct is not None]
    if not known or len(known) < len(facts.candidate.engines):
        return Found(None, 0, "no engine whose layers are known")
    value, worst = min(known, key=lambda pair: pair[0])
    left = f", {len(worst.demoted)} nodes asked for INT8 and got something else"
    return Found(
        value, len(worst.nodes), f"of target {worst.target}{left if worst.demoted else ''}"
    )


def _int8_macs_here(facts: Facts) -> Found:
    """The same of ONNX Runtime, where the layout is for it."""
    ran = facts.candidate.ran
    if ran is None or ran.int8_macs_pct is None:
        return Found(None, 0, ran.problem if ran and ran.problem else "no layers are known")
    if is_for_tensorrt(facts.result):
        return Found(None, 0, "the layout is TensorRT's; ONNX Runtime's kernels say nothing of it")
    left = f", {len(ran.demoted)} nodes asked for INT8 and got something else"
    details = f"of ONNX Runtime{left if ran.demoted else ''}"
    return Found(ran.int8_macs_pct, len(ran.nodes), details)


def execution(facts: Facts) -> Found:
    """Whether every engine ran: 1, or nothing where one was only built."""
    idle = [engine for engine in facts.candidate.engines if not engine.ran_here]
    if idle:
        reason = f"built for {idle[0].target}, not run: {idle[0].why_not_run}"
        return Found(None, 0, f"{reason}; accuracy is ONNX Runtime's on the same graph")
    return Found(1.0, len(facts.candidate.engines), "outputs come from the engines themselves")


EXECUTION = Rule("execution", "engines that ran", "", execution)
"""Not a limit that can be left out: an engine that never ran is no evidence for itself."""


def validation_samples(facts: Facts) -> Found:
    """Samples that the verdict rests on."""
    summary = facts.candidate.flips
    samples = summary.samples if summary is not None else 0
    return Found(samples or None, samples, "validation samples compared")


RULES = (
    Rule("samples_min", "validation samples", "", validation_samples),
    Rule("accuracy_drop_points_max", "accuracy drop", "points", accuracy_drop_points, sampled=True),
    Rule(
        "accuracy_drop_relative_pct_max",
        "relative accuracy drop",
        "%",
        accuracy_drop_relative,
        sampled=True,
    ),
    Rule(
        "macro_recall_drop_points_max",
        "macro recall drop",
        "points",
        macro_recall_drop,
        sampled=True,
    ),
    Rule(
        "worst_class_drop_points_max",
        "worst class's recall drop",
        "points",
        worst_class_drop,
        sampled=True,
    ),
    Rule(
        "worst_slice_drop_points_max",
        "worst slice's accuracy drop",
        "points",
        worst_slice_drop,
        sampled=True,
    ),
    Rule("worst_slice_loss_max", "worst slice's loss", "", worst_slice_loss, sampled=True),
    Rule("flips_pct_max", "predictions unlike FP32's", "%", flips, sampled=True),
    Rule("worsened_pct_max", "right in FP32, wrong now", "%", worsened, sampled=True),
    Rule(
        "confident_flips_pct_max",
        "confident predictions changed",
        "%",
        confident_flips,
        sampled=True,
    ),
    Rule(
        "margin_loss_p99_max",
        "99th percentile of the loss of margin",
        "",
        margin_loss_p99,
        sampled=True,
    ),
    Rule("saturation_pct_max", "clipped values of the worst tensor", "%", saturation),
    Rule(
        "mean_abs_error_increase_pct_max",
        "mean absolute error growth",
        "%",
        mean_abs_error_increase,
        sampled=True,
    ),
    Rule(
        "embedding_cosine_mean_min", "mean cosine to FP32", "", embedding_cosine_mean, sampled=True
    ),
    Rule("embedding_cosine_worst_min", "worst cosine to FP32", "", embedding_cosine_worst),
    Rule("output_sqnr_db_min", "SQNR of the worst output", "dB", output_sqnr),
    Rule("output_cosine_min", "cosine of the worst output", "", output_cosine),
    Rule("layer_sqnr_db_min", "SQNR of the worst layer", "dB", layer_sqnr),
    Rule("speedup_vs_fp32_min", "speed-up over FP32", "x", speedup_vs_fp32, sampled=True),
    Rule("speedup_vs_fp16_min", "speed-up over FP16", "x", speedup_vs_fp16, sampled=True),
    Rule("latency_p50_ms_max", "median latency", "ms", latency_p50, sampled=True),
    Rule("size_ratio_vs_fp32_max", "size over FP32's", "", size_ratio),
    Rule("int8_macs_pct_min", "multiply-accumulates in INT8", "%", int8_macs),
    *TASK_RULES,
)
