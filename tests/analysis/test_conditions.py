"""What is said of the machine that engines were timed on."""

import numpy as np
import pytest
import records

from calib.analysis.conditions import drift_pct, load_between, speed_warnings
from calib.backends.machine_state import MachineState
from calib.results import LoadRecord, PointRecord

QUIET = {
    "seconds": 10.0,
    "cores": 2,
    "own_cores": 1.9,
    "other_cores": 0.05,
    "stolen_cores": 0.0,
    "preemptions": 20,
    "throttled_seconds": 0.0,
    "heat_events": 0,
    "clock_mhz": (3000.0, 2990.0),
}


def noise(seed, count=50):
    return 10 * np.random.default_rng(seed).lognormal(0, 0.1, size=count)


def test_noise_without_a_trend_is_no_drift():
    found = [drift_pct(tuple(noise(seed))) for seed in range(300)]
    assert sum(value is not None for value in found) <= 9  # 1 % of 300, and three sigma


@pytest.mark.parametrize("shape", ["slope", "step"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_trend_is_found_with_its_size(shape, sign):
    ramp = np.linspace(0, 1, 60) if shape == "slope" else np.repeat([0.0, 1.0], 30)
    factor = 1 + sign * 0.3 * ramp
    found = drift_pct(tuple(noise(1, 60) * factor))
    first, last = np.median(factor[:20]), np.median(factor[-20:])
    assert found == pytest.approx(100 * (last / first - 1), abs=8)


def test_few_or_equal_runs_have_no_trend():
    assert drift_pct(tuple(range(1, 10))) is None
    assert drift_pct(tuple(range(1, 11))) == pytest.approx(100 * (9 / 2 - 1))
    assert drift_pct((2.0,) * 30) is None


def state(**changes):
    values = {
        "monotonic_seconds": 100.0,
        "cores": 2,
        "own_seconds": 7.0,
        "busy_seconds": 1000.0,
        "stolen_seconds": 1.0,
        "preemptions": 5,
        "throttled_seconds": 2.0,
        "heat_events": 3,
        "clock_mhz": 3000.0,
    }
    return MachineState(**{**values, **changes})


def test_a_load_is_the_difference_of_two_readings():
    after = state(
        monotonic_seconds=110.0,
        own_seconds=19.0,
        busy_seconds=1016.0,
        stolen_seconds=1.5,
        preemptions=25,
        throttled_seconds=2.25,
        heat_events=4,
        clock_mhz=2500.0,
    )
    assert load_between(state(), after) == LoadRecord(
        seconds=10.0,
        cores=2,
        own_cores=1.2,
        other_cores=0.4,
        stolen_cores=0.05,
        preemptions=20,
        throttled_seconds=0.25,
        heat_events=1,
        clock_mhz=(3000.0, 2500.0),
    )


def test_what_the_machine_does_not_tell_is_none_and_a_count_without_ourselves_is_not_believed():
    untold = dict.fromkeys(
        ("busy_seconds", "stolen_seconds", "throttled_seconds", "heat_events", "clock_mhz")
    )
    found = load_between(state(**untold), state(monotonic_seconds=101.0, **untold))
    assert found.other_cores is found.stolen_cores is found.throttled_seconds is None
    assert found.heat_events is found.clock_mhz is None
    sandbox = load_between(state(), state(monotonic_seconds=110.0, own_seconds=20.0))
    assert sandbox.other_cores is None
    rounded = load_between(
        state(), state(monotonic_seconds=110.0, own_seconds=20.0, busy_seconds=1012.9)
    )
    assert rounded.other_cores == 0.0


def point(batch_size=8, threads=2, **changes):
    load = LoadRecord(**{**QUIET, **changes})
    return PointRecord(batch_size=batch_size, threads=threads, load=load)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"other_cores": 0.8},
            "other processes used 0.8 of 2 processors while batch 8 on",
        ),
        ({"stolen_cores": 0.3}, "the hypervisor gave 0.3 of 2 processors to others"),
        ({"throttled_seconds": 4.0}, "held this process back for 4.0 of 10.0 s"),
        ({"heat_events": 7}, "slowed itself down for heat 7 times"),
        ({"clock_mhz": (3000.0, 2400.0)}, "clock moved from 3000 to 2400 MHz"),
        ({"other_cores": None, "preemptions": 2000}, "interrupted 100 times a second"),
        ({"threads": 4}, "4 threads share 2 processors"),
    ],
)
def test_each_kind_of_load_is_said(changes, said):
    (warning,) = speed_warnings([point(), point(batch_size=8, **changes)], {})
    assert said in warning


def test_a_quiet_machine_and_what_is_not_known_are_passed_over():
    unknown = dict.fromkeys(
        ("other_cores", "stolen_cores", "throttled_seconds", "heat_events", "clock_mhz")
    )
    assert speed_warnings([point(), point(**unknown)], {}) == ()
    too_short = point(seconds=0.2, other_cores=2.0, stolen_cores=1.0)
    assert speed_warnings([too_short], {}) == ()


def test_the_worst_point_speaks_for_all():
    points = [point(batch_size=size, other_cores=size / 10) for size in (4, 9, 7)]
    (warning,) = speed_warnings(points, {})
    assert "0.9 of 2 processors while batch 9" in warning


def timed(**changes):
    return records.latency(2.0).model_copy(update={"steady": True, "threads": 2, **changes})


def test_warm_ups_and_drifts_are_said_by_name_and_point():
    good = timed()
    latency = {
        "fp32": [good, timed(steady=False, warmup_runs=50)],
        "fp16": [timed(steady=None, warmup_runs=3), good],
        "int8": [timed(drift_pct=12.0), timed(drift_pct=-7.0, batch_size=1)],
    }
    moving, short, rose, fell = speed_warnings([], latency)
    assert "still moving" in moving
    assert "50 runs: fp32 at batch 8 on 2 threads" in moving
    assert "warm-ups of 3 runs are too short" in short
    assert "rose from round to round, by up to 12 %: int8 at batch 8 on 2 threads;" in rose
    assert "fell from round to round, by up to 7 %: int8 at batch 1 on 2 threads;" in fell
    assert speed_warnings([], {"fp32": [good, timed(drift_pct=3.0)]}) == ()


def test_long_lists_are_cut():
    (warning,) = speed_warnings([], {f"c{k}": [timed(steady=False)] for k in range(9)})
    assert "c3 at batch 8 on 2 threads and 5 more" in warning
