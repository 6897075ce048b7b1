"""`calib report`: the page of a finished run, drawn anew."""

from pathlib import Path
from typing import Annotated

import typer

from calib.evidence.extra import signed_waivers
from calib.gate.waiving import with_waivers
from calib.report import find_browser, render_html, write_pdf
from calib.rundir import load_result
from calib.store import write_atomically
from calib.terminal import say

Pdf = Annotated[
    bool, typer.Option("--pdf", help="Print the report, too: needs Chromium or Chrome.")
]


def report_command(
    run_path: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's directory.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="report.html of the run if absent."),
    ] = None,
    pdf: Pdf = False,
    waiver: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A signed waiver, to be shown beside the verdict."),
    ] = None,
    key: Annotated[
        list[Path] | None, typer.Option(metavar="PUBLIC", help="A public key that may sign it.")
    ] = None,
) -> None:
    """Draw the page of a finished run anew; its facts and its verdict stay as they are."""
    if pdf:
        find_browser()
    folder = run_path if run_path.is_dir() else run_path.parent
    page = output or folder / "report.html"
    result = load_result(run_path)
    given = [found for found, _ in signed_waivers(waiver or (), key or ())]
    waived = with_waivers(result, result.verdict, given) if given else None
    write_atomically(page, render_html(result, waived))
    say(str(page))
    if pdf:
        say(str(printed(page)))


def printed(page: Path) -> Path:
    """Print a page beside itself."""
    target = page.with_suffix(".pdf")
    write_pdf(page, target)
    return target
