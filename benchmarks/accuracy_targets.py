"""What calib's automatic choice must keep, judged on the rows of one model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.models import ModelCase

Row = Mapping[str, Any]

OURS, AUTO = "calib", "auto"
BASELINE = ("nncf", "performance")

GAIN_DB = 4.0
FLIPS_RATIO = 0.5
DROP_POINTS = 0.2
TRANSFORMER_MACS_PCT = 95.0
CONV_SQNR_DB = 30.0
CONV_FLIPS_PCT = 0.6
CONV_GAIN_DB = 2.0
ALIKE_PCT = {"ctc": 95.0, "mask": 98.0}
HARD_MACS_PCT = 80.0
PASSES = 15.0
MEMORY_RATIO = 1.5
MEMORY_MB = 400.0


def is_transformer(case: ModelCase) -> bool:
    """Whether the targets of transformers hold for the model."""
    return case.kind == "text" or case.name == "preln_encoder"


def missed(case: ModelCase, rows: Sequence[Row]) -> list[str]:
    """Every target that the automatic choice misses, in words.

    Args:
        case: the model.
        rows: of this model, on the same samples; those with an `error` have no figures.
    """
    ours = _row(rows, OURS, AUTO)
    if ours is None or ours.get("error"):
        return [f"{case.name}: no figures of {OURS} {AUTO}"]
    checks: list[Callable[[Row, Sequence[Row]], Iterator[str]]] = [_against_peers, _cost]
    if is_transformer(case):
        checks.append(_transformer)
    elif case.kind == "conv":
        checks.append(_conv)
    else:
        checks.append(lambda row, _: _hard(case.task, row))
    return [f"{case.name}: {text}" for check in checks for text in check(ours, rows)]


def _row(rows: Sequence[Row], tool: str, method: str) -> Row | None:
    return next((r for r in rows if (r["tool"], r["method"]) == (tool, method)), None)


def _peers(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["tool"] != OURS and not row.get("error")]


def _least(what: str, value: float, limit: float, why: str = "") -> Iterator[str]:
    if not value >= limit:
        yield f"{what} {value:.2f}, wanted at least {limit:.2f}{why}"


def _most(what: str, value: float, limit: float, why: str = "") -> Iterator[str]:
    if not value <= limit:
        yield f"{what} {value:.2f}, wanted at most {limit:.2f}{why}"


def _against_peers(ours: Row, rows: Sequence[Row]) -> Iterator[str]:
    peers = _peers(rows)
    if not peers:
        yield "no peer to compare with"
        return
    best = max(peers, key=lambda row: row["sqnr_db"])
    yield from _least("SQNR", ours["sqnr_db"], best["sqnr_db"], _of(best))
    best = min(peers, key=lambda row: row["flips_pct"])
    yield from _most("flips %", ours["flips_pct"], best["flips_pct"], _of(best))


def _of(row: Row) -> str:
    return f": {row['tool']} {row['method']}"


def _cost(ours: Row, _: Sequence[Row]) -> Iterator[str]:
    yield from _most("passes", ours["passes"], PASSES)
    limit = MEMORY_RATIO * ours["inference_peak_mb"] + MEMORY_MB
    yield from _most("peak MB", ours["peak_mb"], limit)


def _transformer(ours: Row, rows: Sequence[Row]) -> Iterator[str]:
    baseline = _row(rows, *BASELINE)
    if baseline is None:
        yield f"no figures of {' '.join(BASELINE)}"
    elif not baseline.get("error"):
        yield from _least("SQNR", ours["sqnr_db"], baseline["sqnr_db"] + GAIN_DB, _gain(GAIN_DB))
        most = baseline["flips_pct"] * FLIPS_RATIO
        yield from _most("flips %", ours["flips_pct"], most, f": half of {' '.join(BASELINE)}'s")
    if not (ours["drop_points"] <= DROP_POINTS or ours["drop_low"] <= 0):
        yield f"drop {ours['drop_points']:.2f} points, wanted at most {DROP_POINTS}, or by chance"
    yield from _least("INT8 MACs %", ours["int8_macs_pct"], TRANSFORMER_MACS_PCT)


def _gain(gain: float) -> str:
    return f": {' '.join(BASELINE)} and {gain:g} dB"


def _conv(ours: Row, rows: Sequence[Row]) -> Iterator[str]:
    yield from _least("SQNR", ours["sqnr_db"], CONV_SQNR_DB)
    yield from _most("flips %", ours["flips_pct"], CONV_FLIPS_PCT)
    peers = _peers(rows)
    if peers:
        best = max(peers, key=lambda row: row["sqnr_db"])
        why = f"{_of(best)} and {CONV_GAIN_DB:g} dB"
        yield from _least("SQNR", ours["sqnr_db"], best["sqnr_db"] + CONV_GAIN_DB, why)


def _hard(task: str, ours: Row) -> Iterator[str]:
    if task in ALIKE_PCT:
        yield from _least("alike %", ours["alike_pct"], ALIKE_PCT[task])
    yield from _least("INT8 MACs %", ours["int8_macs_pct"], HARD_MACS_PCT)
