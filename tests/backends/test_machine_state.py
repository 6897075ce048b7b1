"""Reading the machine: counters of control groups, heat, processes."""

import subprocess
import sys
import time

import pytest

from calib.backends.machine_state import heat_events, read_machine_state, throttled_seconds

BURN = "import time\nwhile time.process_time() < 0.4: pass"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("groups", "file", "line", "seconds"),
    [
        ("0::/a/b\n", "a/b/cpu.stat", "throttled_usec 2500000", 2.5),
        ("0::/a/b\n", "a/cpu.stat", "throttled_usec 1500000", 1.5),
        ("0::/\n", "cpu.stat", "throttled_usec 0", 0.0),
        (
            "4:memory:/m\n3:cpu,cpuacct:/c\n",
            "cpu,cpuacct/c/cpu.stat",
            "throttled_time 5000000",
            0.005,
        ),
        ("1:cpu:/elsewhere\n0::/\n", "cpu/cpu.stat", "throttled_time 1000000000", 1.0),
    ],
)
def test_quotas_of_either_kind_of_control_group_are_read(tmp_path, groups, file, line, seconds):
    write(tmp_path / "proc" / "self" / "cgroup", groups)
    write(tmp_path / "sys" / "fs" / "cgroup" / file, f"nr_periods 9\n{line}\n")
    found = throttled_seconds(tmp_path / "proc", tmp_path / "sys")
    assert found == pytest.approx(seconds)


def test_without_control_groups_or_counters_there_is_no_reading(tmp_path):
    assert throttled_seconds(tmp_path, tmp_path) is None
    write(tmp_path / "self" / "cgroup", "0::/a\n")
    write(tmp_path / "fs" / "cgroup" / "a" / "cpu.stat", "usage_usec 7\n")
    assert throttled_seconds(tmp_path, tmp_path) is None
    assert heat_events(tmp_path, [0, 1]) is None


def test_heat_counts_each_core_and_the_package_once(tmp_path):
    for number, (core, package) in enumerate([(3, 10), (4, 10), (100, 10)]):
        folder = tmp_path / "devices" / "system" / "cpu" / f"cpu{number}" / "thermal_throttle"
        write(folder / "core_throttle_count", f"{core}\n")
        write(folder / "package_throttle_count", f"{package}\n")
    assert heat_events(tmp_path, [0, 1]) == 3 + 4 + 10


def test_the_time_of_children_is_our_own_and_counters_only_grow():
    before = read_machine_state()
    burn = time.process_time() + 0.1
    while time.process_time() < burn:
        pass
    subprocess.run([sys.executable, "-c", BURN], check=True)
    after = read_machine_state()
    assert after.own_seconds - before.own_seconds >= 0.45
    assert after.monotonic_seconds > before.monotonic_seconds
    assert after.cores == before.cores >= 1
    for name in ("busy_seconds", "stolen_seconds", "throttled_seconds", "heat_events"):
        first, second = getattr(before, name), getattr(after, name)
        assert (first is None) == (second is None)
        assert first is None or second >= first
