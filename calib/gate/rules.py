"""One small function a limit: what was found, on how many samples."""

from collections.abc import Callable
from dataclasses import dataclass

from calib.advice import is_for_tensorrt, speedup_over
from calib.gate.limits import LimitsSpec
from calib.results import CandidateRecord, LatencyRecord, RunResult


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rule looks at."""

    result: RunResult
    candidate: CandidateRecord
    limits: LimitsSpec

    def latency(self, name: str) -> LatencyRecord | None:
        """Latency of a candidate at the operating point that the limits name; see `latency_at`."""
        found = (c for c in self.result.candidates if c.name == name)
        named = next(found, None)
        return named.latency_at(self.limits.batch_size, self.limits.threads) if named else None


@dataclass(frozen=True, slots=True)
class Found:
    """A measured value; None where there is no evidence, and `details` says why."""

    value: float | None
    samples: int
    details: str


Measure = Callable[[Facts], Found]


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit: its field in `LimitsSpec`, its direction, and how the value is found."""

    name: str
    title: str
    unit: str
    measure: Measure

    @property
    def is_maximum(self) -> bool:
        """Whether the value must not exceed the limit; otherwise it must reach it."""
        return self.name.endswith("_max")


def _accuracy(facts: Facts) -> tuple[float, float, int] | None:
    score = facts.candidate.score
    if score is None or score.accuracy_pct is None or score.reference_accuracy_pct is None:
        return None
    return score.accuracy_pct, score.reference_accuracy_pct, score.samples


def _points(now: float, before: float, samples: int) -> float:
    """A drop in points from whole counts: 0.5 points of 2,000 is exactly 10 samples."""
    lost = round(before * samples / 100) - round(now * samples / 100)
    return 100 * lost / samples


def accuracy_drop_points(facts: Facts) -> Found:
    """Accuracy lost against FP32."""
    known = _accuracy(facts)
    if known is None or not known[2]:
        return Found(None, 0, "no labelled samples")
    now, before, samples = known
    return Found(_points(now, before, samples), samples, f"{now:.2f} % against {before:.2f} %")


def accuracy_drop_relative(facts: Facts) -> Found:
    """Accuracy lost, as a share of FP32's."""
    known = _accuracy(facts)
    if known is None or not known[2]:
        return Found(None, 0, "no labelled samples")
    now, before, samples = known
    if before == 0:
        return Found(None, samples, "FP32 is never right")
    return Found(
        100 * _points(now, before, samples) / before, samples, f"{now:.2f} % against {before:.2f} %"
    )


def macro_recall_drop(facts: Facts) -> Found:
    """Mean recall over the classes lost against FP32."""
    score = facts.candidate.score
    if score is None or score.macro_recall_pct is None or score.reference_macro_recall_pct is None:
        return Found(None, 0, "no labelled samples")
    now, before = score.macro_recall_pct, score.reference_macro_recall_pct
    return Found(before - now, score.samples, f"{now:.2f} % against {before:.2f} %")


def worst_class_drop(facts: Facts) -> Found:
    """Recall lost by the class that loses most."""
    score = facts.candidate.score
    fewest = facts.limits.worst_class_min_samples
    classes = [c for c in (score.classes if score else ()) if c.samples >= fewest]
    if not classes:
        return Found(None, 0, f"no class has {fewest} samples")
    drops = {c.name: _points(c.recall_pct, c.reference_recall_pct, c.samples) for c in classes}
    worst = max(classes, key=lambda c: (drops[c.name], c.name))
    return Found(drops[worst.name], worst.samples, f"class {worst.name}")


def flips(facts: Facts) -> Found:
    """Predictions unlike FP32's."""
    summary = facts.candidate.flips
    if summary is None or not summary.samples:
        return Found(None, 0, "no samples were compared")
    return Found(
        100 * summary.total / summary.samples,
        summary.samples,
        f"{summary.total} flips: {summary.worsened} worsened, {summary.improved} improved, "
        f"{summary.sideways} sideways",
    )


def worsened(facts: Facts) -> Found:
    """Right in FP32, wrong in the candidate."""
    summary, score = facts.candidate.flips, facts.candidate.score
    labelled = score.samples if score is not None else 0
    if summary is None or not labelled:
        return Found(None, 0, "no labelled samples")
    return Found(100 * summary.worsened / labelled, labelled, f"{summary.worsened} samples")


def mean_abs_error_increase(facts: Facts) -> Found:
    """Growth of the mean absolute error."""
    score = facts.candidate.score
    if score is None or score.mean_abs_error is None or not score.reference_mean_abs_error:
        return Found(None, 0, "no labelled samples, or FP32 is exact")
    ratio = score.mean_abs_error / score.reference_mean_abs_error
    return Found(
        100 * (ratio - 1),
        score.samples,
        f"{score.mean_abs_error:.5g} against {score.reference_mean_abs_error:.5g}",
    )


def embedding_cosine_mean(facts: Facts) -> Found:
    """Mean cosine to FP32's embedding."""
    score = facts.candidate.score
    if score is None or score.mean_cosine is None:
        return Found(None, 0, "no embeddings were compared")
    return Found(score.mean_cosine, score.samples, "mean over the samples")


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
    found = speedup_over(facts.result, facts.candidate.name, rival, own.batch_size, own.threads)
    if found is None:
        return Found(None, 0, "a precision is emulated on this processor: its time says nothing")
    times = f"{own.p50_ms:.3g} ms against {other.p50_ms:.3g} ms at {own.point}"
    return Found(found.ratio, found.rounds, f"{times}: {found}")


def latency_p50(facts: Facts) -> Found:
    """The candidate's median latency."""
    own = facts.latency(facts.candidate.name)
    if own is None:
        return Found(None, 0, "the candidate was not timed at this point")
    if facts.candidate.emulated:
        return Found(None, 0, "its precision is emulated on this processor: its time says nothing")
    return Found(own.p50_ms, own.runs, f"at {own.point}")


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
    Rule("accuracy_drop_points_max", "accuracy drop", "points", accuracy_drop_points),
    Rule("accuracy_drop_relative_pct_max", "relative accuracy drop", "%", accuracy_drop_relative),
    Rule("macro_recall_drop_points_max", "macro recall drop", "points", macro_recall_drop),
    Rule("worst_class_drop_points_max", "worst class's recall drop", "points", worst_class_drop),
    Rule("flips_pct_max", "predictions unlike FP32's", "%", flips),
    Rule("worsened_pct_max", "right in FP32, wrong now", "%", worsened),
    Rule(
        "mean_abs_error_increase_pct_max",
        "mean absolute error growth",
        "%",
        mean_abs_error_increase,
    ),
    Rule("embedding_cosine_mean_min", "mean cosine to FP32", "", embedding_cosine_mean),
    Rule("embedding_cosine_worst_min", "worst cosine to FP32", "", embedding_cosine_worst),
    Rule("output_sqnr_db_min", "SQNR of the worst output", "dB", output_sqnr),
    Rule("output_cosine_min", "cosine of the worst output", "", output_cosine),
    Rule("layer_sqnr_db_min", "SQNR of the worst layer", "dB", layer_sqnr),
    Rule("speedup_vs_fp32_min", "speed-up over FP32", "x", speedup_vs_fp32),
    Rule("speedup_vs_fp16_min", "speed-up over FP16", "x", speedup_vs_fp16),
    Rule("latency_p50_ms_max", "median latency", "ms", latency_p50),
    Rule("size_ratio_vs_fp32_max", "size over FP32's", "", size_ratio),
    Rule("int8_macs_pct_min", "multiply-accumulates in INT8", "%", int8_macs),
)
