"""What the operating system says of the processors, and of who uses them."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from calib.record import Record

_IDLE = frozenset(["idle", "iowait", "steal", "guest", "guest_nice"])
"""Guests' time is part of `user` and `nice` already."""


class MachineState(Record):
    """One reading. Counters grow from an arbitrary start; None is one that is not to be had."""

    monotonic_seconds: float
    cores: int
    own_seconds: float
    busy_seconds: float | None
    stolen_seconds: float | None
    preemptions: int
    throttled_seconds: float | None
    heat_events: int | None
    clock_mhz: float | None


def read_machine_state(proc: Path = Path("/proc"), system: Path = Path("/sys")) -> MachineState:
    """A reading, of the processors that this process may use.

    Args:
        proc: where Linux shows processes.
        system: where it shows devices and control groups.
    """
    usable = sorted(os.sched_getaffinity(0))
    busy, stolen = _system_seconds(usable)
    return MachineState(
        monotonic_seconds=time.monotonic(),
        cores=len(usable),
        own_seconds=_own_seconds(),
        busy_seconds=busy,
        stolen_seconds=stolen,
        preemptions=resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
        throttled_seconds=throttled_seconds(proc, system),
        heat_events=heat_events(system, usable),
        clock_mhz=_clock_mhz(usable),
    )


def _system_seconds(usable: list[int]) -> tuple[float | None, float | None]:
    """Seconds that the processors were busy with anything, and that a hypervisor took."""
    every = psutil.cpu_times(percpu=True)
    if not usable or usable[-1] >= len(every):  # some are switched off: numbers do not match
        return None, None
    times = [every[number]._asdict() for number in usable]
    busy = sum(sum(v for name, v in t.items() if name not in _IDLE) for t in times)
    return float(busy), float(sum(t.get("steal", 0.0) for t in times))


def _own_seconds() -> float:
    """Processor time of this process and all that it started, dead or alive."""
    dead = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + dead.ru_utime + dead.ru_stime
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            spent = child.cpu_times()
            total += spent.user + spent.system
    return total


def throttled_seconds(proc: Path, system: Path) -> float | None:
    """How long control groups' quotas held this process back, of either version of them."""
    found = []
    for path in _cgroup_files(proc, system / "fs" / "cgroup"):
        with suppress(OSError, ValueError):
            lines = path.read_text(encoding="ascii").splitlines()
            values = dict(line.split() for line in lines)
            if "throttled_usec" in values:
                found.append(int(values["throttled_usec"]) / 1e6)
            elif "throttled_time" in values:
                found.append(int(values["throttled_time"]) / 1e9)
    return max(found, default=None)


def _cgroup_files(proc: Path, root: Path) -> Iterator[Path]:
    """cpu.stat of this process's groups and those above them: a quota may be on any."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        mount = root / controllers if controllers else root
        group = Path(name.lstrip("/"))
        for level in (group, *group.parents):
            yield mount / level / "cpu.stat"


def heat_events(system: Path, usable: list[int]) -> int | None:
    """How often these processors, or what they sit in, slowed themselves down for heat."""
    cores: list[int] = []
    packages: list[int] = []
    for number in usable:
        folder = system / "devices" / "system" / "cpu" / f"cpu{number}" / "thermal_throttle"
        for name, counts in (("core", cores), ("package", packages)):
            with suppress(OSError, ValueError):
                text = (folder / f"{name}_throttle_count").read_text(encoding="ascii")
                counts.append(int(text))
    # Every processor of a package shows the package's count.
    return sum(cores) + max(packages, default=0) if cores or packages else None


def _clock_mhz(usable: list[int]) -> float | None:
    """The fastest clock: that of a processor at work, where others idle."""
    try:
        every = psutil.cpu_freq(percpu=True)
    except (AttributeError, OSError, NotImplementedError, RuntimeError):
        return None
    clocks = [every[number].current for number in usable if number < len(every)]
    return max(clocks, default=None) or None
