"""What can be proved of timing and identity without a GPU."""

import pytest

from calib.backends.cuda_runtime import load_cuda
from calib.backends.cuda_timing import Timing
from calib.backends.gpu_state import GpuState, GpuWatch, clock_warning
from calib.backends.tensorrt_runtime import refuse_unfit
from calib.backends.tensorrt_specs import TimingSpec
from calib.backends.tensorrt_timing import open_timed_engine, timing_from_spec
from calib.engine_record import EngineIdentity
from calib.errors import BackendError


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("10.13.3.9", Timing(cuda_graph=False, transfers=True, spin_wait=False)),
        ("8.6.1", Timing(cuda_graph=False, transfers=True, spin_wait=False)),
        ("11.4.0.106", Timing(cuda_graph=True, transfers=False, spin_wait=True)),
    ],
)
def test_what_is_not_given_is_trtexecs_default_of_that_version(version, expected):
    assert timing_from_spec(TimingSpec(), version) == expected
    given = timing_from_spec(TimingSpec(cuda_graph=True, transfers=True, spin_wait=True), version)
    assert given == Timing(cuda_graph=True, transfers=True, spin_wait=True)


def state(clock, *slowed_by):
    return GpuState(
        sm_clock_mhz=clock,
        memory_clock_mhz=1,
        temperature_celsius=50,
        memory_used_bytes=1,
        slowed_by=slowed_by,
    )


def test_a_clock_that_moves_is_told_and_one_that_stays_is_not():
    assert "between 1000 and 1500 MHz while" in clock_warning([state(1000), state(1500)])
    dip = [state(1980), state(1400, "its power limit"), state(1980)]
    assert "between 1400 and 1980 MHz, held down by its power limit, while" in clock_warning(dip)
    assert clock_warning([state(1000), state(1040)]) == ""
    assert clock_warning([state(1000)]) == clock_warning([]) == ""


def test_a_watch_that_is_not_wanted_reads_nothing_and_passes_everything_on():
    seen = []
    watch = GpuWatch(wanted=False)
    for count in (2, 3):
        watch.beside(seen.append)(count)
    assert (seen, watch.readings) == ([2, 3], [])


def test_an_error_of_cuda_is_one_message_with_its_name_and_words():
    pytest.importorskip("cuda.bindings.runtime")
    # No such device, or no driver at all.
    with pytest.raises(
        BackendError, match=r"CUDA cudaSetDevice: failed \(got cudaError\w+, [\w ]+\)"
    ):
        load_cuda().call("cudaSetDevice", 1_000_000)


def test_an_engine_of_another_version_or_gpu_is_refused_with_the_reason():
    identity = EngineIdentity(
        backend="tensorrt_rtx",
        version="1.7.1",
        target="8.9",
        model_sha256="0",
        profile={},
        flags={},
    )
    refuse_unfit(identity, "1.7.1", "8.9", "a.plan")
    with pytest.raises(BackendError, match=r"another TensorRT \(got 1\.7\.1; expected 1\.8\.0\)"):
        refuse_unfit(identity, "1.8.0", "8.9", "a.plan")
    with pytest.raises(BackendError, match=r"another GPU \(got 8\.9; expected 12\.0\)"):
        refuse_unfit(identity, "1.7.1", "12.0", "a.plan")


def test_an_engine_that_cannot_be_timed_here_is_one_error(tmp_path):
    with (
        pytest.raises(BackendError, match="cannot be timed"),
        open_timed_engine(tmp_path / "a.plan", "no_such_tensorrt", Timing(True, True, True)),
    ):
        pass
