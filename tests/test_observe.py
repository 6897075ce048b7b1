"""One pass counts what numpy counts, whatever the batches, and leaves padding out."""

import platform

import models
import numpy as np
import onnx
import pytest

from calib.analysis.finite import refuse_not_finite
from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.calibrators.not_finite import NotFinite
from calib.errors import DataError
from calib.graph.load import load_model
from calib.graph.save import save_model
from calib.graph.select import select
from calib.graph.selection_spec import SelectionSpec
from calib.graph.taps import tapped, taps_from_tensors
from calib.observe import length_axes, observe, tapped_engine
from data_loaders import Batch, Sample, batches

# One thread: a float sum must not depend on how a batch is split over cores.
BACKEND = OnnxRuntime(OnnxRuntimeSpec(threads=1, optimization="basic"))


def observed(folder, samples, batch_size, **options):
    onnx.save(models.transformer_block(), folder / "m.onnx")
    graph = load_model(folder / "m.onnx").graph
    taps = taps_from_tensors(graph, select(graph, SelectionSpec()).activation_tensors)
    path = folder / "tapped.onnx"
    save_model(tapped(graph, [t.source for t in taps if not t.is_input]), path)
    seen = []
    with BACKEND.engine(path) as engine:
        found = observe(
            engine,
            enumerate(batches(samples, batch_size)),
            taps,
            on_batch=seen.append,
            **options,
        )
    assert sum(seen) == found.samples == len(samples)
    return found


def whole(found, name):
    return found.parts[name].whole()


def text_like(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Sample(f"s{i}", {"x": rng.normal(size=(length, models.FEATURES)).astype(np.float32)})
        for i, length in enumerate(lengths)
    ]


def test_statistics_are_those_of_every_sample_alone(tmp_path):
    samples = text_like([6] * 10)
    found = observed(tmp_path, samples, 4)
    values = [models.run(_with_taps(), {"x": s.inputs["x"][None]}) for s in samples]
    for name in ("q", "mixed"):
        exact = np.concatenate([np.ravel(v[name]) for v in values])
        got = whole(found, name)
        assert got.count == exact.size
        assert got.maximum == pytest.approx(exact.max(), rel=1e-5)
        assert got.minimum == pytest.approx(exact.min(), rel=1e-5)
    assert sum(p.count for p in found.parts["k"].parts) == whole(found, "q").count
    assert found.batches == 3


def _with_taps():
    proto = models.transformer_block()
    for name in ("q", "mixed"):
        proto.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    return proto


def test_the_input_is_counted_bit_for_bit_in_any_order_and_batch(tmp_path):
    samples = text_like([5] * 23)
    shuffled = [samples[i] for i in np.random.default_rng(1).permutation(len(samples))]
    one = whole(observed(tmp_path, samples, 23), "x")
    two = whole(observed(tmp_path, shuffled, 4), "x")
    assert one.counts.tobytes() == two.counts.tobytes()
    assert (one.exponent, one.minimum, one.maximum, one.zeros) == (
        two.exponent,
        two.minimum,
        two.maximum,
        two.zeros,
    )


def test_the_layout_that_the_runtime_computes_in_changes_no_statistic(tmp_path):
    onnx.save(models.conv_chain(16, 24, 32, 20, 16), tmp_path / "m.onnx")
    graph = load_model(tmp_path / "m.onnx").graph
    taps = taps_from_tensors(graph, ["x", "r0", "r1", "r2", "r3", "r4"])
    runtime = OnnxRuntime(OnnxRuntimeSpec(threads=1))
    rng = np.random.default_rng(0)
    images = [
        Sample(str(k), {"x": rng.normal(size=(3, 12, 12)).astype(np.float32)}) for k in range(9)
    ]

    def counted(engine):
        found = observe(engine, enumerate(batches(images, 4)), taps, on_batch=lambda _: None)
        return {name: parts.whole() for name, parts in found.parts.items()}

    save_model(tapped(graph, [f"r{k}" for k in range(5)]), tmp_path / "in_order.onnx")
    with (
        runtime.engine(tmp_path / "in_order.onnx") as in_order,
        tapped_engine(runtime, graph, taps, tmp_path) as in_blocks,
        tapped_engine(runtime, graph, taps, tmp_path, {"r2": (2,)}) as but_for_r2,
    ):
        x = {"x": images[0].inputs["x"][None]}
        moved = {
            name
            for name, value in in_order.infer(x).items()
            if not np.array_equal(value, in_blocks.infer(x)[name])
        }
        np.testing.assert_array_equal(but_for_r2.infer(x)["r2"], in_order.infer(x)["r2"])
        expected, found = counted(in_order), counted(in_blocks)
    if platform.machine() == "x86_64":
        assert {"r0", "r2"} <= moved <= {"r0", "r2", "r4"}
    for name, statistics in expected.items():
        assert found[name].counts.tobytes() == statistics.counts.tobytes()
        assert found[name].zeros == statistics.zeros
        assert (found[name].minimum, found[name].amax) == (statistics.minimum, statistics.amax)


def test_a_sample_that_breaks_an_output_is_named_with_it(tmp_path):
    samples = text_like([4] * 6)
    samples[4].inputs["x"][:] = 1e38
    with pytest.raises(DataError) as caught:
        observed(tmp_path, samples, 3, outputs=["y"], scored="y")
    assert "output y" in str(caught.value)
    assert "samples s4" in str(caught.value)
    assert "not finite" in str(caught.value)


def test_inner_values_that_are_not_finite_are_counted_by_sample_and_the_others_as_ever(tmp_path):
    samples = text_like([4] * 6)
    clean = whole(observed(tmp_path, [s for s in samples if s.id not in ("s1", "s4")], 4), "x")
    samples[4].inputs["x"][:] = np.nan
    samples[1].inputs["x"][:] = np.inf
    samples[1].inputs["x"][0, 0] = -np.inf
    for size in (1, 3, 6):
        found = whole(observed(tmp_path, samples, size), "x")
        assert found.counts.tobytes() == clean.counts.tobytes()
        assert (found.minimum, found.maximum) == (clean.minimum, clean.maximum)
        values = 4 * models.FEATURES
        assert found.not_finite == NotFinite(values, values - 1, 1, 2, ("s1", "s4"))


def test_what_is_not_finite_in_padding_is_nobodys_value():
    values = np.ones((2, 3, 4), dtype=np.float32)
    values[0, 2:] = np.nan
    real = np.array([[True, True, False], [True, True, True]])
    lengths = (2, 3)
    batch = Batch(tuple(text_like(lengths)), {}, real)
    refuse_not_finite({"y": values}, "y", batch)
    values[1, 0, 0] = -np.inf
    with pytest.raises(DataError, match=r"output y.*got -inf in samples s1\)"):
        refuse_not_finite({"y": values}, "y", batch)
    refuse_not_finite({"y": values}, "another", batch)
    values[1, 0, 1] = np.nan
    with pytest.raises(DataError, match="got nan in samples s1"):
        refuse_not_finite({"y": values}, "another", batch)


def test_length_axes_follow_the_sample_and_not_a_size_that_happens_to_be_equal():
    short = {"scores": (1, 12, 5, 5), "head": (1, 12, 5, 9), "hidden": (1, 5, 384), "w": (9, 9)}
    long = {"scores": (1, 12, 9, 9), "head": (1, 12, 9, 9), "hidden": (1, 9, 384), "w": (9, 9)}
    shapes = tuple({n: np.array(s) for n, s in each.items()} for each in (short, long))
    assert length_axes((5, 9), shapes) == {"scores": (2, 3), "head": (2,), "hidden": (1,)}
