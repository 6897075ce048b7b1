"""What a run looks like in a terminal."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from calib.doctor import Diagnosis
from calib.engine_record import RanRecord
from calib.results import (
    CandidateRecord,
    Precision,
    RunResult,
    RunVerdict,
    Verdict,
)
from calib.terminal.audit import audit_lines
from calib.terminal.sensitivity import remedies_line
from data_loaders.printable import visible

_STYLE = {
    Verdict.PASS: "bold green",
    Verdict.FAIL: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
    Verdict.NO_EVIDENCE: "bold yellow",
}

_FILE_WIDTH = 120
_WARNINGS = 5
_CAUSES = 3


class SafeConsole(Console):
    """A console that shows control characters instead of obeying them.

    Names of tensors, samples, classes and files are what somebody wrote into a file.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """See `Console.render_str`: every text, a table's cells too, comes through here."""
        return super().render_str(visible(text), **options)


def output_console() -> Console:
    """Standard output: as wide as the terminal, or wide enough to keep a table in a log whole."""
    console = SafeConsole(emoji=False)
    return console if console.is_terminal else SafeConsole(width=_FILE_WIDTH, emoji=False)


def say(text: str) -> None:
    """A line on standard output, as it is: no markup, no wrapping."""
    output_console().print(text, markup=False, highlight=False, soft_wrap=True)


def error_console() -> Console:
    """Standard error. Without emoji: `:x:` may be part of a tensor's name."""
    return SafeConsole(stderr=True, emoji=False)


def complain(text: str) -> None:
    """A line on standard error, as it is."""
    error_console().print(text, markup=False, highlight=False, soft_wrap=True)


class TerminalProgress:
    """A bar with the time left for each stage; a line for each finished one."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """See `calib.progress.Progress.stage`."""
        begin = time.monotonic()
        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(escape(visible(title)), total=total)
            yield lambda steps: bar.advance(task, steps)
        self._console.print(f"[dim]{time.monotonic() - begin:7.1f} s[/]  {escape(title)}")

    def note(self, text: str) -> None:
        """See `calib.progress.Progress.note`."""
        self._console.print(text, markup=False)


def print_result(console: Console, result: RunResult) -> None:
    """The candidates side by side, then the verdict."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("candidate", overflow="fold")
    for title in (
        _metric_title(result),
        "flips",
        "worsened",
        "SQNR dB",
        "p50 ms",
        "speed-up",
        "size MB",
    ):
        table.add_column(title, justify="right")
    for candidate in result.candidates:
        table.add_row(*_cells(result, candidate))
    console.print(table)
    for line in _speed_lines(result):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if result.remedies is not None:
        console.print(remedies_line(result.remedies), markup=False, highlight=False, soft_wrap=True)
    for note in (*audit_lines(result.audit), *ran_lines(result), *_warnings(result), *result.notes):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    print_verdict(console, result.verdict)


def _speed_lines(result: RunResult) -> Iterator[str]:
    """At what the figures of speed were taken, and what spoilt them."""
    timed = result.reference.latency_at()
    if timed is not None:
        yield f"p50 and speed-up at {timed.point}"
    said = result.speed.warnings if result.speed is not None else ()
    yield from (f"warning: speed: {text}" for text in said)


def _warnings(result: RunResult) -> Iterator[str]:
    """What the report warns of in the data and in calibration, the first of it."""
    for name, data in (
        ("calibration", result.data.calibration),
        ("validation", result.data.validation),
    ):
        if data.dropped:
            shown = ", ".join(data.dropped_ids[:_WARNINGS])
            more = ", …" if data.dropped > _WARNINGS else ""
            yield (
                f"warning: data.{name}: {data.dropped} samples left out for NaN or infinity in an "
                f"input ({shown}{more})"
            )
    of_remedies = result.remedies.warnings if result.remedies else ()
    given = (*of_remedies, *result.calibration.warnings)
    yield from (f"warning: {text}" for text in given[:_WARNINGS])
    if len(given) > _WARNINGS:
        yield f"{len(given) - _WARNINGS} more warnings are in the report"


def ran_lines(result: RunResult) -> Iterator[str]:
    """What really ran in INT8 on ONNX Runtime; candidates of which the same holds share a line."""
    names: dict[str, list[str]] = {}
    for candidate in result.candidates:
        if candidate.ran is not None and candidate.precision is Precision.INT8:
            names.setdefault(_ran_text(candidate.ran), []).append(candidate.name)
    yield from (f"{', '.join(own)} on ONNX Runtime: {text}" for text, own in names.items())


def _ran_text(ran: RanRecord) -> str:
    if ran.int8_macs_pct is None or ran.asked_int8_macs_pct is None:
        return f"what really ran is not known: {ran.problem or 'the shapes are not known'}"
    text = f"{ran.int8_macs_pct:.1f} % of the multiply-accumulates ran in INT8"
    lost = Counter(node.cause for node in ran.demoted if node.macs != 0)
    if not lost:
        return text
    causes = "; ".join(f"{count} because {cause}" for cause, count in lost.most_common(_CAUSES))
    return (
        f"{text}, {ran.asked_int8_macs_pct:.1f} % were asked for; of {sum(lost.values())} layers "
        f"that ran in something else, {causes}"
    )


def print_verdict(console: Console, verdict: RunVerdict) -> None:
    """The verdict, its reason, and every rule that did not pass."""
    console.print()
    console.print(verdict.verdict.replace("_", " "), style=_STYLE[verdict.verdict], end="  ")
    console.print(verdict.reason, markup=False, highlight=False, soft_wrap=True)
    for text in filter(None, (verdict.advice, verdict.selection)):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_diagnosis(console: Console, found: Diagnosis) -> None:
    """One screen: machine, backends, advice."""
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_row("Python", found.python)
    facts.add_row("packages", ", ".join(f"{k} {v}" for k, v in found.packages.items()))
    gpu = found.gpu
    facts.add_row("GPU", gpu.problem or f"{gpu.name}, compute capability {gpu.compute_capability}")
    facts.add_row("driver", f"CUDA up to {gpu.driver_cuda}" if gpu.driver_cuda else "none")
    console.print(facts)
    console.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("backend", "version", "builds", "runs", "why not"):
        table.add_column(title)
    for backend in found.backends:
        answers = ["yes" if can else "no" for can in (backend.can_build, backend.can_run)]
        table.add_row(backend.kind, backend.version or "-", *answers, backend.problem)
    console.print(table)
    if found.advice:
        console.print(f"\n{found.advice}", markup=False, highlight=False, soft_wrap=True)


def _metric_title(result: RunResult) -> str:
    """What the column of the task's figures is called."""
    scores = [c.score for c in result.candidates if c.score is not None]
    titles = [s.headline.title for s in scores if s.headline is not None]
    return titles[0] if titles else "score"


def _cells(result: RunResult, candidate: CandidateRecord) -> list[str]:
    score = candidate.score
    flips = candidate.flips if candidate.tells_flips else None
    noise = [e.sqnr_db for e in candidate.outputs if e.sqnr_db is not None]
    headline = score.headline if score is not None else None
    metric = headline.text if headline is not None else "-"
    return [
        escape(candidate.name),
        metric,
        str(flips.total) if flips is not None else "-",
        str(flips.worsened) if flips is not None else "-",
        f"{min(noise):.1f}" if noise else "-",
        *_speed_cells(result, candidate),
        f"{candidate.size_bytes / 1e6:.1f}",
    ]


def _speed_cells(result: RunResult, candidate: CandidateRecord) -> list[str]:
    own, reference = candidate.latency_at(), result.reference.latency_at()
    if own is None or reference is None:
        return ["-", "-"]
    ratio = "emulated" if candidate.emulated else f"{reference.p50_ms / own.p50_ms:.2f}x"
    return [f"{own.p50_ms:.2f}", ratio]
