"""Whatever happens in a peer's process is a result, not a crash."""

import sys

import pytest

from benchmarks import peers


@pytest.fixture
def in_place_of_the_peer(tmp_path, monkeypatch):
    """Runs a script of the test's own where the peer's would run."""

    def put(code):
        (tmp_path / "quantize.py").write_text(f"import json, os, sys, time\n{code}")
        monkeypatch.setattr(peers, "HERE", tmp_path)
        monkeypatch.setattr(peers, "interpreter", lambda _: sys.executable)

    return put


def _quantized(folder, timeout=60):
    model, samples, target = (folder / name for name in ("m.onnx", "s.npz", "out/q.onnx"))
    return peers.quantized_by("nncf", "mixed", model, samples, target, timeout=timeout)


def test_what_the_process_measured_is_the_result(in_place_of_the_peer, tmp_path):
    in_place_of_the_peer(
        "assert sys.argv[1:3] == ['nncf', 'mixed'] and sys.argv[6:8] == ['16', 'transformer']\n"
        "open(sys.argv[-1], 'w').write(json.dumps({'seconds': 1.5, 'peak_bytes': 7}))"
    )
    target = tmp_path / "out" / "q.onnx"
    assert _quantized(tmp_path) == peers.PeerResult("nncf", "mixed", target, 1.5, 7, None)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (
            "print('started', flush=True); raise KeyError('no such node')",
            "KeyError: 'no such node'",
        ),
        ("sys.exit(3)", "exit status 3"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9; out of memory it is 9"),
    ],
)
def test_a_failure_is_its_last_words(in_place_of_the_peer, tmp_path, code, error):
    in_place_of_the_peer(code)
    assert _quantized(tmp_path) == peers.PeerResult("nncf", "mixed", None, None, None, error)


def test_a_process_that_takes_too_long_is_stopped(in_place_of_the_peer, tmp_path):
    in_place_of_the_peer("time.sleep(60)")
    assert _quantized(tmp_path, timeout=0.5).error == "stopped after 0.5 s"


def test_an_unknown_method_is_the_callers_mistake(tmp_path):
    with pytest.raises(ValueError, match="nncf max"):
        peers.quantized_by("nncf", "max", tmp_path, tmp_path, tmp_path)
