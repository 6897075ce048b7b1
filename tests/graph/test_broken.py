"""Files that are ONNX by their form only: the place is named before anything is run."""

import layer_models
import models
import numpy as np
import onnx
import pytest
from layer_models import normal
from onnx import TensorProto, helper

from calib.errors import ModelError
from calib.graph.load import load_model, read_model


def refused(proto, path):
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    messages = []
    for read in (load_model, read_model):
        with pytest.raises(ModelError) as error:
            read(path)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    return messages[0]


def truncated(tensor):
    tensor.raw_data = tensor.raw_data[:-4]
    return "does not hold the values of its shape (got 6140 bytes; expected 6144 for [32, 48])"


def too_long(tensor):
    tensor.raw_data *= 3
    return "does not hold the values of its shape"


def negative_axis(tensor):
    tensor.dims[0] = -1
    return "has a negative axis (got [-1, 48])"


def enormous(tensor):
    tensor.dims[0] = 2**40
    return "does not hold the values of its shape"


def enormous_without_values(tensor):
    tensor.dims[0] = 2**40
    tensor.ClearField("raw_data")
    return "does not hold the values of its shape"


def fewer_values(tensor):
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0] * 1000)
    return "does not hold the values of its shape"


def unknown_type(tensor):
    tensor.data_type = 77
    return "is of an unknown type (got 77)"


def no_type(tensor):
    tensor.data_type = 0
    return "is of an unknown type (got 0)"


DAMAGES = [
    truncated,
    too_long,
    negative_axis,
    enormous,
    enormous_without_values,
    fewer_values,
    unknown_type,
    no_type,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_tensor_is_named(tmp_path, damage):
    proto = models.mlp()
    tensor = next(t for t in proto.graph.initializer if t.name == "w1")
    said = damage(tensor)
    message = refused(proto, tmp_path / "m.onnx")
    assert f"tensor w1: {said}" in message


def test_a_name_that_is_no_utf8_is_refused(tmp_path):
    data = models.mlp().SerializeToString().replace(b"logits", b"log\xff\xfes")
    assert "holds a name that is no UTF-8" in refused(data, tmp_path / "m.onnx")


def test_a_graph_that_makes_nothing_is_refused(tmp_path):
    proto = models.mlp()
    del proto.graph.output[:]
    assert "has no output" in refused(proto, tmp_path / "m.onnx")


@pytest.mark.parametrize("field", ["float_data", "int32_data", "string_data"])
def test_values_in_a_field_of_their_type_are_fine(tmp_path, field):
    proto = models.mlp()
    unused = {
        "float_data": helper.make_tensor("t", TensorProto.FLOAT, [2], [1.0, 2.0]),
        "int32_data": helper.make_tensor("t", TensorProto.UINT4, [3], [1, 2, 3]),
        "string_data": helper.make_tensor("t", TensorProto.STRING, [2], [b"\xff", b""]),
    }[field]
    proto.graph.initializer.append(unused)
    onnx.save(proto, tmp_path / "m.onnx")
    load_model(tmp_path / "m.onnx")


def external(tmp_path, **entries):
    """A model whose first weight lies in w.bin, with these entries changed."""
    folder = tmp_path / "model"
    folder.mkdir()
    proto = layer_models.one_layer("Gemm", 2, normal(1, 64, 32), normal(2, 32))
    path = folder / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    tensor = proto.graph.initializer[0]
    for entry in tensor.external_data:
        entry.value = entries.pop(entry.key, entry.value)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return proto, path


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"location": "../w.bin"}, "lies outside of the model's folder (got ../w.bin"),
        ({"location": "a/../../w.bin"}, "lies outside"),
        ({"location": "/etc/passwd"}, "lies outside of the model's folder (got /etc/passwd"),
        ({"location": "..\\w.bin"}, "lies outside"),
        ({"location": "a\0b"}, "lies outside of the model's folder (got a\\x00b"),
        ({"location": ""}, "lies outside"),
        ({"location": "."}, "is missing"),
        ({"location": "nowhere.bin"}, "is missing"),
        ({"offset": "-1"}, "is no number (got -1)"),
        ({"length": "many"}, "is no number (got many)"),
        ({"offset": str(2**62)}, "ends beyond its file's end"),
        ({"length": "4"}, "does not hold the values of its shape"),
    ],
)
def test_external_data_is_read_from_its_own_place_only(tmp_path, entries, words):
    (tmp_path / "w.bin").write_bytes(bytes(1 << 16))
    proto, path = external(tmp_path, **entries)
    assert words in refused(proto, path)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_does_not_lead_external_data_elsewhere(tmp_path, what):
    proto, path = external(tmp_path, location="w.bin" if what == "file" else "sub/w.bin")
    outside = tmp_path / "outside"
    outside.mkdir()
    (path.parent / "w.bin").rename(outside / "w.bin")
    if what == "file":
        (path.parent / "w.bin").symlink_to(outside / "w.bin")
    else:
        (path.parent / "sub").symlink_to(outside)
    assert "is a link that leads out of the model's folder" in refused(proto, path)


def test_a_deep_or_a_long_graph_is_read_or_refused(tmp_path):
    proto = models.mlp()
    proto.graph.node[-1].output[0] = "long_0"
    for k in range(3000):
        last = k == 2999
        names = [f"long_{k}"], ["logits" if last else f"long_{k + 1}"]
        proto.graph.node.append(helper.make_node("Relu", *names))
    onnx.save(proto, tmp_path / "long.onnx")
    assert len(load_model(tmp_path / "long.onnx").graph.graph) == 3004
    node = helper.make_node("Again", ["x"], ["logits"], domain="own")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    body = [helper.make_node("Again", ["a"], ["b"], domain="own")]
    recursive = models.mlp()
    recursive.graph.node[-1].CopyFrom(node)
    recursive.functions.append(helper.make_function("own", "Again", ["a"], ["b"], body, opsets))
    recursive.opset_import.append(helper.make_opsetid("own", 1))
    refused(recursive, tmp_path / "recursive.onnx")


def test_external_data_in_a_run_has_one_name(tmp_path):
    from calib.store import place

    _, path = external(tmp_path)
    (tmp_path / "run").mkdir()
    path.with_name("w.bin").rename(path.with_name("m.onnx.data"))
    for name in ("m.onnx", "m.onnx.data"):
        place(path.with_name(name), tmp_path / "run" / name)
    assert (tmp_path / "run" / "m.onnx").stat().st_nlink == 2
    for folder in (path.parent, tmp_path / "run"):
        assert (folder / "m.onnx.data").stat().st_nlink == 1
        data = np.fromfile(folder / "m.onnx.data", np.uint8)
        assert len(data) >= 4 * 64 * 32
