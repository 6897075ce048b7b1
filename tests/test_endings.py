"""Whatever ends a command: one message, an exit code, and no traceback on the screen."""

import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small import ROOT

from calib import cli
from calib.cli import main
from calib.endings import Termination, terminable
from calib.errors import ConfigError
from calib.terminal import SafeConsole
from data_loaders.printable import printable, visible


def ended(monkeypatch, capsys, error, command="run"):
    """Exit code and standard error of a command in which this was raised."""

    def fail(*_):
        raise error

    monkeypatch.setattr(cli, "run_experiment", fail)
    monkeypatch.setattr(cli, "read_model", fail)
    argument = "config.yaml" if command == "run" else "model.onnx"
    monkeypatch.setattr(sys, "argv", ["calib", command, argument])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return stopped.value.code, said


def test_a_fault_of_ours_says_so_and_where_the_details_are(workspace, monkeypatch, capsys):
    code, said = ended(monkeypatch, capsys, KeyError("no \x1b[31mtensor"))
    assert code == 70
    assert "fault of calib" in said
    assert "KeyError: 'no \\x1b[31mtensor'" in said
    assert "report it" in said
    (log,) = Path("reports").glob("fault-*.log")
    assert str(log) in said
    text = log.read_text(encoding="utf-8")
    assert "Traceback" in text
    assert "KeyError" in text
    assert "calib run config.yaml" in text


def test_a_fault_before_there_is_a_folder_is_logged_too(workspace, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(workspace))
    code, said = ended(monkeypatch, capsys, RuntimeError("odd"), "check")
    assert code == 70
    (log,) = workspace.glob("fault-*.log")
    assert str(log) in said


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted; finished stages are kept"),
        (Termination(), 143, "terminated; finished stages are kept"),
        (MemoryError("Unable to allocate 9 EiB"), 2, "not enough (MemoryError: Unable to allocate"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 2, "a/b: cannot write here"),
        (ConfigError("a", "is wrong"), 2, "error: a: is wrong"),
        (EOFError("end"), 70, "EOFError: end"),
    ],
)
def test_each_ending_has_its_code(workspace, monkeypatch, capsys, command, error, code, words):
    monkeypatch.setattr("tempfile.tempdir", str(workspace))
    assert words in (found := ended(monkeypatch, capsys, error, command))[1]
    assert found[0] == code


def test_a_message_is_one_line_without_control_characters():
    error = ConfigError(
        "a\nb", "is \x1b]0;owned\x07", got="\u202egnp.exe" + "x" * 5000, fix="Do\r\nthis."
    )
    text = str(error)
    assert text.isprintable()
    assert "a b: is \\x1b]0;owned\\x07 (got \\u202egnp.exexxx" in text
    assert text.endswith("(5,008 characters)). Do this.")
    assert str(ConfigError("a", "is wrong", more=["b: too"])) == "a: is wrong\nb: too"


def test_the_terminal_obeys_no_control_character_of_a_name():
    from rich.table import Table

    file = io.StringIO()
    console = SafeConsole(file=file, width=200)
    table = Table("name")
    table.add_row("\x1b[2J\x9b31m\ud800")
    console.print(table)
    console.print("a\x1b[1Ab\nc", markup=False)
    lines = file.getvalue().split("\n")
    assert all(line.isprintable() for line in lines)
    assert any("\\x1b[2J\\x9b31m\\ud800" in line for line in lines)
    assert "a\\x1b[1Ab" in lines
    assert "c" in lines


def test_what_can_be_read_stays_as_it_is():
    for text in ("Größe 数 🙂 é", "a b", ""):
        assert printable(text) == visible(text) == text


def test_sigterm_ends_a_run_like_ctrl_c_and_finished_stages_are_kept(workspace):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "calib", "run", "config.yaml"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        finished = []
        deadline = time.monotonic() + 60
        while not finished and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
            finished = list(workspace.glob("reports/.store/*/*/manifest.json"))
        process.send_signal(signal.SIGTERM)
        said, complained = process.communicate(timeout=60)
    assert process.returncode == 143
    assert not said
    assert complained.decode().strip() == "terminated; finished stages are kept"
    assert finished
    assert all(path.is_file() for path in finished)
    # Neither a hidden folder that is half filled, nor a run that looks finished.
    left = [path for path in (workspace / "reports").rglob("*") if path.is_dir()]
    assert [path for path in left if path.name.startswith(".") and path.name != ".store"] == []
    assert not list(workspace.glob("reports/small/2*"))


def test_the_handler_of_sigterm_is_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Termination), terminable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
