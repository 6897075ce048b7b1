"""What every executor must do, whatever its workers are."""

import json
import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from calib.errors import BackendError, DataError
from calib.execution import Work

STEPS = 4


class Doing:
    """Three shards of four steps each, on some executor."""

    def __init__(self, executor, folder: Path, harms=None, hangs=()):
        self.folder, self.log = folder, folder / "log"
        model = folder / "model.onnx"
        model.write_text("model", encoding="utf-8")
        beside = model.with_name("model.onnx.data")
        beside.write_text("+weights", encoding="utf-8")
        requests = [
            {"name": name, "steps": STEPS, "log": str(self.log), "harm": (harms or {}).get(name)}
            for name in "abc"
        ]
        self.work = Work("shared_work:handle", tuple(map(json.dumps, requests)), model, (beside,))
        self.executor = executor
        self.advanced, self.taken = [], {}

    def take(self, shard, folder):
        assert shard not in self.taken
        files = sorted(folder.iterdir())
        self.taken[shard] = {file.name: file.read_text(encoding="utf-8") for file in files}

    def __call__(self):
        target = self.folder / "target"
        target.mkdir()
        self.executor.run(self.work, target, self.advanced.append, self.take)
        return self

    def lines(self):
        return [line.split() for line in self.log.read_text(encoding="utf-8").splitlines()]

    def steps(self):
        return Counter(name for name, _, _ in self.lines())


def whole(done):
    """Every shard's files are there, once, and the bar has gone to its end and no further."""
    wanted = {
        shard: {
            "result": f"{name} model+weights",
            **{f"step-{step}": f"{name}.{step}" for step in range(STEPS)},
        }
        for shard, name in enumerate("abc")
    }
    assert done.taken == wanted
    assert sum(done.advanced) == 3 * STEPS
    assert min(done.advanced) > 0
    assert not list((done.folder / "target").iterdir())


def shares_work(executor, folder):
    done = Doing(executor, folder)()
    whole(done)
    assert done.steps() == {"a": STEPS, "b": STEPS, "c": STEPS}


def does_a_dead_workers_shard_again(executor, folder):
    done = Doing(executor, folder, {"b": {"step": 2, "signal": "SIGKILL"}})()
    whole(done)
    # Its two steps are lost, and nobody else's.
    assert done.steps() == {"a": STEPS, "b": STEPS + 2, "c": STEPS}


def ends_with_what_dies_again_and_again(executor, folder, message):
    harm = {"b": {"step": 1, "signal": "SIGSEGV", "times": 99}}
    doing = Doing(executor, folder, harm)
    with pytest.raises(BackendError, match=message):
        doing()
    assert doing.steps()["b"] == 3


def says_a_users_error_as_it_is(executor, folder):
    harms = {"b": {"step": 1, "kind": "data"}, "a": {"step": 1, "hangs": True}}
    doing = Doing(executor, folder, harms)
    with pytest.raises(DataError, match=re.escape("row 40: is torn (got 3; expected 4). Mend it.")):
        doing()
    for pid in {pid for _, _, pid in doing.lines()}:
        ended(int(pid))


def says_the_last_words_of_a_fault(executor, folder):
    doing = Doing(executor, folder, {"b": {"step": 1}})
    with pytest.raises(BackendError, match=r"shard 2 of 3 .*ValueError: no such picture"):
        doing()


def kept(store):
    """What a run has kept of its passes over data, by path; without the seconds they took."""
    files = [*store.glob("observe/*/statistics.npz"), *store.glob("outputs/*/outputs/*.json")]
    assert files
    return {
        path.relative_to(store): re.sub(rb'"runtime": *[0-9.e+-]+', b"", path.read_bytes())
        for path in files
    }


def ended(pid, seconds=10.0):
    """A process is gone, or soon will be."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} lives")
