"""If, Loop and Scan: what is around them is converted and quantized, they stay as they are."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from layer_models import ALL, loaded, ort_run
from onnx import numpy_helper

from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.errors import ModelError
from calib.graph.fp16 import to_fp16
from calib.graph.qdq import insert_qdq
from calib.graph.save import save_model
from calib.graph.select import select

CONDITION = "sum = ReduceSum<keepdims=0>(x) condition = Greater(sum, zero)"

GRAPHS = {
    "a branch that is a constant, and one that is an outer value": f"""
        g (float[N,8] x) => (float[N,8] y) <float[8,8] w, float[8,8] w2, float zero = {{0}}> {{
            hidden = MatMul(x, w) {CONDITION}
            chosen = If(condition) <
                then_branch = t () => (float[1,8] a) {{
                    a = Constant<value = float[1,8] {{1,2,3,4,1,2,3,4}}>() }},
                else_branch = e () => (float[N,8] b) {{ b = Identity(hidden) }}>
            both = Add(chosen, hidden)
            y = MatMul(both, w2) }}""",
    "branches that read a weight that others read too": f"""
        g (float[N,8] x) => (float[N,8] y) <float[8,8] w, float[8,8] w2, float zero = {{0}}> {{
            hidden = MatMul(x, w) {CONDITION}
            chosen = If(condition) <
                then_branch = t () => (float[N,8] a) {{ a = MatMul(hidden, w) }},
                else_branch = e () => (float[N,8] b) {{ b = Gemm<transB=1>(hidden, w) }}>
            y = Add(chosen, hidden) }}""",
    "nested, with one name inside that means another outside": f"""
        g (float[N,8] x) => (float[N,8] y) <float[8,8] w, float zero = {{0}}> {{
            hidden = MatMul(x, w) {CONDITION}
            chosen = If(condition) <
                then_branch = t () => (float[N,8] outer) {{
                    inner = MatMul(x, w)
                    one = Constant<value = float {{1}}>()
                    large = Greater(sum, one)
                    outer = If(large) <
                        then_branch = tt () => (float[N,8] c) {{ c = MatMul(hidden, w) }},
                        else_branch = te () => (float[N,8] d) {{ d = Identity(inner) }}> }},
                else_branch = e () => (float[N,8] b) {{ b = Identity(hidden) }}>
            y = MatMul(chosen, w) }}""",
    "a loop that carries state and collects": """
        g (float[N,8] x) => (float[N,8] y, float[3,N,8] collected)
        <float[8,8] w, float[8,8] w2, int64 count = {3}> {
            hidden = MatMul(x, w)
            last, collected = Loop(count, , hidden) <
                body = b (int64 i, bool go, float[N,8] s) =>
                       (bool go_on, float[N,8] next, float[N,8] shown) {
                    product = MatMul(s, w)
                    next = Tanh(product)
                    go_on = Identity(go)
                    shown = Add(next, hidden) }>
            y = MatMul(last, w2) }""",
    "a scan over time": """
        g (float[N,8] x) => (float[N,8] y, float[2,N,8] steps) <float[8,8] w, float[8,8] w2> {
            two = Constant<value_ints=[2, 1, 1]>()
            axis = Constant<value_ints=[0]>()
            spread = Unsqueeze(x, axis)
            tiled = Tile(spread, two)
            sequence = MatMul(tiled, w)
            first = ReduceMean<axes=[0], keepdims=0>(sequence)
            last, steps = Scan(first, sequence) <
                num_scan_inputs = 1,
                body = b (float[N,8] s, float[N,8] step) => (float[N,8] next, float[N,8] shown) {
                    product = MatMul(step, w)
                    next = Add(product, s)
                    shown = Identity(next) }>
            y = MatMul(last, w2) }""",
}


ALL_INSIDE = GRAPHS["branches that read a weight that others read too"].replace(
    "hidden = MatMul(x, w)", "hidden = Relu(x)"
)


def control_flow(text):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    rng = np.random.default_rng(0)
    for value in list(model.graph.value_info):
        if value.name in ("w", "w2"):
            weight = rng.normal(scale=0.4, size=(8, 8)).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(weight, value.name))
            model.graph.value_info.remove(value)
    return model


def samples():
    """Alone, so that both branches are taken."""
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(size=(1, 8)).astype(np.float32)} for _ in range(6)]


@pytest.fixture(params=GRAPHS, ids=str)
def model(request):
    return control_flow(GRAPHS[request.param])


def errors_db(model, graph):
    """-10·log10 of the noise share, of every output by name."""
    noise, signal = {}, {}
    for feeds in samples():
        wanted = ort_run(ir.from_proto(model), feeds)
        for name, array in ort_run(graph, feeds).items():
            noise[name] = noise.get(name, 0.0) + np.square(array - wanted[name]).sum()
            signal[name] = signal.get(name, 0.0) + np.square(wanted[name]).sum()
    return {name: 10 * np.log10(signal[name] / max(noise[name], 1e-30)) for name in noise}


def test_a_model_with_control_flow_computes_the_same_once_it_is_loaded(model, tmp_path):
    assert min(errors_db(model, loaded(model, tmp_path)).values()) > 120


def test_fp16_leaves_graphs_inside_in_fp32_with_the_same_outputs(model, tmp_path):
    half, _ = to_fp16(loaded(model, tmp_path))
    assert [value.name for value in half.graph.outputs] == [v.name for v in model.graph.output]
    assert min(errors_db(model, half).values()) > 50


def test_what_is_around_is_quantized_and_what_is_inside_is_listed(model, tmp_path):
    graph = loaded(model, tmp_path)
    selection = select(graph, ALL)
    amax = dict.fromkeys(selection.activation_tensors, 6.0)
    quantized = insert_qdq(graph, selection, amax)
    assert min(errors_db(model, quantized).values()) > 20
    assert min(errors_db(model, to_fp16(quantized)[0]).values()) > 20
    holder = next(n for n in model.graph.node if n.op_type in ("If", "Loop", "Scan"))
    reasons = [row.reason for row in selection.left_alone]
    assert any(f"inside {holder.op_type}" in reason for reason in reasons)


def test_a_weight_that_only_a_branch_reads_stays_as_it_is_in_fp16(tmp_path):
    model = control_flow(ALL_INSIDE.replace("Add(chosen, hidden)", "MatMul(chosen, w2)"))
    half, _ = to_fp16(loaded(model, tmp_path))
    assert half.graph.initializers["w"].dtype.numpy() == np.float32


def test_a_model_with_all_weights_inside_says_where_they_are(tmp_path):
    model = control_flow(ALL_INSIDE)
    with pytest.raises(ModelError, match=r"2 inside If, Loop or Scan.*Export the branch"):
        loaded(model, tmp_path)


def test_the_runtime_runs_fp16_beside_every_kind_of_control_flow(model, tmp_path):
    """With all of its optimizations, one of which has ended the process."""
    half, _ = to_fp16(loaded(model, tmp_path))
    save_model(half, tmp_path / "half.onnx")
    with OnnxRuntime(OnnxRuntimeSpec()).engine(tmp_path / "half.onnx") as engine:
        found = engine.infer(samples()[0])
    assert np.isfinite(found["y"]).all()
