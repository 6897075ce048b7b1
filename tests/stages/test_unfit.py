"""Masks and NaN inside a model: they set no range, stay in float, and break no figure."""

from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from calib.config import load_experiment
from calib.errors import DataError, ModelError
from calib.pipeline import run_experiment, run_sensitivity
from calib.progress import Silent
from calib.stages.unfit import MASK, NOT_FINITE

LENGTH, WIDTH, SAMPLES = 6, 16, 64


def normal(seed, *shape):
    return (np.random.default_rng(seed).normal(size=shape) * 0.4).astype(np.float32)


def masked_attention(fill):
    """Attention under a mask of queries and keys: a padded query has all its scores masked."""
    nodes = [
        *(helper.make_node("MatMul", ["x", f"w{k}"], [k], name=f"project_{k}") for k in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"], name="scores"),
        helper.make_node("Unsqueeze", ["mask", "two"], ["queries"], name="queries"),
        helper.make_node("Unsqueeze", ["mask", "one"], ["keys"], name="keys"),
        helper.make_node("And", ["queries", "keys"], ["both"], name="both"),
        helper.make_node("Where", ["both", "s", "fill"], ["masked"], name="mask_scores"),
        helper.make_node("Softmax", ["masked"], ["p"], name="softmax", axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["context"], name="mix"),
        helper.make_node("Where", ["queries", "context", "zero"], ["safe"], name="mask_rows"),
        helper.make_node("ReduceMean", ["safe"], ["pooled"], name="pool", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["pooled", "wo"], ["logits"], name="head"),
    ]
    weights = {f"w{k}": normal(seed, WIDTH, WIDTH) for seed, k in enumerate("qkv")}
    weights["wo"] = normal(3, WIDTH, 3)
    return models.build(
        nodes,
        [
            ("x", TensorProto.FLOAT, ["batch", LENGTH, WIDTH]),
            ("mask", TensorProto.BOOL, ["batch", LENGTH]),
        ],
        [("logits", ["batch", 3])],
        {
            **weights,
            "one": np.array([1], dtype=np.int64),
            "two": np.array([2], dtype=np.int64),
            "fill": np.array(fill, dtype=np.float32),
            "zero": np.zeros(1, dtype=np.float32),
        },
    )


def multiplied_mask():
    """Scores masked by a finite number that a MatMul reads before it is masked away again."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
        helper.make_node("Where", ["mask", "h", "fill"], ["masked"], name="mask"),
        helper.make_node("MatMul", ["masked", "w2"], ["mixed"], name="second"),
        helper.make_node("Where", ["mask", "mixed", "zero"], ["safe"], name="unmask"),
        helper.make_node("MatMul", ["safe", "w3"], ["logits"], name="third"),
    ]
    return models.build(
        nodes,
        [("x", TensorProto.FLOAT, ["batch", WIDTH]), ("mask", TensorProto.BOOL, ["batch", 1])],
        [("logits", ["batch", WIDTH])],
        {
            **{f"w{k}": normal(k, WIDTH, WIDTH) for k in (1, 2, 3)},
            "fill": np.array([-3.4e38], dtype=np.float32),
            "zero": np.zeros(1, dtype=np.float32),
        },
    )


def experiment(proto, x_shape, mask_shape):
    """Write the model, the data and the config."""
    onnx.save(proto, "model.onnx")
    splits = {}
    for seed, name in enumerate(("calibration", "validation")):
        lengths = np.random.default_rng(seed).integers(1, LENGTH + 1, size=SAMPLES)
        mask = np.arange(LENGTH)[None] < lengths[:, None]
        mask = mask if mask_shape == (LENGTH,) else lengths[:, None] > 2
        np.savez(f"{name}.npz", x=2.5 * normal(10 + seed, SAMPLES, *x_shape), mask=mask)
        inputs = {"x": "x", "mask": "mask"}
        splits[name] = {"kind": "arrays", "path": f"{name}.npz", "inputs": inputs}
    content = {
        "name": "masked",
        "model": {"kind": "onnx", "path": "model.onnx"},
        "data": {"batch_size": 16, **splits},
        "task": {"kind": "embedding"},
        "calibration": {"calibrators": [{"kind": "minmax"}, {"kind": "mse"}, {"kind": "auto"}]},
        "quantization": {"min_channels": 1},
        "throughput": {"batch_sizes": []},
        "limits": {"output_sqnr_db_min": 20},
    }
    Path("config.yaml").write_text(yaml.safe_dump(content))


def run(*overrides):
    return run_experiment(load_experiment(Path("config.yaml"), overrides), Silent()).result


@pytest.fixture
def attention(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment(masked_attention(-np.inf), (LENGTH, WIDTH), (LENGTH,))
    return tmp_path


@pytest.mark.parametrize("remedies", ["none", "auto"])
def test_nan_of_masked_rows_enters_no_range_and_its_reader_stays_in_float(attention, remedies):
    result = run(f"quantization.remedies={remedies}")
    calibration = result.calibration
    quantized = {a.tensor for a in calibration.activations}
    assert not quantized & {"p", "v", "masked"}
    assert {node for a in calibration.activations for node in a.consumers} >= {"scores", "head"}
    left = {record.tensor: record.reason for record in calibration.left_alone}
    assert left["p"] == left["v"] == NOT_FINITE
    for candidate in result.candidates[1:]:
        assert candidate.outputs[0].sqnr_db > 20
        assert candidate.outputs[0].left_out == 0
    warnings = calibration.warnings + (result.remedies.warnings if result.remedies else ())
    assert any(text.startswith(("p was not always finite", "p: mix stays")) for text in warnings)


def test_what_was_not_finite_is_counted_as_the_reference_evaluator_has_it(attention):
    proto = masked_attention(-np.inf)
    onnx.save(proto, "model.onnx")
    proto.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, None))
    data = dict(np.load("calibration.npz"))
    with np.errstate(invalid="ignore"):
        p = models.run(proto, data)["p"]
    (record,) = run().calibration.not_finite
    assert (record.tensor, record.nan) == ("p", np.isnan(p).sum())
    assert record.finite == np.isfinite(p).sum()
    broken = np.flatnonzero(np.isnan(p).any(axis=(1, 2)))
    assert record.samples == len(broken)
    assert record.ids == tuple(f"row-{row:06d}" for row in broken[:3])


def test_errors_of_inner_tensors_are_those_of_the_finite_values(attention):
    result = run()
    layers = {e.tensor: e for e in result.candidate("int8-minmax").layers}
    for name in ("masked", "p", "context"):
        assert layers[name].left_out > 0
        assert np.isfinite(layers[name].sqnr_db)
        assert np.isfinite(layers[name].max_abs)
    assert layers["s"].left_out == 0
    assert any("masked" in note and "not finite" in note for note in result.notes)


def test_a_calibration_cache_gets_no_scale_for_what_is_not_finite(attention):
    result = run("calibration.tensors=all")
    given = result.calibration.others["minmax"].keys()
    assert {"v", "k"} <= given
    assert not given & {"masked", "p", "context"}


def test_a_mask_of_minus_inf_and_one_of_a_large_number_give_the_same_ranges(attention):
    """-3.4e38 gives even shares in a row that is all masked, where -inf gives NaN."""
    tensors = ("x", "q", "kt", "pooled")
    infinite = {a.tensor: a.amax for a in run().calibration.activations}
    proto = onnx.load("model.onnx")
    fill = next(i for i in proto.graph.initializer if i.name == "fill")
    fill.CopyFrom(onnx.numpy_helper.from_array(np.array(-3.4e38, dtype=np.float32), "fill"))
    onnx.save(proto, "model.onnx")
    result = run("calibration.tensors=all")
    finite = {a.tensor: a.amax for a in result.calibration.activations}
    assert {n: finite[n] for n in tensors} == {n: infinite[n] for n in tensors}
    assert "p" in finite
    assert "masked" not in result.calibration.others["minmax"]
    assert any("masked reaches from -3.4e+38" in text for text in result.calibration.warnings)
    layers = {e.tensor: e for e in result.candidate("int8-minmax").layers}
    assert layers["masked"].left_out > 0
    assert layers["masked"].sqnr_db < 100


@pytest.mark.parametrize("remedies", ["none", "auto"])
def test_a_finite_mask_that_would_be_quantized_stays_in_float(tmp_path, monkeypatch, remedies):
    monkeypatch.chdir(tmp_path)
    experiment(multiplied_mask(), (WIDTH,), (1,))
    result = run(f"quantization.remedies={remedies}")
    left = {record.tensor: record.reason for record in result.calibration.left_alone}
    assert left["masked"] == MASK
    assert {a.tensor for a in result.calibration.activations}
    assert all(c.outputs[0].sqnr_db > 20 for c in result.candidates[1:])


def test_sensitivity_is_measured_around_them(attention):
    found = run_sensitivity(load_experiment(Path("config.yaml")), Silent())
    nodes = {node for group in found.groups for node in group.nodes}
    assert "mix" not in nodes
    assert "scores" in nodes
    assert all(group.alone_db is None or group.alone_db > 0 for group in found.groups)


def test_a_scored_output_that_is_not_finite_is_refused_by_sample_in_either_split(attention):
    for name in ("validation", "calibration"):
        kept = dict(np.load(f"{name}.npz"))
        x = kept["x"].copy()
        x[5] = 3e38
        np.savez(f"{name}.npz", x=x, mask=np.ones_like(kept["mask"]))
        with pytest.raises(DataError, match=r"output logits: .*samples row-000005\)"):
            run()
        np.savez(f"{name}.npz", **kept)


def test_a_model_of_which_nothing_is_left_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    proto = multiplied_mask()
    experiment(proto, (WIDTH,), (1,))
    with pytest.raises(ModelError, match=r"no tensor to quantize.*a mask"):
        run("quantization.exclude=[first, third]")


def masked_texts():
    """Token ids and a mask, -inf for padded queries and keys: NaN in the rows of the padding."""
    proto = models.attention_over_tokens()
    table = np.random.default_rng(6).normal(size=(41, 32)).astype(np.float32)
    for constant in proto.graph.initializer:
        if constant.name == "table":
            constant.CopyFrom(onnx.numpy_helper.from_array(table, "table"))
    nodes = {node.name: node for node in proto.graph.node}
    for name in ("cast", "unsqueeze", "gap", "bias", "mask", "pool"):
        proto.graph.node.remove(nodes[name])
    added = {
        "rest": [
            helper.make_node(
                "Cast", ["attention_mask"], ["real"], name="cast", to=TensorProto.BOOL
            ),
            helper.make_node("Unsqueeze", ["real", "one"], ["keys"], name="keys"),
            helper.make_node("Unsqueeze", ["real", "two"], ["queries"], name="queries"),
            helper.make_node("And", ["queries", "keys"], ["both"], name="both"),
            helper.make_node("Where", ["both", "scores", "fill"], ["masked"], name="mask"),
        ],
        "end": [
            helper.make_node("Where", ["queries", "out", "zero"], ["safe"], name="mask_rows"),
            helper.make_node("ReduceMax", ["safe"], ["y"], name="pool", axes=[1], keepdims=0),
        ],
    }
    kept = list(proto.graph.node)
    at = [node.name for node in kept].index("softmax")
    del proto.graph.node[:]
    proto.graph.node.extend([*kept[:at], *added["rest"], *kept[at:], *added["end"]])
    constants = {
        "two": np.array([2], dtype=np.int64),
        "fill": np.array(-np.inf, dtype=np.float32),
        "zero": np.zeros(1, dtype=np.float32),
    }
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in constants.items())
    onnx.checker.check_model(proto)
    return proto


@pytest.mark.parametrize("remedies", ["none", "auto"])
def test_nan_in_the_rows_of_padding_leaves_nothing_in_float(tmp_path, monkeypatch, remedies):
    """Neither does it change a range: they are those of texts that are never padded."""
    monkeypatch.chdir(tmp_path)
    onnx.save(masked_texts(), "model.onnx")
    data = {"kind": "python", "entry": "models:texts"}
    content = {
        "name": "texts",
        "model": {"kind": "onnx", "path": "model.onnx"},
        "data": {
            "calibration": data | {"args": {"seed": 0}},
            "validation": data | {"args": {"seed": 1}},
        },
        "task": {"kind": "embedding"},
        "calibration": {"calibrators": [{"kind": "minmax"}, {"kind": "auto"}]},
        "throughput": {"batch_sizes": []},
    }
    Path("config.yaml").write_text(yaml.safe_dump(content))
    found = [run(f"quantization.remedies={remedies}", f"data.batch_size={size}") for size in (1, 7)]
    for result in found:
        assert "shares" in {a.tensor for a in result.calibration.activations}
        assert result.calibration.not_finite == ()
        assert all(c.outputs[0].sqnr_db > 20 for c in result.candidates[1:])
    if remedies == "none":
        alone, padded = (
            {a.tensor: a.amax["minmax"] for a in r.calibration.activations} for r in found
        )
        assert padded == pytest.approx(alone, rel=1e-5)
