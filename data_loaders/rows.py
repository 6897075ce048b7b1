"""Where rows come from: a mapping of column name to value, one at a time."""

import csv
import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from data_loaders.base import resolve_entry
from data_loaders.errors import DataError

Row = Mapping[str, Any]


class FileRowsSpec(BaseModel):
    """Rows of a file, read in pieces; the suffix tells the format."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["file"] = "file"
    path: Path = Field(description="A .csv, .tsv, .json, .jsonl, .parquet or .txt file.")


class PythonRowsSpec(BaseModel):
    """Rows that a function yields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["python"] = "python"
    entry: str = Field(pattern=r"^[\w.]+:\w+$", description="`module:function`; it yields rows.")
    args: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for it.")


class HuggingFaceRowsSpec(BaseModel):
    """Rows of a Hugging Face data set. Remote code is never run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["huggingface"] = "huggingface"
    path: str = Field(description="Hub id, local directory, or parquet, csv, json for data_files.")
    name: str | None = Field(default=None, description="Configuration of the data set.")
    split: str = Field(default="train", description="Split, e.g. validation.")
    data_files: str | tuple[str, ...] | None = Field(default=None, description="Local files.")
    revision: str | None = Field(default=None, description="Commit of the hub repository.")
    streaming: bool = Field(default=False, description="Read without keeping a local copy.")


RowsSpec = Annotated[
    FileRowsSpec | PythonRowsSpec | HuggingFaceRowsSpec, Field(discriminator="kind")
]


def rows_source(spec: FileRowsSpec | PythonRowsSpec | HuggingFaceRowsSpec) -> str:
    """Where the rows come from, for a person to read."""
    match spec:
        case FileRowsSpec():
            return str(spec.path)
        case PythonRowsSpec():
            arguments = ", ".join(f"{k}={v}" for k, v in spec.args.items())
            return f"{spec.entry}({arguments})"
        case HuggingFaceRowsSpec():
            return f"{spec.path} [{spec.split}]"


def rows_from_spec(spec: FileRowsSpec | PythonRowsSpec | HuggingFaceRowsSpec) -> Iterator[Row]:
    """Read the rows from the start.

    Raises:
        DataError: if the source is missing or cannot be read.
    """
    match spec:
        case FileRowsSpec():
            yield from _file_rows(spec.path)
        case PythonRowsSpec():
            yield from _python_rows(spec)
        case HuggingFaceRowsSpec():
            yield from _huggingface_rows(spec)


def column(row: Row, name: str, where: str) -> Any:
    """The value of a column.

    Raises:
        DataError: naming the columns there are.
    """
    if name in row:
        return row[name]
    near = difflib.get_close_matches(name, list(map(str, row)), n=1)
    raise DataError(
        where,
        f"has no column {name!r}",
        expected=f"one of {', '.join(map(str, row))}",
        fix=f"Did you mean {near[0]!r}?" if near else None,
    )


def _python_rows(spec: PythonRowsSpec) -> Iterator[Row]:
    for index, row in enumerate(resolve_entry(spec.entry)(**spec.args)):
        if not isinstance(row, Mapping):
            raise DataError(f"{spec.entry}, row {index}", "is no mapping", got=type(row).__name__)
        yield row


def _huggingface_rows(spec: HuggingFaceRowsSpec) -> Iterator[Row]:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            spec.path,
            "needs the package datasets",
            fix='Install it with: pip install "calib[datasets]"',
        ) from error
    files = list(spec.data_files) if isinstance(spec.data_files, tuple) else spec.data_files
    try:
        data = datasets.load_dataset(
            spec.path,
            name=spec.name,
            split=spec.split,
            data_files=files,
            revision=spec.revision,
            streaming=spec.streaming,
        )
    except Exception as error:  # datasets raises whatever its readers do
        raise DataError(spec.path, f"cannot be loaded: {error}") from error
    yield from data


def _file_rows(path: Path) -> Iterator[Row]:
    readers = {
        ".csv": lambda: _delimited(path, ","),
        ".tsv": lambda: _delimited(path, "\t"),
        ".json": lambda: _json(path),
        ".jsonl": lambda: _json_lines(path),
        ".parquet": lambda: _parquet(path),
        ".txt": lambda: _lines(path),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(str(path), "is of an unknown format", expected=", ".join(readers))
    try:
        yield from reader()
    except FileNotFoundError as error:
        raise DataError(str(path), "there is no such file") from error
    except (OSError, UnicodeDecodeError, RecursionError, pa.ArrowException, csv.Error) as error:
        raise DataError(str(path), f"cannot be read: {error}") from error


def _delimited(path: Path, delimiter: str) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter=delimiter, strict=True)


def _json(path: Path) -> Iterator[Row]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(str(path), f"is no JSON: {error}") from error
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DataError(str(path), "holds something else than a list of objects")
    yield from content


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line) if line.strip() else None
            except ValueError as error:
                raise DataError(f"{path}:{number}", f"is no JSON: {error}") from error
            if row is not None:
                yield row


def _parquet(path: Path) -> Iterator[Row]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024):
            yield from batch.to_pylist()


def _lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield {"text": line.rstrip("\n")}
