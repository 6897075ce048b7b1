"""Stages are computed once, appear whole, and damage costs one stage, never a wrong number."""

import multiprocessing
from pathlib import Path

import pytest

from calib.errors import StoreError
from calib.store import Store, digest_from_key, write_atomically


class Maker:
    """Counts how often a stage is computed."""

    def __init__(self, text="result"):
        self.calls = 0
        self.text = text

    def __call__(self, folder):
        self.calls += 1
        (folder / "inner").mkdir()
        (folder / "inner" / "a.txt").write_text(self.text)


def test_a_stage_is_made_once_for_each_key(tmp_path):
    store, make = Store(tmp_path), Maker()
    first = store.stage("s", {"a": 1, "b": 2}, make)
    again = store.stage("s", {"b": 2, "a": 1}, make)
    other = store.stage("s", {"a": 1, "b": 3}, make)
    elsewhere = store.stage("t", {"a": 1, "b": 2}, make)
    assert make.calls == 3
    assert (first.reused, again.reused, other.reused) == (False, True, False)
    assert first.path == again.path
    assert len({first.digest, other.digest, elsewhere.digest}) == 3


@pytest.mark.parametrize("damage", ["changed", "truncated", "removed", "added", "manifest"])
def test_a_damaged_stage_is_made_again(tmp_path, damage):
    store, make = Store(tmp_path), Maker()
    folder = store.stage("s", {}, make).path
    target = folder / "inner" / "a.txt"
    match damage:
        case "changed":
            target.write_text("resulT")
        case "truncated":
            target.write_text("")
        case "removed":
            target.unlink()
        case "added":
            (folder / "b.txt").write_text("")
        case "manifest":
            (folder / "manifest.json").write_text("{")
    found = store.stage("s", {}, make)
    assert not found.reused
    assert (found.path / "inner" / "a.txt").read_text() == "result"
    assert sorted(p.name for p in found.path.iterdir()) == ["inner", "manifest.json"]


def test_a_stage_that_fails_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "half.txt").write_text("half")
        raise RuntimeError("broken")

    store = Store(tmp_path)
    with pytest.raises(RuntimeError, match="broken"):
        store.stage("s", {}, fail)
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"] == []
    assert not store.stage("s", {}, Maker()).reused


def _stage_and_log(root):
    def make(folder):
        with (root / "log").open("a") as log:
            log.write("x")
        (folder / "a.txt").write_text("result")

    Store(root / "store").stage("s", {}, make)


def test_processes_that_want_the_same_stage_make_it_once(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_stage_and_log, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0, 0, 0]
    assert (tmp_path / "log").read_text() == "x"


def test_a_store_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write here.*output\.reports"):
        Store(tmp_path / "file" / "store").stage("s", {}, Maker())


def test_writing_replaces_a_file_or_leaves_it(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_atomically(path, "one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    with pytest.raises(StoreError, match="cannot write here"):
        write_atomically(path / "b.txt", "three")


def test_the_digest_does_not_depend_on_the_order_of_keys():
    assert digest_from_key({"a": 1, "b": [1, 2]}) == digest_from_key({"b": [1, 2], "a": 1})
    assert digest_from_key({"a": 1}) != digest_from_key({"a": 1.5})
    assert Path(digest_from_key({})).name == digest_from_key({})
