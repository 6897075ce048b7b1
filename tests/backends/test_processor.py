"""What is asked of ONNX Runtime follows from the processor."""

import pytest

from calib.backends import processor
from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec


@pytest.fixture
def of_machine(monkeypatch):
    def set_machine(machine, flags):
        monkeypatch.setattr(processor.platform, "machine", lambda: machine)
        monkeypatch.setattr(processor, "processor_flags", lambda: frozenset(flags.split()))

    return set_machine


@pytest.mark.parametrize(
    ("machine", "flags", "exact", "unsigned"),
    [
        ("x86_64", "sse2 avx2", False, False),
        ("x86_64", "avx2 avx_vnni", True, True),
        ("x86_64", "avx2 avx512f avx512_vnni", True, True),
        ("x86_64", "", False, False),
        ("aarch64", "", True, False),
    ],
)
def test_exact_sums_and_unsigned_kernels(of_machine, machine, flags, exact, unsigned):
    of_machine(machine, flags)
    assert (processor.sums_bytes_exactly(), processor.prefers_unsigned()) == (exact, unsigned)
    described = OnnxRuntime(OnnxRuntimeSpec()).describe()["8-bit sums"]
    assert ("x64quantprecision" in described) is not exact


def test_weights_in_7_bits_need_no_exact_kernels(of_machine):
    of_machine("x86_64", "sse2 avx2")
    plain, reduced = (OnnxRuntime(OnnxRuntimeSpec(), reduced=r) for r in (False, True))
    exact = {"session.x64quantprecision": "1"}
    entries = reduced.session_settings()["entries"]
    assert plain.session_settings()["entries"] == entries | exact
    assert not exact.keys() & entries.keys()
    assert "7 bits" in reduced.describe()["8-bit sums"]
