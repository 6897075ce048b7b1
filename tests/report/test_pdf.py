"""The report on paper: by the machine's browser, or one clear message."""

import re
import sys

import pytest
import records

from calib.cli import main
from calib.errors import BackendError
from calib.report import render_html, write_pdf


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["calib", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


@pytest.fixture
def no_browser(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_a_finished_run_is_drawn_anew_and_printed(chromium, tmp_path, monkeypatch, capsys):
    (tmp_path / "result.json").write_text(records.run().model_dump_json(), encoding="utf-8")
    assert command(monkeypatch, "report", tmp_path, "--pdf") == 0
    page, paper = capsys.readouterr().out.split()
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_html(records.run())
    assert [page, paper] == [str(tmp_path / "report.html"), str(tmp_path / "report.pdf")]
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 8
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["report.html", "report.pdf", "result.json"]


def test_without_a_browser_nothing_is_begun(workspace, no_browser, monkeypatch, capsys):
    assert command(monkeypatch, "run", "config.yaml", "--pdf") == 2
    (message,) = capsys.readouterr().err.strip().splitlines()
    assert "--pdf: a PDF is printed by a browser, and there is none" in message
    assert "apt-get install chromium" in message
    assert not (workspace / "reports").exists()


def test_a_browser_that_prints_nothing_is_told_of(tmp_path, no_browser):
    broken = no_browser / "chromium"
    broken.write_text("#!/bin/sh\necho cannot open display >&2\nexit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    with pytest.raises(BackendError, match="did not print the page: cannot open display"):
        write_pdf(tmp_path / "report.html", tmp_path / "report.pdf")
    assert not (tmp_path / "report.pdf").exists()
