"""How many instances of a model a machine like the measured one can hold."""

from calib.promotion.package import Package


def cpu_instances(package: Package, threads: int) -> int:
    """As many as have processors of their own, in half of the memory; at least one.

    Args:
        package: has the machine, and the peak memory of a process that only runs the candidate.
        threads: of one instance, as it was measured; 0 if that is not known.
    """
    machine, peak = package.result.environment, package.candidate.peak_memory_bytes
    if not threads:
        return 1
    count = machine.logical_cores // threads
    if peak:
        count = min(count, machine.memory_bytes // 2 // peak)
    return max(1, count)
