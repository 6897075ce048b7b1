"""What changed between two caches, as a page and as a table."""

from pathlib import Path

import pandas as pd

from calib.calibrators.cache_diff import Change, ScaleChange
from calib.calibrators.trt_cache import CalibrationCache
from calib.graph.from_scales import Coverage
from calib.report.plain import plain_page
from calib.report.tables import safe_text
from calib.store import write_atomically


def write_diff_csv(rows: tuple[ScaleChange, ...], path: Path) -> None:
    """A line for each tensor, the most dangerous first."""
    frame = pd.DataFrame(
        {
            "tensor": [safe_text(row.tensor) for row in rows],
            "change": [row.change.name.lower() for row in rows],
            "before": [row.before for row in rows],
            "after": [row.after for row in rows],
            "ratio": [row.ratio for row in rows],
            "bits_lost": [row.bits_lost for row in rows],
            "range_lost_pct": [row.range_lost_pct for row in rows],
        }
    )
    write_atomically(path, frame.to_csv(index=False))


def write_diff_html(rows: tuple[ScaleChange, ...], before: str, after: str, path: Path) -> None:
    """One self-contained page; names are escaped."""
    counts = {change: sum(row.change is change for row in rows) for change in Change}
    page = plain_page(
        "cache_diff.html",
        rows=[row for row in rows if row.change is not Change.SAME],
        same=[row for row in rows if row.change is Change.SAME],
        counts={change.name.lower(): count for change, count in counts.items()},
        before=before,
        after=after,
    )
    write_atomically(path, page)


def write_coverage_csv(coverage: Coverage, cache: CalibrationCache, path: Path) -> None:
    """A line for each tensor: matched, lacking, not asked for, or unknown to the model."""
    groups = {
        "matched": coverage.matched,
        "lacking": tuple(coverage.lacking),
        "not quantized by explicit Q/DQ": coverage.elsewhere,
        "no tensor of the model": coverage.unknown,
    }
    rows = [
        {
            "tensor": safe_text(name),
            "found": found,
            "scale": cache.scales.get(name),
            "float_nodes": safe_text(" ".join(coverage.lacking.get(name, ()))),
        }
        for found, names in groups.items()
        for name in names
    ]
    write_atomically(path, pd.DataFrame(rows).to_csv(index=False))
