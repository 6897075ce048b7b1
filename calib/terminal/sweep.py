"""A sweep in a terminal: one line while it runs, the front when it is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.table import Table

from calib.results import SweepRecord, TrialRecord, Verdict
from data_loaders.printable import visible

_STYLE = {
    Verdict.PASS: "bold green",
    Verdict.FAIL: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
    Verdict.NO_EVIDENCE: "bold yellow",
}
_LABEL, _STAGE = 30, 28


class TerminalSweep:
    """One line over all trials, with the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._text = ""

    def begin(self, trials: int, done: int) -> None:
        """See `calib.sweep.telling.Telling`."""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            Remaining(),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._bar.add_task("trials", total=trials, completed=done)
        self._bar.start()

    def trial(self, text: str) -> "TerminalSweep":
        """See `calib.sweep.telling.Telling`."""
        self._text = text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…"
        self._describe("")
        return self

    def finished(self) -> None:
        """See `calib.sweep.telling.Telling`."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])

    def end(self) -> None:
        """See `calib.sweep.telling.Telling`."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """See `calib.progress.Progress.stage`: a stage is but a word in the line."""
        done = 0

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            share = f" {100 * done // total} %" if total else ""
            self._describe(f"{title}{share}")

        self._describe(title)
        yield advance

    def note(self, text: str) -> None:
        """See `calib.progress.Progress.note`."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _describe(self, stage: str) -> None:
        if self._bar is not None:
            text = f"{self._text:<{_LABEL}} {stage[:_STAGE]:<{_STAGE}}"
            with suppress(IndexError):
                self._bar.update(self._bar.task_ids[0], description=escape(visible(text)))


def print_sweep(console: Console, found: SweepRecord) -> None:
    """The front, the verdict, and what to do next."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("trial", "settings"):
        table.add_column(title, overflow="fold")
    for title in ("figure", "lost", "bound", "SQNR dB", "speed-up", "size"):
        table.add_column(title, justify="right")
    table.add_column("verdict")
    shown = list(found.front)
    winner = found.trial(found.winner) if found.winner is not None else None
    if winner is not None and winner not in shown:
        shown.append(winner)
    for trial in shown:
        table.add_row(*_cells(trial), style="bold" if trial is winner else "")
    console.print(table)
    failed = [trial for trial in found.trials if trial.problem]
    run = len(found.trials) - len(failed)
    _line(console, f"{len(found.front)} of {run} trials: no other is as good in both")
    for text in (found.cost_words, found.accuracy_words, *found.notes):
        _line(console, text)
    for trial in failed:
        _line(console, f"not run: trial {trial.number} ({trial.label}): {trial.problem}")
    console.print()
    console.print(found.verdict.replace("_", " "), style=_STYLE[found.verdict], end="  ")
    for text in (found.reason, found.selection, found.next_step):
        _line(console, text)


def _cells(trial: TrialRecord) -> list[str]:
    size = "-" if trial.size_ratio is None else f"{100 * trial.size_ratio:.0f} %"
    return [
        str(trial.number),
        escape(trial.label),
        trial.metric or "-",
        _number(trial.loss),
        _number(trial.loss_bound),
        _number(trial.sqnr_db, 3),
        "-" if trial.speedup is None else f"{trial.speedup:.2f}x",
        size,
        (trial.verdict or "-").replace("_", " "),
    ]


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}g}"
