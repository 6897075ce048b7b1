"""Processes that share work: what dies is done again, what is wrong is said."""

import execution_checks as checks
import pytest

from calib.errors import BackendError
from calib.execution import LocalSpec, open_executor
from calib.execution.local import LocalExecutor


@pytest.fixture
def executor():
    return LocalExecutor(LocalSpec(workers=2))


def test_processes_share_the_work(executor, tmp_path):
    checks.shares_work(executor, tmp_path)


def test_a_killed_process_costs_its_shard_alone(executor, tmp_path):
    checks.does_a_dead_workers_shard_again(executor, tmp_path)


def test_a_shard_whose_processes_crash_ends_the_run(executor, tmp_path):
    message = r"shard 2 of 3: its worker died 3 times, .*signal 11"
    checks.ends_with_what_dies_again_and_again(executor, tmp_path, message)


def test_a_shard_killed_twice_is_told_to_want_memory(executor, tmp_path):
    harm = {"b": {"step": 1, "signal": "SIGKILL", "times": 99}}
    doing = checks.Doing(executor, tmp_path, harm)
    with pytest.raises(
        BackendError, match=r"shard 2 of 3 was killed 2 times, .*Take fewer workers"
    ):
        doing()
    assert doing.steps()["b"] == 2


def test_a_users_error_comes_out_as_in_one_process_and_ends_the_others(executor, tmp_path):
    checks.says_a_users_error_as_it_is(executor, tmp_path)


def test_a_fault_comes_out_with_its_last_words(executor, tmp_path):
    checks.says_the_last_words_of_a_fault(executor, tmp_path)


def test_a_killed_process_leaves_less_room_for_the_others(tmp_path):
    """Shard c, which waits for room, is not begun before the others have ended."""
    executor = LocalExecutor(LocalSpec(workers=2))
    done = checks.Doing(executor, tmp_path, {"a": {"step": 0, "signal": "SIGKILL"}})()
    names = [name for name, _, _ in done.lines()]
    assert names == ["b"] * 4 + ["c"] * 4 + ["a"] * 4


def test_the_config_says_how_many_and_jobs_overrides_it():
    spec = LocalSpec(workers=3)
    with open_executor(spec) as asked, open_executor(spec, 1) as overridden:
        assert (asked.workers, overridden.workers) == (3, 1)
