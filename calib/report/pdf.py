"""The page on paper, by a browser of the machine; nothing of it is required for all else."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from calib.errors import BackendError

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SECONDS_MAX = 180


def find_browser() -> str:
    """The path of a Chromium or Chrome.

    Raises:
        BackendError: if there is none on the PATH.
    """
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise BackendError(
            "--pdf",
            "a PDF is printed by a browser, and there is none",
            got="nothing on the PATH",
            expected=f"one of {', '.join(_BROWSERS)}",
            fix="Install one (Debian: apt-get install chromium), or print report.html from yours.",
        )
    return found


def write_pdf(page: Path, target: Path) -> None:
    """Print a page of ours.

    Args:
        page: the HTML file.
        target: the PDF file; it appears whole or not at all.

    Raises:
        BackendError: if there is no browser, or it does not print.
    """
    browser = find_browser()
    with tempfile.TemporaryDirectory(prefix="calib-pdf-") as folder:
        printed = Path(folder) / "report.pdf"
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            f"--user-data-dir={folder}/profile",
            # Neither the page, whose policy forbids it, nor the browser has anything to fetch.
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--disable-background-networking",
            "--no-pdf-header-footer",
            f"--print-to-pdf={printed}",
            # Chromium has no sandbox for root: containers build as root.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            page.resolve().as_uri(),
        ]
        said = _run(command, browser)
        if not printed.is_file():
            lines = said.strip().splitlines()
            raise _failed(browser, lines[-1] if lines else "it said nothing")
        partial = target.with_name(f".{target.name}.partial")
        shutil.copyfile(printed, partial)
        partial.replace(target)


def _run(command: list[str], browser: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS_MAX
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(browser, f"it took longer than {_SECONDS_MAX} s") from error
    except OSError as error:
        raise _failed(browser, str(error)) from error
    return done.stderr


def _failed(browser: str, why: str) -> BackendError:
    fix = "Open report.html in a browser and print it there; all else of the run is complete."
    return BackendError("--pdf", f"{browser} did not print the page: {why}", fix=fix)
