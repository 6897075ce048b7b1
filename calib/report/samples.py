"""Every sample and candidate as a table, the worst first: samples.csv and samples.parquet."""

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from calib.analysis.tails import rank_key
from calib.errors import StoreError
from calib.report.tables import safe_text
from calib.results import SampleVerdict

_SCHEMA = pa.schema(
    [
        ("candidate", pa.string()),
        ("rank", pa.int32()),
        ("id", pa.string()),
        ("label", pa.string()),
        ("reference_prediction", pa.string()),
        ("prediction", pa.string()),
        ("fp16_prediction", pa.string()),
        ("reference_probability", pa.float64()),
        ("probability", pa.float64()),
        ("fp16_probability", pa.float64()),
        ("reference_margin", pa.float64()),
        ("margin", pa.float64()),
        ("fp16_margin", pa.float64()),
        ("margin_loss", pa.float64()),
        ("flip", pa.string()),
        ("metadata", pa.map_(pa.string(), pa.string())),
    ]
)


class SampleTables:
    """Both files, a line for each candidate and sample, ranked as the tail is.

    One candidate's samples are held at a time, since ranking needs all of them. Candidates come one
    after another.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._candidate = ""
        self._rows: list[SampleVerdict] = []

    def __enter__(self) -> "SampleTables":
        self._file = (self._folder / "samples.csv").open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file)
        self._csv.writerow(_SCHEMA.names)
        self._parquet = pq.ParquetWriter(self._folder / "samples.parquet", _SCHEMA)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._parquet.close()
            self._file.close()

    def add(self, candidate: str, verdict: SampleVerdict) -> None:
        """Take in one line."""
        if candidate != self._candidate:
            self._flush()
            self._candidate = candidate
        self._rows.append(verdict)

    def _flush(self) -> None:
        if not self._rows:
            return
        ranked = sorted(self._rows, key=rank_key, reverse=True)
        rows = [_row(self._candidate, rank, v) for rank, v in enumerate(ranked, start=1)]
        self._csv.writerows([_cell(row[name]) for name in _SCHEMA.names] for row in rows)
        self._parquet.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
        self._rows = []


def _row(candidate: str, rank: int, verdict: SampleVerdict) -> dict[str, Any]:
    own = {name: getattr(verdict, name) for name in _SCHEMA.names if hasattr(verdict, name)}
    rival = verdict.fp16
    return {
        **own,
        "candidate": candidate,
        "rank": rank,
        "fp16_prediction": rival.prediction if rival else None,
        "fp16_probability": rival.probability if rival else None,
        "fp16_margin": rival.margin if rival else None,
        "metadata": list(verdict.metadata.items()),
    }


def _cell(value: Any) -> object:
    if isinstance(value, str):
        return safe_text(value)
    if isinstance(value, list):
        return safe_text(" ".join(f"{k}={v}" for k, v in value))
    return "" if value is None else value


def read_samples(folder: Path, columns: list[str]) -> Mapping[str, dict[str, list[Any]]]:
    """Some columns of a run's samples.parquet: by candidate, a list by column; empty without it.

    Args:
        folder: the run's directory.
        columns: names of columns; those that the file lacks are left out.

    Raises:
        StoreError: if the file is damaged.
    """
    path = folder / "samples.parquet"
    if not path.is_file():
        return {}
    try:
        with pq.ParquetFile(path) as file:
            known = [c for c in columns if c in file.schema_arrow.names]
            table = file.read(columns=["candidate", *known])
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            str(path),
            f"cannot be read: {str(error).splitlines()[0]}",
            expected="the file that the run wrote",
            fix="Run the experiment again; what has not changed is taken from the store.",
        ) from error
    found: dict[str, dict[str, list[Any]]] = {}
    names = table.column("candidate").to_pylist()
    own = {c: table.column(c).to_pylist() for c in known}
    for index, name in enumerate(names):
        one = found.setdefault(name, {c: [] for c in known})
        for column, values in own.items():
            one[column].append(values[index])
    return found
