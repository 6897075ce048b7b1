"""The timing loop on a device, around matrix products by CUDA's own library.

`pytest -m gpu` on a machine with a GPU, cuda-bindings and cuBLAS; TensorRT is not needed. With -s
they print what they measured.
"""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from gpu.gemm import (
    FP16,
    INT8,
    PLAIN,
    OnlyARunTells,
    Synchronous,
    device,
    int8,
    opened,
    say,
)
from small import ROOT

from calib.analysis.throughput import latency_record, time_engines, warm_up
from calib.backends.cuda_timing import Timing
from calib.backends.gpu_state import GpuWatch, clock_warning
from calib.errors import BackendError

pytestmark = pytest.mark.gpu
GRAPH = Timing(cuda_graph=True, transfers=False, spin_wait=True)
EVERY_TIMING = [Timing(*switches) for switches in itertools.product((False, True), repeat=3)]


@pytest.fixture(scope="module", autouse=True)
def cuda():
    """CUDA's runtime, where there is a device and cuBLAS."""
    return device()


def product(x, w):
    return x.astype(np.int32) @ w.astype(np.int32).T


@pytest.mark.parametrize("timing", EVERY_TIMING, ids=str)
def test_int8_products_are_numpys_however_they_are_launched(timing):
    rng = np.random.default_rng(1)
    w = int8(rng, 96, 256)
    with opened(INT8, w, timing) as engine:
        for rows in (32, 32, 8, 64):  # the same shapes with other values, then other shapes
            x = int8(rng, rows, 256)
            np.testing.assert_array_equal(engine.infer({"x": x})["y"], product(x, w))
            assert engine.timed_infer({"x": x}) > 0
            np.testing.assert_array_equal(
                engine.infer({"x": -(x // 2)})["y"], product(-(x // 2), w)
            )
        assert engine.timing == timing


@pytest.mark.parametrize("timing", [PLAIN, GRAPH], ids=["plain", "graph"])
def test_fp16_products_are_within_rounding_of_float64(timing):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(64, 512)).astype(np.float16)
    w = rng.normal(size=(128, 512)).astype(np.float16)
    with opened(FP16, w, timing) as engine:
        y = engine.infer({"x": x})["y"]
    exact = x.astype(np.float64) @ w.astype(np.float64).T
    # Sums of 512 products of halves, which are exact, in float32.
    bound = 512 * 2.0**-23 * (np.abs(x).astype(np.float64) @ np.abs(w).astype(np.float64).T)
    assert (np.abs(y - exact) <= bound).all()
    assert np.abs(y - exact).max() > 0


def test_a_graph_and_plain_launches_give_the_same_bits():
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(2, 128, 128)).astype(np.float16)
    found = []
    for timing in (PLAIN, GRAPH):
        with opened(FP16, w, timing, repeats=4) as engine:
            engine.timed_infer({"x": x})
            found.append(engine.infer({"x": x})["y"])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("timing", EVERY_TIMING, ids=str)
def test_events_tell_the_work_and_never_more_than_the_clock_on_the_wall(timing):
    rng = np.random.default_rng(4)
    x, w = int8(rng, 256, 4096), int8(rng, 4096, 4096)
    medians = []
    for repeats in (200, 400):
        with opened(INT8, w, timing, repeats=repeats) as engine:
            engine.timed_infer({"x": x})
            times = []
            for _ in range(7):
                begin = time.perf_counter()
                device = engine.timed_infer({"x": x})
                wall = (time.perf_counter() - begin) * 1e3
                assert device < wall
                times.append((device, wall))
            device, wall = np.median(times, axis=0)
            assert device > 0.5 * wall
            medians.append(device)
    assert 1.6 < medians[1] / medians[0] < 2.4
    say(f"200 and 400 products {medians[0]:.3f}, {medians[1]:.3f} ms; wall {wall:.3f} ms; {timing}")


def test_waiting_takes_the_processor_only_if_it_spins():
    x, w = np.ones((1024, 8192), np.int8), np.ones((16384, 8192), np.int8)
    share = {}
    for spins in (True, False):
        with opened(INT8, w, Timing(True, False, spins), repeats=200) as engine:
            engine.timed_infer({"x": x})
            wall, busy = time.perf_counter(), time.process_time()
            for _ in range(5):
                engine.timed_infer({"x": x})
            share[spins] = (time.process_time() - busy) / (time.perf_counter() - wall)
    say(f"a processor is busy {share[True]:.0%} of the time if it spins, else {share[False]:.0%}")
    assert share[False] < 0.6 * share[True]


def test_transfers_are_timed_only_if_asked_for():
    rng = np.random.default_rng(5)
    x, w = int8(rng, 32768, 2048), int8(rng, 16, 2048)  # 64 MiB in, 2 MiB out
    medians = {}
    for transfers in (False, True):
        with opened(INT8, w, Timing(False, transfers, True)) as engine:
            engine.timed_infer({"x": x})
            medians[transfers] = np.median([engine.timed_infer({"x": x}) for _ in range(7)])
    per_second = x.nbytes / (medians[True] - medians[False]) / 1e6
    assert medians[True] > 2 * medians[False]
    assert per_second < 1000  # GB/s: no bus is faster; else the copy was not waited for
    say(
        f"without transfers {medians[False]:.3f} ms, with them {medians[True]:.3f} ms: "
        f"{per_second:.1f} GB/s"
    )


def in_turns(engines, x):
    """A record for each engine, and the GPU's readings meanwhile."""
    watch, done = GpuWatch(), []
    warmups = warm_up(engines, {"x": x}, runs_min=6, runs_max=60, seconds_max=10, tolerance_pct=5)
    samples = time_engines(
        engines,
        {"x": x},
        runs=120,
        seconds_max=20,
        on_run=watch.beside(done.append),
    )
    assert sum(done) == sum(len(values) for values in samples.values())
    found = {
        name: latency_record(v, {"x": x}, warmups[name], len(x)) for name, v in samples.items()
    }
    return found, watch.readings


@pytest.mark.parametrize("timing", [PLAIN, GRAPH], ids=["plain", "graph"])
@pytest.mark.parametrize("size", [256, 4096])
def test_int8_and_fp16_in_turns_make_records(size, timing):
    rng = np.random.default_rng(6)
    x, w = int8(rng, size, size), int8(rng, size, size)
    with opened(INT8, w, timing) as fast, opened(FP16, w, timing) as slow:
        records, readings = in_turns({"int8": fast, "fp16": slow}, x)
    texts = []
    for name, record in records.items():
        assert record.runs == len(record.samples_ms) == 120
        assert 0 < record.p50_ms <= record.p90_ms <= record.p99_ms <= max(record.samples_ms)
        # Faster than any device could be, if the work were not waited for.
        rate = 2 * size**3 / record.p50_ms * 1e-9
        assert rate < 1e4
        texts.append(
            f"{name} p50 {record.p50_ms:.4f}, p90 {record.p90_ms:.4f}, p99 {record.p99_ms:.4f}, "
            f"first {record.samples_ms[0]:.4f} ms, {rate:.0f} T/s"
        )
    ratio = records["fp16"].p50_ms / records["int8"].p50_ms
    clocks = sorted({state.sm_clock_mhz for state in readings})
    say(
        f"{size}: {'; '.join(texts)}; INT8 is {ratio:.2f}x as fast; {timing}; "
        f"SM clocks {clocks} MHz; {clock_warning(readings) or 'no warning'}"
    )


def test_too_large_a_batch_is_one_error_and_leaves_all_as_it_was(cuda):
    _, total = cuda.call("cudaMemGetInfo")
    x = np.broadcast_to(np.int8(1), (total // 64, 128))  # twice what there is, held by one byte
    small = np.ones((8, 128), np.int8)
    with opened(INT8, np.ones((16, 128)), GRAPH) as engine:
        engine.infer({"x": small})
        before, _ = cuda.call("cudaMemGetInfo")
        with pytest.raises(BackendError, match=r"out of memory.*for [\d,]+ bytes of x.*batch"):
            engine.infer({"x": x})
        after, _ = cuda.call("cudaMemGetInfo")
        assert after >= before
        assert (engine.infer({"x": small})["y"] == 128).all()


def test_what_the_engine_refuses_is_an_error_that_says_what(cuda):
    with opened(INT8, np.ones((16, 128))) as engine:
        with pytest.raises(BackendError, match=r"input x: this shape is refused \(got \(8, 64\)"):
            engine.infer({"x": np.ones((8, 64), np.int8)})
        with pytest.raises(BackendError, match=r"inputs: are others \(got z; expected x\)"):
            engine.infer({"z": np.ones((8, 128), np.int8)})
        with pytest.raises(BackendError, match=r"dtype \(got float32; expected int8\)"):
            engine.infer({"x": np.ones((8, 128), np.float32)})
        assert (engine.infer({"x": np.ones((8, 128), np.int8)})["y"] == 128).all()
    # cuBLAS takes no INT8 rows whose length is not a multiple of 4.
    with opened(INT8, np.ones((16, 5))) as engine:
        for _ in range(2):
            with pytest.raises(BackendError, match="engine: refused to run"):
                engine.timed_infer({"x": np.ones((8, 5), np.int8)})
    with (
        opened(INT8, np.ones((16, 128)), kind=OnlyARunTells) as engine,
        pytest.raises(BackendError, match=r"tensor y: its shape depends on values"),
    ):
        engine.infer({"x": np.ones((8, 128), np.int8)})


def test_an_engine_that_cannot_be_captured_runs_without_a_graph_and_says_so():
    rng = np.random.default_rng(7)
    x, w = int8(rng, 32, 64), int8(rng, 32, 64)
    with opened(INT8, w, GRAPH, kind=Synchronous) as engine:
        assert engine.timed_infer({"x": x}) > 0
        np.testing.assert_array_equal(engine.infer({"x": x})["y"], product(x, w))
        assert engine.timing == PLAIN


@pytest.mark.parametrize("launch", ["plain", "graph"])
def test_a_lost_device_is_told_by_what_lost_it(launch, cuda):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "astray.py"), launch],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), *sys.path]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    say(done.stdout.strip())
    assert (done.returncode, done.stderr) == (2, "")
    assert "cudaErrorIllegalAddress" in done.stdout
    assert "run again" in done.stdout
    assert done.stdout.count("\n") == 1
    cuda.call("cudaDeviceSynchronize")  # the device still serves this process


def test_closing_gives_back_all_memory(cuda):
    x, w = np.ones((4096, 4096), np.int8), np.ones((4096, 4096))

    def once():
        with opened(INT8, w, GRAPH) as engine:
            for rows in (4096, 64, 2048):
                engine.timed_infer({"x": x[:rows]})
            free, _ = cuda.call("cudaMemGetInfo")
        engine.close()  # once more does no harm
        return free

    once()  # libraries load their kernels in a first run, and keep them
    before, _ = cuda.call("cudaMemGetInfo")
    inside = [once() for _ in range(20)]
    after, _ = cuda.call("cudaMemGetInfo")
    assert max(inside) < before
    assert after >= before
    say(f"free before {before:,}, within {inside[-1]:,}, after {after:,} bytes")
