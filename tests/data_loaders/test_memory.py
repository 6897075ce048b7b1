"""The memory that can still be had, in a control group of either kind."""

import psutil
import pytest

from data_loaders import memory


@pytest.mark.parametrize("version", [1, 2])
def test_the_smallest_group_above_counts_and_caches_are_free(tmp_path, monkeypatch, version):
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    unlimited = {1: str(2**63 - 4096), 2: "max"}[version]
    for folder, limit in (("a/b", unlimited), ("a", "900"), (".", unlimited)):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / names[0]).write_text(f"{limit}\n")
        (tmp_path / folder / names[1]).write_text("700\n")
        (tmp_path / folder / "memory.stat").write_text(f"cache 5\n{names[2]} 200\n")
    monkeypatch.setattr(memory, f"_V{version}", tmp_path)
    own = {1: "9:cpu:/x\n4:memory:/a/b\n", 2: "0::/a/b\n"}[version]
    monkeypatch.setattr(memory, "_OWN", tmp_path / "own")
    (tmp_path / "own").write_text(own)
    assert memory.available_bytes() == 400
    (tmp_path / "own").write_text(own.replace("/a/b", "/elsewhere/of/the/host"))
    assert memory.available_bytes() > 10**6


def test_the_limit_of_the_process_counts(monkeypatch):
    used = psutil.Process().memory_info().vms
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (used + 10**8, used + 10**8))
    assert 0 <= memory.available_bytes() <= 10**8 + 10**7


def test_what_is_free_is_no_more_than_the_machine_has():
    assert 0 < memory.available_bytes() <= psutil.virtual_memory().total
