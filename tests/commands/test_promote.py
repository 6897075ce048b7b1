"""`calib promote` and `calib report --waiver`, as a user types them."""

import json
import sys

import pytest
from promotable_runs import (
    ASKS_NOTHING,
    CANNOT_TELL,
    FAILS,
    attested,
    copied,
    key_pair,
    snapshot,
    waived,
)

from calib.cli import main


@pytest.fixture
def call(monkeypatch, tmp_path):
    """The exit code of a command line."""
    monkeypatch.chdir(tmp_path)

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["calib", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main(default_command="run")
        return stopped.value.code or 0

    return called


BOTH = ("--to", "directory:served", "--to", "tar:out/b.tar")


def test_a_dry_run_says_what_would_be_done_and_does_nothing(passed_run, call, capsys, tmp_path):
    assert call("promote", passed_run, *BOTH, "--dry-run") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("dry run: directory:served: write served/small/")
    assert second.startswith("dry run: tar:out/b.tar: write out/b.tar: ")
    assert list(tmp_path.iterdir()) == []


def test_what_is_done_is_said_place_by_place_and_once_more_nothing(
    passed_run, call, capsys, tmp_path
):
    assert call("promote", passed_run, *BOTH) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("directory:served: wrote served/small/")
    assert second.startswith("tar:out/b.tar: wrote out/b.tar: ")
    before = snapshot(tmp_path)
    assert call("promote", passed_run, *BOTH, "--json") == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["verdict"], line["candidate"], line["promoted"]) == ("PASS", "int8-minmax", True)
    assert [t["changes"] for t in line["targets"]] == [[], []]
    assert call("promote", passed_run, *BOTH) == 0
    assert capsys.readouterr().out.count("is there already, nothing to change") == 2
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("limits", "code", "advice"),
    [
        (FAILS, 1, "waived (samples_min): calib waive"),
        (CANNOT_TELL, 4, "waived (accuracy_drop_points_max): calib waive"),
        (ASKS_NOTHING, 3, "Say in the config"),
    ],
)
def test_what_did_not_pass_ends_with_the_gates_code_and_nothing_is_written(
    passed_run, call, capsys, tmp_path, limits, code, advice
):
    run = copied(passed_run, tmp_path / "run", **limits)
    before = snapshot(tmp_path)
    assert call("promote", run, *BOTH) == code
    said = capsys.readouterr().err
    assert said.startswith("Nothing was promoted. ")
    assert advice in said
    assert call("promote", run, *BOTH, "--json") == code
    assert json.loads(capsys.readouterr().out)["promoted"] is False
    assert snapshot(tmp_path) == before


def test_if_one_place_cannot_take_it_none_gets_it(passed_run, call, capsys, tmp_path):
    (tmp_path / "b.tar").write_bytes(b"mine")
    before = snapshot(tmp_path)
    assert call("promote", passed_run, "--to", "directory:served", "--to", "tar:b.tar") == 2
    assert "is no bundle of small" in capsys.readouterr().err
    assert call("promote", passed_run, "--to", "directory:served", "--to", "ftp:x") == 2
    assert snapshot(tmp_path) == before


def test_a_waived_run_is_promoted_and_its_page_shows_by_whom(passed_run, call, capsys, tmp_path):
    run, key = copied(passed_run, tmp_path / "run", **FAILS), key_pair(tmp_path)
    attested(run, key)
    waiver = waived(run, key, tmp_path / "w.jsonl", reason="a pilot <img src=x>")
    signed = ("--waiver", waiver, "--key", "key.pub")
    assert call("promote", run, *BOTH, *signed, "--json") == 0
    assert json.loads(capsys.readouterr().out)["waived"] == ["samples_min"]
    assert list((tmp_path / "served").glob("small/*/waivers.intoto.jsonl"))
    recorded = (run / "result.json").read_bytes()
    assert call("report", run, *signed) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    shown = page[page.index('class="waivers"') : page.index('class="answer"')]
    assert "May ship with waivers until" in shown
    assert "Ada Lovelace" in shown
    assert "a pilot &lt;img src=x&gt;" in shown
    assert "✗ Fail" in page[: page.index('class="waivers"')]
    assert (run / "result.json").read_bytes() == recorded
    (bundle,) = (tmp_path / "served").glob("small/*/report.html")
    assert bundle.read_text(encoding="utf-8") == page
    assert call("report", run, "--waiver", waiver) == 2
