"""What config.pbtxt says: that it is the model's, in Triton's words, and from what was measured."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

sys.path.insert(0, str(Path(__file__).parent))

import packages
from packages import TIMES, end, mlp_package, promote, written

from calib.promotion.target import TargetOptions
from calib.promotion.triton import open_target
from calib.promotion.triton.schema import config_text, parsed_config, schema
from calib.results import DataRecord

RNG = np.random.default_rng(5)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def identity_config(folder, kind, shape, samples, axes=None, times=TIMES):
    proto = packages.identity([end("x", kind, *shape)], [end("y", kind, *shape)])
    promote(folder, packages.package(folder / "run", proto, {"x": samples}, axes, times))
    return written(folder)


def ends_of(config):
    return [
        (p.name, list(p.dims), list(p.reshape.shape) if p.HasField("reshape") else None)
        for p in (*config.input, *config.output)
    ]


def test_what_is_written_is_the_model_and_how_it_was_measured(tmp_path):
    package = mlp_package(tmp_path)
    said = promote(tmp_path, package)
    home = tmp_path / "repository" / "net"
    config = written(tmp_path)
    assert (home / "1" / "model.onnx").read_bytes() == package.model.read()
    assert (config.name, config.backend, config.max_batch_size) == ("net", "onnxruntime", 8)
    assert ends_of(config) == [("x", [4], None), ("logits", [3], None)]
    assert list(config.version_policy.specific.versions) == [1]
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    assert config.parameters["calib.measured_with"].string_value == "onnxruntime 1"
    assert config.instance_group[0].kind == schema().ModelInstanceGroup.KIND_CPU
    assert config.instance_group[0].count == 2  # cores, at a thread each
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    # 1 ms * (8 + 1) / 2 - 2 ms is 2.5 ms, and never more than one request takes: 1 ms.
    assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    assert [(w.name, w.batch_size) for w in config.model_warmup] == [("batch-1", 1), ("batch-8", 8)]
    assert any("batches up to 8" in line for line in said)
    assert any("session.force_spinning_stop" in line for line in said)


@pytest.mark.parametrize("kind", [k for k in packages.KINDS if k != "object"])
def test_each_type_goes_by_tritons_name_and_warms_up_with_its_bytes(tmp_path, kind):
    values = np.array([[0, 1, 2], [1, 0, 3]])
    samples = values.astype(np.float32 if kind == "bfloat16" else kind)
    config = identity_config(tmp_path, kind, ("n", 3), samples)
    expected = {
        "float16": "TYPE_FP16",
        "float32": "TYPE_FP32",
        "float64": "TYPE_FP64",
        "bfloat16": "TYPE_BF16",
    }.get(kind, f"TYPE_{kind.upper()}")
    types = {schema().DataType.Name(p.data_type) for p in (*config.input, *config.output)}
    assert types == {expected}
    given = config.model_warmup[0].inputs["x"]
    content = (tmp_path / "repository/net/warmup" / given.input_data_file).read_bytes()
    if kind == "bfloat16":  # the upper half of float32, and these numbers need no rounding
        content = (np.frombuffer(content, "<u2").astype("<u4") << 16).tobytes()
        kind = "float32"
    np.testing.assert_array_equal(np.frombuffer(content, kind), values[0].astype(kind))


def test_strings_are_counted_bytes(tmp_path):
    numbers = helper.make_node(
        "LabelEncoder",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        keys_strings=["é"],
        values_int64s=[1],
    )
    proto = packages.model([numbers], [end("x", "object", "n", 2)], [end("y", "int64", "n", 2)])
    package = packages.package(
        tmp_path / "run", proto, {"x": np.array([["é", ""], ["ab", "c"]])}, times=TIMES
    )
    promote(tmp_path, package)
    config = written(tmp_path)
    assert config.input[0].data_type == schema().DataType.Value("TYPE_STRING")
    path = tmp_path / "repository/net/warmup" / config.model_warmup[0].inputs["x"].input_data_file
    assert path.read_bytes() == b"\x02\0\0\0\xc3\xa9\0\0\0\0"


@pytest.mark.parametrize(
    ("shape", "samples", "axes", "reason"),
    [
        ((8, 4), floats(8, 4), {}, "batches of 8 and of no other size"),
        (("time", "batch", 4), floats(5, 8, 4), {"x": 1}, "batch along axis 1"),
    ],
)
def test_what_cannot_be_stacked_is_not_batched(tmp_path, shape, samples, axes, reason):
    config = identity_config(tmp_path, "float32", shape, samples, axes)
    text = (tmp_path / "repository/net/config.pbtxt").read_text()
    dims = [size if isinstance(size, int) else -1 for size in shape]
    assert "max_batch_size: 0" in text
    assert ends_of(config) == [("x", dims, None), ("y", dims, None)]
    assert not config.HasField("dynamic_batching")
    (warmup,) = config.model_warmup
    assert list(warmup.inputs["x"].dims) == list(samples.shape)
    other = open_target(str(tmp_path / "other"), TargetOptions())
    package = packages.package(
        tmp_path / "again",
        packages.identity([end("x", "float32", *shape)], [end("y", "float32", *shape)]),
        {"x": samples},
        axes,
    )
    assert any(reason in line for line in other.plan(package))
    assert not (tmp_path / "other").exists()


def test_an_output_that_mixes_samples_forbids_batches(tmp_path):
    node = helper.make_node("ReduceSum", ["x"], ["all"], keepdims=0)
    proto = packages.model([node], [end("x", "float32", "n", 4)], [end("all", "float32")])
    promote(tmp_path, packages.package(tmp_path / "run", proto, {"x": floats(8, 4)}, times=TIMES))
    config = written(tmp_path)
    assert config.max_batch_size == 0
    assert ends_of(config) == [("x", [-1, 4], None), ("all", [1], None)]


def test_an_output_whose_rows_are_no_samples_forbids_batches(tmp_path):
    # Its first axis is dynamic, as that of a batch is, but counts what is found in all samples.
    node = helper.make_node("NonZero", ["x"], ["found"])
    turn = helper.make_node("Transpose", ["found"], ["rows"])
    proto = packages.model(
        [node, turn], [end("x", "float32", "n", 4)], [end("rows", "int64", "count", 2)]
    )
    promote(tmp_path, packages.package(tmp_path / "run", proto, {"x": floats(8, 4)}, times=TIMES))
    assert written(tmp_path).max_batch_size == 0


def test_a_scalar_for_each_sample_is_reshaped(tmp_path):
    config = identity_config(tmp_path, "float32", ("n",), floats(8))
    assert ends_of(config) == [("x", [1], []), ("y", [1], [])]
    assert list(config.model_warmup[0].inputs["x"].dims) == [1]


def test_sizes_that_only_the_runtime_infers_are_those_it_compares(tmp_path):
    """ONNX Runtime's backend wants the output's dims as the session has them, to the letter."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    proto = packages.model(
        [node],
        [end("x", "float32", "n", 4)],
        [end("y", "float32", "n", "a", "b")],
        [onnx.numpy_helper.from_array(np.array([0, 2, 2]), "shape")],
    )
    promote(tmp_path, packages.package(tmp_path / "run", proto, {"x": floats(8, 4)}, times=TIMES))
    session = ort.InferenceSession(proto.SerializeToString())
    seen = [s if isinstance(s, int) else -1 for s in session.get_outputs()[0].shape]
    assert list(written(tmp_path).output[0].dims) == seen[1:] == [2, 2]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.one_of(st.integers(1, 5), st.sampled_from("abc")), max_size=3),
    batch=st.one_of(st.integers(1, 4), st.just("n")),
    kind=st.sampled_from(["float32", "int64", "uint8", "bool"]),
)
def test_any_shape_is_said_as_triton_compares_it(tmp_path_factory, sizes, batch, kind):
    folder = tmp_path_factory.mktemp("any")
    real = [s if isinstance(s, int) else 3 for s in sizes]
    count = batch if isinstance(batch, int) else 4
    samples = np.ones((count, *real), kind)
    config = identity_config(folder, kind, (batch, *sizes), samples, times=())
    text = (folder / "repository/net/config.pbtxt").read_text()
    assert parsed_config(text, "x") == config
    assert text.count("max_batch_size") == 1
    assert bool(config.max_batch_size) == (batch == "n")
    for port in (*config.input, *config.output):
        said = list(port.reshape.shape) if port.HasField("reshape") else list(port.dims)
        whole = [-1, *said] if config.max_batch_size else said
        assert whole == [s if isinstance(s, int) else -1 for s in (batch, *sizes)]


def test_zero_batch_size_is_said_though_protobuf_leaves_it_out():
    assert "max_batch_size: 0\n" in config_text(schema().ModelConfig(name="x"))


@pytest.mark.parametrize(
    ("times", "preferred", "delay"),
    [
        (((1, 1.0), (8, 2.0)), [8], 1000),
        (((1, 1.0), (8, 4.0)), [8], 500),
        (((1, 1.0), (8, 8.5)), [], 0),
        (((1, 1.0), (4, 2.0), (8, 8.0)), [4], 500),
        (((8, 2.0),), [8], 0),
    ],
)
def test_waiting_for_others_must_pay(tmp_path, times, preferred, delay):
    promote(tmp_path, mlp_package(tmp_path, times=times))
    batcher = written(tmp_path).dynamic_batching
    assert list(batcher.preferred_batch_size) == preferred
    assert batcher.max_queue_delay_microseconds == delay


def test_without_a_kept_batch_zeros_of_the_measured_shape_warm_up(tmp_path):
    package = mlp_package(tmp_path)
    timed = [packages.latency(n, p, {"x": (n, 4)}) for n, p in TIMES]
    package = replace(
        package,
        candidate=package.candidate.model_copy(update={"latency": tuple(timed)}),
        files=tuple(f for f in package.files if f.name != "warmup.npz"),
    )
    said = promote(tmp_path, package)
    config = written(tmp_path)
    assert config.model_warmup[0].inputs["x"].zero_data
    assert list(config.model_warmup[0].inputs["x"].dims) == [4]
    assert any("zeros" in line for line in said)


@pytest.mark.parametrize("kind", ["float32", "object", "bfloat16"])
def test_without_a_kept_batch_zeros_show_where_the_batch_is(tmp_path, kind):
    # The names of the axes do not tell: that of the output is another one.
    proto = packages.identity([end("x", kind, "n", 4)], [end("y", kind, "rows", 4)])
    package = packages.package(tmp_path / "run", proto, {})
    data = packages.dataset({"x": (4,)})
    timed = tuple(packages.latency(n, p, {"x": (n, 4)}) for n, p in TIMES)
    promote(
        tmp_path,
        replace(
            package,
            candidate=package.candidate.model_copy(update={"latency": timed}),
            result=package.result.model_copy(
                update={"data": DataRecord(calibration=data, validation=data)}
            ),
        ),
    )
    assert written(tmp_path).max_batch_size == 8


def test_warming_up_can_be_left_out(tmp_path):
    said = promote(tmp_path, mlp_package(tmp_path), warmup=False)
    assert not written(tmp_path).model_warmup
    assert not (tmp_path / "repository/net/warmup").exists()
    assert any(line.startswith("no warm-up") for line in said)
