"""Accuracy side by side: calib, onnxruntime, ModelOpt and NNCF, on the same labelled data.

Each tool chooses itself which tensors it quantizes, gets all calibration samples, and runs in a
process of its own. Every model that comes out is scored alike, in exact INT8 arithmetic, against
FP32. Finished rows are kept, so that a run that was broken off goes on where it was.
"""

import argparse
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from filelock import FileLock

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.accuracy_quantized import (  # noqa: E402
    ALONE,
    BATCH,
    OURS,
    Made,
    by_calib,
    by_peer,
    kept_inference,
    made_from,
)
from benchmarks.accuracy_scores import first_batch, sample_count, scored  # noqa: E402
from benchmarks.accuracy_targets import missed  # noqa: E402
from benchmarks.measure import int8_mac_share, latency_ms  # noqa: E402
from benchmarks.models import MODELS, ModelCase  # noqa: E402
from calib.store import write_atomically  # noqa: E402

METHODS = (
    (OURS, "minmax"),
    (OURS, "entropy"),
    (OURS, "mse"),
    (OURS, "auto"),
    (OURS, f"{ALONE}equalize"),
    (OURS, f"{ALONE}correct_biases"),
    (OURS, f"{ALONE}shift_channels"),
    (OURS, f"{ALONE}round_together"),
    ("onnxruntime", "MinMax-weighted"),
    ("onnxruntime", "Percentile-weighted"),
    ("onnxruntime", "MinMax"),
    ("modelopt", "entropy"),
    ("modelopt", "max"),
    ("nncf", "performance"),
    ("nncf", "mixed"),
)
ACCURACY_CONTROL = ("nncf", "accuracy_control")
TOOLS = tuple(dict.fromkeys(tool for tool, _ in METHODS))
CHOICES = (*TOOLS, *(f"{tool}-{method}" for tool, method in METHODS))
ROWS = ROOT / "build" / "benchmarks" / "accuracy.json"
LATENCY_ROUNDS = 7

Row = dict[str, Any]


class Rows:
    """The finished rows, in a JSON file that several runs may add to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path.with_suffix(".lock"))

    def all(self) -> list[Row]:
        """Every row."""
        return json.loads(self.path.read_text()) if self.path.exists() else []

    def of(self, model: str, samples: int, key: str) -> list[Row]:
        """Those of one model on the same samples, in the order of METHODS."""
        wanted = {"model": model, "samples": samples, "made_from": key}
        found = {
            (row["tool"], row["method"]): row for row in self.all() if row.items() >= wanted.items()
        }
        return [found[name] for name in (*METHODS, ACCURACY_CONTROL) if name in found]

    def put(self, row: Row) -> None:
        """Add a row, in place of the one that it supersedes."""
        same = ("model", "tool", "method", "samples")
        with self._lock:
            kept = [old for old in self.all() if any(old[name] != row[name] for name in same)]
            lines = ",\n".join(json.dumps(one) for one in [*kept, row])
            write_atomically(self.path, f"[\n{lines}\n]\n")


def made_row(
    case: ModelCase, folder: Path, name: tuple[str, str], samples: int, options: argparse.Namespace
) -> Row:
    """Quantize where that is not done, and score."""
    tool, method = name
    if tool == OURS:
        made = by_calib(case, folder, method, options.fresh, options.timeout)
    else:
        made = by_peer(case, folder, tool, method, options.fresh, options.timeout)
    key = made_from(folder)
    row: Row = {"model": case.name, "tool": tool, "method": method, "samples": samples}
    row["made_from"] = key
    if made.error:
        return {**row, "error": made.error}
    try:
        row |= scored(folder, made.model, case.task, samples, key)
        row["int8_macs_pct"] = 100 * int8_mac_share(made.model, first_batch(folder))
    except Exception as error:  # ONNX Runtime's errors have no common base
        said = str(error).strip().splitlines() or [type(error).__name__]
        return {**row, "error": f"does not run: {said[-1]}"}
    return {**row, **_cost(made, kept_inference(folder, fresh=False))}


def _cost(made: Made, plain: Mapping[str, Any]) -> dict[str, float]:
    """Seconds and megabytes, and how many passes of FP32 inference the seconds would make."""
    seconds = made.seconds or 0.0
    inference_seconds = made.inference_seconds or plain["seconds"]
    return {
        "seconds": seconds,
        "inference_seconds": inference_seconds,
        "passes": seconds / inference_seconds,
        "peak_mb": (made.peak_bytes or 0) / 1e6,
        "inference_peak_mb": plain["peak_bytes"] / 1e6,
    }


def with_latency(folder: Path, rows: Sequence[Row], kept: Rows) -> None:
    """Time all of a model's engines in turns, and keep each row's ratio to FP32."""
    models = {
        f"{row['tool']}-{row['method']}": folder / f"{row['tool']}-{row['method']}.onnx"
        for row in rows
        if not row.get("error")
    }
    everything = {"fp32": folder / "model.onnx", **models}
    found = latency_ms(everything, first_batch(folder), BATCH, LATENCY_ROUNDS)
    for row in rows:
        name = f"{row['tool']}-{row['method']}"
        if name in found:
            row["latency_ratio"] = found[name] / found["fp32"]
            kept.put(row)


_COLUMNS = (
    ("FP32 %", "{fp32_pct:.2f}"),
    ("INT8 %", "{int8_pct:.2f}"),
    ("drop, points (95 %)", "{drop_points:.2f} ({drop_low:.2f} to {drop_high:.2f})"),
    ("flips %", "{flips_pct:.3f}"),
    ("alike %", "{alike_pct:.2f}"),
    ("SQNR, dB", "{sqnr_db:.2f}"),
    ("INT8 MACs %", "{int8_macs_pct:.1f}"),
    ("calibration, s", "{seconds:.1f}"),
    ("passes", "{passes:.1f}"),
    ("peak, MB", "{peak_mb:,.0f}"),
)


def table(case: ModelCase, rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of one model as Markdown."""
    done = [row for row in rows if not row.get("error")]
    columns = list(_COLUMNS)
    if any("latency_ratio" in row for row in done):
        columns.append(("latency ratio", "{latency_ratio:.2f}"))
    head = f"{case.name}: {rows[0]['samples']:,} validation samples" if rows else case.name
    if done:
        head += (
            f"; FP32 inference of the calibration samples {done[0]['inference_seconds']:.1f} s, "
            f"{done[0]['inference_peak_mb']:,.0f} MB"
        )
    lines = [head, "", f"| tool | method | {' | '.join(name for name, _ in columns)} |"]
    lines.append(f"|---|---|{'--:|' * len(columns)}")
    for row in rows:
        if row.get("error"):
            cells = [f"failed: {row['error']}", *[""] * (len(columns) - 1)]
        else:
            cells = [_cell(form, row) for _, form in columns]
        lines.append(f"| {' | '.join([row['tool'], row['method'], *cells])} |")
    return "\n".join(lines)


def _cell(form: str, row: Mapping[str, Any]) -> str:
    try:
        return form.format_map(row)
    except KeyError:
        return ""


_COMPACT = {
    "int8_pct": "int8",
    "drop_points": "drop",
    "flips_pct": "flips",
    "alike_pct": "alike",
    "sqnr_db": "sqnr",
    "int8_macs_pct": "macs",
    "passes": "passes",
    "peak_mb": "mb",
    "latency_ratio": "latency",
}


def compact(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures by tool and method, to four digits; a failure's words instead."""
    return {
        f"{row['tool']}-{row['method']}": row.get("error")
        or {short: float(f"{row[name]:.4g}") for name, short in _COMPACT.items() if name in row}
        for row in rows
    }


def chosen(options: argparse.Namespace) -> list[tuple[str, str]]:
    """The methods to run."""
    names = [*METHODS, *([ACCURACY_CONTROL] if options.accuracy_control else [])]
    return [n for n in names if n[0] in options.tools or "-".join(n) in options.tools]


def arguments() -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--tools", nargs="+", choices=CHOICES, default=TOOLS, metavar="TOOL")
    parser.add_argument("--samples", type=int, help="validation samples at most")
    parser.add_argument("--accuracy-control", action="store_true", help="run NNCF's as well")
    parser.add_argument("--latency", action="store_true", help=f"time a batch of {BATCH}, too")
    parser.add_argument("--fresh", action="store_true", help="make the chosen rows again")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one tool")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--out", type=Path, default=ROWS, help="where the rows are kept")
    return parser.parse_args()


def measured(case: ModelCase, kept: Rows, options: argparse.Namespace) -> list[Row]:
    """All of a model's rows, those made earlier too."""
    folder = case.build()
    available = sample_count(folder / "validation.npz")
    samples = min(options.samples or available, available)
    key = made_from(folder)
    known = {(row["tool"], row["method"]) for row in kept.of(case.name, samples, key)}
    for name in chosen(options):
        if options.fresh or name not in known:
            row = made_row(case, folder, name, samples, options)
            kept.put(row)
            print(f"{case.name} {' '.join(name)}: {json.dumps(compact([row]))}", file=sys.stderr)
    rows = kept.of(case.name, samples, key)
    if options.latency:
        with_latency(folder, rows, kept)
    return rows


def main() -> None:
    """Measure, print, and judge."""
    options = arguments()
    # A run that is told to end takes the tool's process with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    kept, figures, problems = Rows(options.out), {}, []
    for name in options.models:
        case = MODELS[name]
        try:
            rows = measured(case, kept, options)
        except (OSError, RuntimeError, ImportError, SubprocessError) as error:
            print(f"{name} cannot be built: {error}\n")
            problems.append(f"{name}: cannot be built")
            continue
        print(table(case, rows), end="\n\n", flush=True)
        figures[name] = compact(rows)
        problems += missed(case, rows)
    for problem in problems:
        print(f"target missed: {problem}")
    print(json.dumps(figures))
    sys.exit(1 if options.check and problems else 0)


if __name__ == "__main__":
    main()
