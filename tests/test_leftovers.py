"""What a killed run left is removed; what a live one fills is not."""

import multiprocessing
import os
import signal
import time

import pytest

from calib import leftovers
from calib.leftovers import hidden_file, hidden_folder, sweep
from calib.rundir import run_directory
from calib.store import Store, write_atomically

RUN_ID = "20261125-101112-123-abcdef"


def _fill(kind, folder, made):
    if kind == "stage":
        Store(folder).stage("s", {}, lambda partial: _wait(partial, made))
    elif kind == "scratch":
        with Store(folder).scratch() as partial:
            _wait(partial, made)
    elif kind == "run":
        with run_directory(folder, RUN_ID) as partial:
            _wait(partial, made)
    else:
        with hidden_file(folder, "out.npz") as file:
            file.write_bytes(b"half")
            _wait(folder, made)


def _wait(partial, made):
    (partial / "half").write_text("half")
    made.set()
    time.sleep(60)


@pytest.mark.parametrize("kind", ["stage", "scratch", "run", "file"])
def test_only_what_the_dead_left_is_removed(tmp_path, kind):
    context = multiprocessing.get_context("fork")
    made = context.Event()
    process = context.Process(target=_fill, args=(kind, tmp_path, made))
    process.start()
    assert made.wait(30)
    hidden = [p for p in tmp_path.rglob(".*") if p.suffix != ".lock"]
    assert len(hidden) == 1
    _look_in(kind, tmp_path)
    assert hidden[0].exists()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert hidden[0].exists()
    _look_in(kind, tmp_path)
    assert not hidden[0].exists()


def _look_in(kind, folder):
    if kind in ("stage", "scratch"):
        Store(folder).sweep()
    elif kind == "run":
        with run_directory(folder, RUN_ID[:-6] + "123456"):
            pass
    else:
        write_atomically(folder / "out.npz", "whole")


def test_what_others_made_is_removed_after_a_week_only(tmp_path):
    names = [".n.00000000-abcdefgh", ".n.abcdefgh", ".m.abcdefgh", "n.abcdefgh"]
    for name in names:
        (tmp_path / name).mkdir()
    assert sweep(tmp_path, "n") == ()
    for name in names:
        os.utime(tmp_path / name, (0, time.time() - 8 * 24 * 3600))
    assert sorted(p.name for p in sweep(tmp_path, "n")) == names[:2]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names[2:])


def test_without_locks_only_age_tells(tmp_path, monkeypatch):
    def none(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(leftovers.fcntl, "flock", none)
    with hidden_folder(tmp_path, "n") as folder:
        assert sweep(tmp_path, "n") == ()
        os.utime(folder, (0, 0))
        assert sweep(tmp_path, "n") == (folder,)


def test_a_link_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    os.utime(outside, (0, 0))
    (tmp_path / ".n.abcdefgh").symlink_to(outside)
    assert sweep(tmp_path, "n") == ()
    assert (outside / "kept").exists()
