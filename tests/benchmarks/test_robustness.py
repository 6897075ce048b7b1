"""The robustness benchmark: a small sample of it ends well, and it notices what does not."""

import os
import random
import shutil
import signal
import sys
import time

import pytest

from benchmarks.robust import command as running
from benchmarks.robust import hostile, workspace
from benchmarks.robust.command import command
from benchmarks.robust.configs import bases, fuzzed
from benchmarks.robust.fuzz import count, scenario, text_job
from benchmarks.robust.kills import (
    ARGUMENTS,
    at_change,
    killed_and_again,
    leftovers,
    result_bytes,
)
from benchmarks.robust.onnx_files import broken_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return workspace.make(tmp_path_factory.mktemp("robust") / "whole")


def test_a_small_sample_ends_well(whole):
    jobs = [text_job(whole, kind, n) for kind in ("config", "model") for n in range(6)]
    jobs += [
        scenario(case.__name__, lambda own, case=case: case(workspace.make(own)))
        for case in (*hostile.CASES["code"], hostile.linked_image, hostile.name_in_an_error)
    ]
    found = count(jobs)
    assert found.cases == len(jobs)
    assert found.bad == []


def test_a_run_that_was_killed_is_run_again_to_the_same_bytes(whole, tmp_path):
    good = tmp_path / "good"
    shutil.copytree(whole, good)
    assert command(ARGUMENTS, good).code == 0
    wanted = result_bytes(good)
    assert {"models/int8-minmax/model.onnx", "statistics.npz", "verdict"} <= wanted.keys()

    def again(name, number, expected=wanted, *, changes):
        return killed_and_again(whole, tmp_path / name, number, expected, changes=changes)

    assert again("a", 200, changes=True) == ""
    assert again("b", 10**6, changes=True) == "was not killed: exit code 0"
    assert again("c", 9, {**wanted, "verdict": "another"}, changes=False) == "other results"


def test_what_a_kill_leaves_is_seen(whole, tmp_path):
    found = []
    for number in (60, 80, 120):
        own = tmp_path / str(number)
        shutil.copytree(whole, own)
        prepare = at_change(number, own / "reports")
        assert command(ARGUMENTS, own, prepare=prepare).code == -signal.SIGKILL
        found += leftovers(own)
    assert found


def _raise():
    raise KeyError("unforeseen")


@pytest.mark.parametrize(
    ("prepare", "problem"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "killed by SIGSEGV"),
        (_raise, "traceback"),
        (lambda: sys.exit(70), "fault"),
        (lambda: sys.exit(99), "exit code 99"),
        (lambda: sys.exit(2), "not one message"),
        (lambda: time.sleep(60), "hang"),
    ],
    ids=["crash", "traceback", "fault", "code", "silent", "hang"],
)
def test_a_bad_end_is_noticed(tmp_path, monkeypatch, prepare, problem):
    monkeypatch.setattr(running, "HANG_SECONDS", 2.0)
    assert command(["doctor"], tmp_path, prepare=prepare).problem == problem


def test_control_characters_and_a_second_message_are_noticed(tmp_path):
    def say(text):
        def prepare():
            sys.stderr.write(text)
            sys.exit(2)

        return prepare

    found = command([], tmp_path, prepare=say("error: a\nb\x1b[2J\n"))
    assert found.problem == "control characters"
    assert command([], tmp_path, prepare=say("error: a\nerror: b\n")).problem == "not one message"
    assert command([], tmp_path, prepare=say("error: a\nb: too\n")).problem == ""


def test_equal_seeds_make_equal_cases(whole, tmp_path):
    base = bases(whole)[0]
    assert fuzzed(base, random.Random(3)) == fuzzed(base, random.Random(3))
    texts = {fuzzed(base, random.Random(n)) for n in range(50)}
    assert len(texts) > 40
    models = set()
    for seed in (*range(40), *range(40)):
        broken_model(tmp_path / "m.onnx", random.Random(seed))
        models.add((tmp_path / "m.onnx").read_bytes())
    assert len(models) <= 40
    assert len(models) > 30
