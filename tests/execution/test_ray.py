"""Ray's actors do what processes do: on a real Ray of this machine, started once."""

import os
import signal
import subprocess
import sys
import threading
import time

import execution_checks as checks
import psutil
import pytest
from conftest import ROOT

from calib.errors import BackendError, ConfigError
from calib.execution import LocalSpec, RaySpec, open_executor
from calib.execution.ray_executor import RayExecutor


@pytest.fixture(scope="module")
def executor():
    handler = signal.getsignal(signal.SIGTERM)
    executor = RayExecutor(RaySpec(workers=2))
    yield executor
    assert signal.getsignal(signal.SIGTERM) is handler
    executor.close()
    assert not ray_processes(os.getpid())


def ray_processes(parent):
    found = psutil.Process(parent).children(recursive=True)
    return [process for process in found if "ray" in " ".join(process.cmdline())]


def test_actors_share_the_work(executor, tmp_path, capfd):
    checks.shares_work(executor, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_killed_actor_costs_its_shard_alone(executor, tmp_path, capfd):
    checks.does_a_dead_workers_shard_again(executor, tmp_path)
    time.sleep(0.5)
    assert capfd.readouterr() == ("", "")


def test_a_shard_whose_actors_crash_ends_the_run(executor, tmp_path):
    message = r"shard 2 of 3: its worker died 3 times, .*worker"
    checks.ends_with_what_dies_again_and_again(executor, tmp_path, message)


def test_a_users_error_comes_out_as_in_one_process_and_ends_the_others(executor, tmp_path):
    checks.says_a_users_error_as_it_is(executor, tmp_path)


def test_a_fault_comes_out_with_its_last_words(executor, tmp_path):
    checks.says_the_last_words_of_a_fault(executor, tmp_path)
