"""Where rows come from: a mapping of column name to value, one at a time."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from data_loaders.base import resolve_entry
from data_loaders.errors import DataError
from data_loaders.files import DataFile, files_from_location, partition_values, suffix_of
from data_loaders.huggingface import HuggingFaceRowsSpec, huggingface_parts
from data_loaders.locations import Location, StoredSpec
from data_loaders.parquet import parquet_parts
from data_loaders.parts import Columns, Part, Reader, Row
from data_loaders.selecting import EVERY, Positions
from data_loaders.storage import Store
from data_loaders.text_files import FORMATS, read_rows
from data_loaders.webdataset import WebDatasetRowsSpec, webdataset_parts


class FileRowsSpec(StoredSpec):
    """Rows of files, read in pieces; the suffix tells the format."""

    kind: Literal["file"] = "file"
    path: Location = Field(
        description="A .csv, .tsv, .json, .jsonl, .parquet or .txt file; a folder, a pattern or a "
        "URL of such."
    )


class PythonRowsSpec(BaseModel):
    """Rows that a function yields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["python"] = "python"
    entry: str = Field(pattern=r"^[\w.]+:\w+$", description="`module:function`; it yields rows.")
    args: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for it.")


RowsSpec = Annotated[
    FileRowsSpec | PythonRowsSpec | HuggingFaceRowsSpec | WebDatasetRowsSpec,
    Field(discriminator="kind"),
]


AnyRowsSpec = FileRowsSpec | PythonRowsSpec | HuggingFaceRowsSpec | WebDatasetRowsSpec


def rows_source(spec: AnyRowsSpec) -> str:
    """Where the rows come from, for a person to read."""
    match spec:
        case FileRowsSpec() | WebDatasetRowsSpec():
            return spec.path
        case PythonRowsSpec():
            arguments = ", ".join(f"{k}={v}" for k, v in spec.args.items())
            return f"{spec.entry}({arguments})"
        case HuggingFaceRowsSpec():
            return f"{spec.path} [{spec.split}]"


def rows_from_spec(spec: AnyRowsSpec) -> Iterator[Row]:
    """Read the rows from the start.

    Raises:
        DataError: if the source is missing or cannot be read.
    """
    for part in parts_from_spec(spec):
        yield from part.read(None, EVERY if part.rows is None else range(part.rows))


def parts_from_spec(spec: AnyRowsSpec) -> Iterator[Part]:
    """The rows in parts, in the order of their files' names.

    Raises:
        DataError: if the source is missing or cannot be read.
    """
    match spec:
        case FileRowsSpec():
            yield from _file_parts(spec)
        case PythonRowsSpec():
            yield Part("", rows_source(spec), 0, None, lambda *_: _python_rows(spec))
        case HuggingFaceRowsSpec():
            yield from huggingface_parts(spec, rows_source(spec))
        case WebDatasetRowsSpec():
            yield from webdataset_parts(spec)


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


def _file_parts(spec: FileRowsSpec) -> Iterator[Part]:
    found = files_from_location(spec.path, Store(spec.storage), FORMATS)
    for file in found.files:
        name = "" if found.single else file.name
        if suffix_of(file.location, (".parquet",)):
            yield from parquet_parts(file, name)
        else:
            values = partition_values(file.location)
            yield Part(name, file.location, 0, None, _text_reader(file, values))


def _text_reader(file: DataFile, values: Row) -> Reader:
    def read(_: Columns, __: Positions) -> Iterator[Row]:
        for row in read_rows(file):
            yield {**values, **row} if values else row

    return read
