"""How much memory this process can still have."""

import resource
from pathlib import Path

import psutil

_OWN = Path("/proc/self/cgroup")
_V2 = Path("/sys/fs/cgroup")
_V1 = Path("/sys/fs/cgroup/memory")


def available_bytes() -> int:
    """What can be had without anybody being killed: the least of machine, control group and limit.

    Caches that the system would give up for it count as free.
    """
    bounds = [int(psutil.virtual_memory().available), *_cgroup_bounds()]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        bounds.append(soft - int(psutil.Process().memory_info().vms))
    return max(min(bounds), 0)


def _cgroup_bounds() -> list[int]:
    """For each control group that this process is in: its limit less what it uses."""
    try:
        lines = _OWN.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = _V1
        elif not controllers:
            names, root = ("memory.max", "memory.current", "inactive_file"), _V2
        else:
            continue
        # In a container the path is the host's, and the group's own files lie at the root.
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(root):
                found += _bound(folder, *names)
    return found


def _bound(folder: Path, limit_name: str, usage_name: str, cache_name: str) -> list[int]:
    try:
        limit = (folder / limit_name).read_text(encoding="ascii").strip()
        if limit == "max":
            return []
        usage = int((folder / usage_name).read_text(encoding="ascii"))
        stat = dict(
            line.split(" ", 1)
            for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        )
        return [int(limit) - usage + int(stat.get(cache_name, 0))]
    except (OSError, ValueError):
        return []
