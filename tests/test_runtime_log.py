"""What native code writes to standard error reaches a file, never the screen."""

import os
import subprocess
import sys

import onnx
import pytest
from onnx import helper

from calib.errors import BackendError
from calib.runtime_log import runtime_log

NATIVE = b"\x1b[1;31m2026-11-25 10:00:00.1 [E:onnxruntime:, session.cc:1 Run] it broke\x1b[m\n\n"


def test_native_messages_are_kept_and_said_in_one_line(tmp_path, capfd):
    with runtime_log(tmp_path) as log:
        os.write(2, NATIVE)
        os.write(2, b"and more\n")
        sentence = log.keep(tmp_path)
    assert sentence == "the runtime reported 1 errors (runtime.log), first: it broke"
    text = (tmp_path / "runtime.log").read_text()
    assert text.endswith("it broke\nand more\n")
    assert "\x1b" not in text
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_warnings_are_kept_and_not_said(tmp_path):
    with runtime_log(tmp_path) as log:
        os.write(2, NATIVE.replace(b"[E:", b"[W:"))
        assert log.keep(tmp_path) is None
    assert "it broke" in (tmp_path / "runtime.log").read_text()


def test_without_messages_there_is_no_log(tmp_path):
    with runtime_log(tmp_path) as log:
        assert log.keep(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_says_where_the_log_is(tmp_path):
    def refused():
        with runtime_log(tmp_path):
            os.write(2, NATIVE)
            raise BackendError("model.onnx", "cannot run")

    with pytest.raises(BackendError, match=r"log is in .*runtime\.log"):
        refused()
    assert (tmp_path / "runtime.log").is_file()


def test_python_still_writes_to_the_screen(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from calib.runtime_log import runtime_log\n"
        f"with runtime_log(Path({str(tmp_path)!r})):\n"
        "    print('seen', file=sys.stderr); os.write(2, b'hidden')\n"
        "print('again', file=sys.stderr)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stderr == "seen\nagain\n"


def test_a_model_that_the_runtime_refuses_is_one_line_on_the_screen(workspace):
    """Of an operator that is declared, and that nothing implements for this type."""
    model = onnx.load("model.onnx")
    product = next(node for node in model.graph.node if node.op_type == "Relu")
    product.CopyFrom(helper.make_node("Relu", ["h2"], ["bits"], name="relu"))
    cast = [
        helper.make_node("Cast", ["bits"], ["b"], to=onnx.TensorProto.UINT16),
        helper.make_node("Relu", ["b"], ["r"]),
        helper.make_node("Cast", ["r"], ["h3"], to=onnx.TensorProto.FLOAT),
    ]
    at = list(model.graph.node).index(product)
    for node in reversed(cast):
        model.graph.node.insert(at + 1, node)
    onnx.save(model, "model.onnx")
    found = subprocess.run(
        [sys.executable, "-m", "calib", "run", "config.yaml"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1, found.stderr
    assert found.stderr.startswith("error: ")
