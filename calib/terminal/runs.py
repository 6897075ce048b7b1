"""A comparison of two runs, and a history, in a terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from calib.results import History, MetricChange, Outcome, RunComparison

_STYLE = {
    Outcome.NO_WORSE: "bold green",
    Outcome.WORSE: "bold red",
    Outcome.NO_EVIDENCE: "bold yellow",
}
_SHOWN = 10


def print_comparison(console: Console, found: RunComparison) -> None:
    """What differs, the figures, the tail, thresholds and precisions; the outcome last."""
    for text in found.unlike:
        _line(console, text)
    for text in found.not_compared:
        _line(console, f"not compared: {text}")
    if found.metrics:
        metrics = _table("figure", "first", "second", "change", "95 % interval", "McNemar p")
        for metric in found.metrics:
            metrics.add_row(*_cells(metric))
        console.print(metrics)
    _print_tail(console, found)
    scales = [f"{s.tensor} {_number(s.first)} → {_number(s.second)}" for s in found.scales[:_SHOWN]]
    _list(console, "thresholds that moved", scales, len(found.scales))
    nodes = [f"{p.node}: {p.first} → {p.second}" for p in found.precisions[:_SHOWN]]
    _list(console, "layers that changed precision", nodes, len(found.precisions))
    console.print()
    console.print(found.outcome.value.upper(), style=_STYLE[found.outcome], end="  ")
    _line(console, found.reason)


def print_history(console: Console, found: History) -> None:
    """A row for each run, the newest last."""
    table = _table("run", "verdict", "candidate", "metric", "fp32", "flips %", "p50 ms", "m d h")
    for run in found.runs:
        table.add_row(
            escape(run.run_id),
            run.verdict.replace("_", " "),
            escape(run.candidate or "-"),
            f"{_number(run.value)}",
            f"{_number(run.reference)}",
            _number(run.flips_pct),
            _number(run.p50_ms),
            f"{run.model} {run.data} {run.machine}",
        )
    console.print(table)
    _line(console, "m d h: model, validation data, machine (with its packages); same letter: same")
    for name in found.unreadable:
        _line(console, f"not read: {name}")


def _print_tail(console: Console, found: RunComparison) -> None:
    if not found.tail:
        return
    table = _table("new in the tail", "label", "first", "second", "loss, first", "second")
    for change in found.tail[:_SHOWN]:
        table.add_row(
            escape(change.id),
            escape(change.label or "-"),
            escape(change.first_prediction),
            escape(change.second_prediction),
            _number(change.first_loss),
            _number(change.second_loss),
        )
    console.print(table)
    if found.tail_count > _SHOWN:
        _line(console, f"{found.tail_count - _SHOWN} more are new")


def _cells(metric: MetricChange) -> list[str]:
    interval = (
        f"{metric.low:+.3g} to {metric.high:+.3g}"
        if metric.low is not None and metric.high is not None
        else "-"
    )
    change = "-" if metric.difference is None else f"{metric.difference:+.3g}"
    name = f"{metric.name}, {metric.unit}" if metric.unit else metric.name
    return [
        name,
        _number(metric.first),
        _number(metric.second),
        change,
        interval,
        _number(metric.p_value),
    ]


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", overflow="fold")
    return table


def _list(console: Console, title: str, lines: list[str], total: int) -> None:
    if total:
        more = f" and {total - len(lines)} more" if total > len(lines) else ""
        _line(console, f"{title}: {'; '.join(lines)}{more}")


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
