"""A small finished run, made by hand, for what only reads results."""

from calib.engine_record import EngineLayer, EngineRecord, NodePrecision, RanRecord
from calib.results import (
    ActivationRecord,
    AuditFinding,
    AuditRecord,
    CalibrationRecord,
    CandidateRecord,
    ClassScore,
    ConfidentFlips,
    DataRecord,
    DatasetRecord,
    Environment,
    FlipSummary,
    GroupCount,
    LatencyRecord,
    LeftAloneRecord,
    MetricScore,
    ModelRecord,
    Precision,
    RunResult,
    RunVerdict,
    SampleVerdict,
    Saturation,
    Severity,
    SliceScore,
    StageRecord,
    TailSummary,
    TaskKind,
    TaskScore,
    TensorAudit,
    TensorError,
    TensorSpec,
    Verdict,
    WeightRecord,
)
from calib.results.metrics import COARSE

NASTY = "<script>alert('1')</script> & \"quoted\" \x1b[31m =cmd()"


def latency(p50, runs=100):
    return LatencyRecord(
        batch_size=8,
        shapes={"x": (8, 4)},
        warmup_runs=1,
        runs=runs,
        p50_ms=p50,
        p90_ms=p50 * 1.1,
        p99_ms=p50 * 1.2,
        mean_ms=p50,
        samples_per_second=8000 / p50,
        samples_ms=tuple(p50 + (i - (runs - 1) / 2) / 1000 for i in range(runs)),
    )


def error(**changes):
    values = {
        "tensor": "logits",
        "node": "fc2",
        "op_type": "Gemm",
        "samples": 200,
        "sqnr_db": 20.0,
        "cosine": 0.99,
        "max_abs": 0.5,
        "relative_l2": 0.1,
        "quantized": True,
    }
    return TensorError(**{**values, **changes})


def score(**changes):
    values = {
        "kind": TaskKind.CLASSIFICATION,
        "samples": 200,
        "accuracy_pct": 88.0,
        "reference_accuracy_pct": 90.0,
        "macro_recall_pct": 176 / 3,
        "reference_macro_recall_pct": 280 / 3,
        "classes": (
            class_score("cat", 100, 90.0, 5, 1),
            class_score("dog", 95, 90.0, 0, 0),
            class_score("rare", 5, 100.0, 5, 0),
        ),
        "mean_abs_error": 1.1,
        "reference_mean_abs_error": 1.0,
        "mean_cosine": 0.98,
        "worst_cosine": 0.7,
        "sample_errors": tuple((1.1 + i / 1000, 1.0 + i / 2000) for i in range(-100, 101)),
        "sample_cosines": tuple(0.98 + i / 10_000 for i in range(-100, 101)),
    }
    return TaskScore(**{**values, **changes})


def slice_score(name, samples, worsened, improved, loss=None):
    """A slice; `loss` is what a metric without unit loses, with bounds 0.9 to either side."""
    figure = None
    if loss is not None:
        figure = MetricScore(
            name="score",
            title="score of a sample",
            unit="",
            higher_is_better=True,
            value=20.0 - loss,
            reference=20.0,
            resampled_losses=tuple(loss + 2 * q - 1 for q in COARSE),
            resamples=400,
            samples=samples,
        )
    return SliceScore(
        family="source",
        name=name,
        samples=samples,
        right=samples // 2,
        worsened=worsened,
        improved=improved,
        flips=worsened + improved,
        figure=figure,
    )


def class_score(name, samples, reference_recall_pct, worsened, improved):
    return ClassScore(
        name=name,
        samples=samples,
        recall_pct=reference_recall_pct - 100 * (worsened - improved) / samples,
        reference_recall_pct=reference_recall_pct,
        worsened=worsened,
        improved=improved,
    )


def candidate(name="int8-minmax", **changes):
    precision = Precision(name.split("-")[0])
    values = {
        "name": name,
        "precision": precision,
        "calibrator": "minmax" if precision is Precision.INT8 else None,
        "rest": Precision.FP32 if precision is Precision.INT8 else None,
        "model_path": f"models/{name}/model.onnx",
        "model_sha256": "0" * 64,
        "size_bytes": 1000 if precision is Precision.FP32 else 400,
        "peak_memory_bytes": 5_000_000,
        "outputs": (error(),),
        "layers": (error(tensor="h", node="fc1", sqnr_db=10.0),),
        "score": score(),
        "flips": FlipSummary(
            samples=200, total=10, worsened=6, improved=2, sideways=2, unlabelled=0
        ),
        "tail": (sample(),),
        "moved": moved(),
        "slices": (slice_score("forum", 120, 5, 1, 3.0), slice_score("mail", 80, 1, 1, 1.0)),
        "latency": (latency(2.0),),
        "engines": (engine(),),
    }
    return CandidateRecord(**{**values, **changes})


def moved():
    """1,000 losses of margin from 0 to 0.999; FP32 is sure of 150 samples."""
    losses = [k / 1000 for k in range(1000)]
    return TailSummary(
        samples=1000,
        margin_loss={"50": 0.4995, "99": 0.98901, "100": 0.999},
        worst_losses=tuple(losses[:-50:-1]),
        confident=(
            ConfidentFlips(probability=0.9, samples=150, flips=3, worsened=2),
            ConfidentFlips(probability=0.99, samples=0, flips=0, worsened=0),
        ),
    )


def audit(**changes):
    """One warning, one tensor."""
    saturation = Saturation(
        clipped_pct=0.25, lost_pct=0.5, calibration_clipped_pct=0.0, calibration_lost_pct=0.0
    )
    finding = AuditFinding(
        check="coverage",
        severity=Severity.WARNING,
        title="calibration lacks class rare",
        evidence="rare: 0 of 64 calibration samples",
        action="Add about 20 samples of class rare.",
        samples=(NASTY,),
    )
    tensor = TensorAudit(
        tensor="x",
        nodes=("fc1",),
        distance=0.01,
        p_value=0.5,
        p_adjusted=0.9,
        amax_ratio=1.1,
        beyond=2,
        beyond_p=0.2,
        beyond_ratio=1.05,
        beyond_sample="s1",
        saturation={"minmax": saturation},
        resampling_pct=3.0,
    )
    values = {
        "calibration_samples": 64,
        "validation_samples": 200,
        "classes_from": "labels",
        "findings": (finding,),
        "tensors": (tensor,),
        "groups": (GroupCount(column="class", name="rare", calibration=0, validation=5),),
    }
    return AuditRecord(**{**values, **changes})


def engine(**changes):
    node = NodePrecision(
        node="fc1", op_type="MatMul", asked="int8", ran="int8", engine_layer="l", macs=10, cause=""
    )
    lost = node.model_copy(update={"node": "fc2", "ran": "fp16", "cause": "no kernel"})
    layer = EngineLayer(
        name="l",
        kind="gemm",
        nodes=("fc1",),
        precision="int8",
        input_types=("int8",),
        constant_types=("int8",),
        output_types=("fp32",),
        tactic="t",
    )
    values = {
        "backend": "tensorrt_rtx",
        "version": "1.7",
        "target": "8.9",
        "seconds": 1.0,
        "plan_bytes": 1000,
        "plan_sha256": "3" * 64,
        "weights_bytes": 100,
        "activation_bytes": None,
        "peak_memory_bytes": 1000,
        "profile": {"x": ((1, 4), (8, 4), (8, 4))},
        "layers": (layer,),
        "nodes": (node, lost),
        "int8_macs_pct": 50.0,
        "ran_here": True,
    }
    return EngineRecord(**{**values, **changes})


def ran(**changes):
    node = NodePrecision(
        node="fc1",
        op_type="MatMul",
        asked="int8",
        ran="int8",
        engine_layer="fc1",
        macs=10,
        cause="",
        kernel="QLinearMatMul",
    )
    lost = NodePrecision(
        node="fc2",
        op_type="Conv",
        asked="int8",
        ran="fp32",
        engine_layer="fc2",
        macs=30,
        cause="its output is not quantized",
        kernel="FusedConv",
    )
    values = {
        "operators": {"integer": 1, "float": 1},
        "kernels": {"QLinearMatMul": 1, "FusedConv": 1},
        "nodes": (node, lost),
        "int8_macs_pct": 25.0,
        "asked_int8_macs_pct": 100.0,
        "uncounted": {"LSTM": 2},
    }
    return RanRecord(**{**values, **changes})


def sample(**changes):
    values = {
        "id": "s1",
        "label": "cat",
        "reference_prediction": "cat",
        "prediction": "dog",
        "reference_margin": 1.0,
        "margin": -0.5,
        "margin_loss": 1.5,
        "flip": "worsened",
        "saturation_pct": 0.25,
        "text": "a text",
        "metadata": {"source": "forum"},
    }
    return SampleVerdict(**{**values, **changes})


def fp32():
    return candidate("fp32", latency=(latency(4.0),), outputs=(), layers=(), tail=())


def fp16():
    return candidate("fp16", latency=(latency(3.0),))


def dataset(samples):
    return DatasetRecord(
        kind="arrays",
        source="x.npz",
        samples=samples,
        labelled=samples,
        batches=4,
        sha256="1" * 64,
        shapes={"x": ((4, 4, 4),)},
    )


def run(*candidates, **changes):
    tensor = TensorSpec(name="x", dtype="float32", shape=("batch", 4))
    values = {
        "experiment": "small",
        "run_id": "20260101-000000-000-abcdef",
        "started_at": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "config": {"description": "A run.", "throughput": {"warmup_runs": 1}},
        "environment": Environment(
            hostname_sha256="0" * 12,
            platform="Linux",
            cpu="a cpu",
            logical_cores=2,
            memory_bytes=2**34,
            gpu=None,
            python="3.11",
            packages={"numpy": "2.0"},
            backend="onnxruntime",
            backend_details={"version": "1"},
            git_commit=None,
            git_dirty=None,
        ),
        "model": ModelRecord(
            path="model.onnx",
            sha256="2" * 64,
            size_bytes=1000,
            opset=17,
            ir_version=9,
            producer="test",
            parameters=100,
            inputs=(tensor,),
            outputs=(tensor,),
        ),
        "data": DataRecord(calibration=dataset(64), validation=dataset(200)),
        "calibration": CalibrationRecord(
            samples=64,
            batches=4,
            values=1000,
            seconds=0.5,
            inference_seconds=0.4,
            calibrators=("minmax",),
            activations=(
                ActivationRecord(
                    tensor="x",
                    consumers=("fc1",),
                    count=256,
                    zeros=0,
                    minimum=-1.0,
                    maximum=2.0,
                    amax={"minmax": 2.0},
                    clipped_pct={"minmax": 0.0},
                ),
            ),
            weights=(
                WeightRecord(
                    tensor="w",
                    node="fc1",
                    op_type="MatMul",
                    axis=1,
                    channels=4,
                    elements=16,
                    sqnr_db=40.0,
                ),
            ),
            left_alone=(
                LeftAloneRecord(tensor="b", node="fc1", op_type="Add", reason="bias: float"),
            ),
        ),
        "audit": audit(),
        "candidates": candidates or (fp32(), fp16(), candidate()),
        "stages": (StageRecord(name="observe", seconds=0.5, reused=False),),
        "verdict": RunVerdict(verdict=Verdict.NO_EVIDENCE, chosen=None, reason="", candidates=()),
    }
    return RunResult(**{**values, **changes})
