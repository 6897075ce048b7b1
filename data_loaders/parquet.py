"""Parquet read in pieces: row groups that are not wanted are not fetched, nor are columns.

What is held is a stretch of one row group, however large that is.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_loaders.errors import DataError
from data_loaders.files import DataFile, partition_values
from data_loaders.parts import Columns, Part, Row
from data_loaders.selecting import Positions, within
from data_loaders.storage import reading

_BATCH_BYTES = 4 * 2**20
_BATCH_ROWS_MAX = 1024


def parquet_parts(file: DataFile, name: str) -> Iterator[Part]:
    """The row groups of a file, of which only the end is read to find them.

    The file is open until the next one is asked for.

    Args:
        file: the file.
        name: see `Part`.

    Raises:
        DataError: if it is none, or damaged.
    """
    with _opened(file) as content, reading(file.location):
        first = 0
        for index in range(content.metadata.num_row_groups):
            group = _Group(content, file, index)
            yield Part(name, file.location, first, group.rows, group)
            first += group.rows


class _opened:  # noqa: N801 - a context manager, used as a function
    """The parquet file, with its remote file closed after it; errors name the file."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._source: Any = None

    def __enter__(self) -> pq.ParquetFile:
        with reading(self._file.location):
            self._source = self._file.open(at_random=True)
            if not self._source.seekable():
                raise DataError(
                    self._file.location,
                    "is parquet, which is not read from its beginning, and its server gives no "
                    "parts of a file",
                    fix="Copy it here, or serve it with ranges.",
                )
            return pq.ParquetFile(self._source, buffer_size=2**20, pre_buffer=False)

    def __exit__(self, *_: object) -> None:
        if self._source is not None:
            self._source.close()


class _Group:
    """Reads one row group."""

    def __init__(self, content: pq.ParquetFile, file: DataFile, index: int) -> None:
        self._content, self._where, self._index = content, file.location, index
        self._values = partition_values(file.location)
        self.rows = int(content.metadata.row_group(index).num_rows)

    def __call__(self, columns: Columns, positions: Positions) -> Iterator[Row]:
        with reading(self._where):  # also of what the values raise, such as texts that are none
            yield from self._read(columns, positions)

    def _read(self, columns: Columns, positions: Positions) -> Iterator[Row]:
        content, wanted = self._content, self._columns(columns)
        size = _batch_rows(content, self._index, wanted)
        batches = content.iter_batches(size, row_groups=[self._index], columns=wanted)
        begin = 0
        while begin < self.rows and len(within(positions, begin, self.rows)):
            batch = next(batches, None)
            if batch is None:
                raise DataError(self._where, "holds fewer rows than its end says")
            here = np.asarray(within(positions, begin, begin + batch.num_rows)) - begin
            begin += batch.num_rows
            if len(here):
                part = batch if len(here) == batch.num_rows else batch.take(pa.array(here))
                yield from _rows(part, self._values)

    def _columns(self, columns: Columns) -> list[str] | None:
        """Those to read; all where one lacks, so that the message can list them."""
        names = self._content.schema_arrow.names
        if columns is None or set(columns) - set(names) - set(self._values):
            return None
        return [name for name in names if name in columns]


def _batch_rows(content: pq.ParquetFile, group: int, columns: list[str] | None) -> int:
    """So many rows that they hold about _BATCH_BYTES."""
    found = content.metadata.row_group(group)
    paths = [found.column(index) for index in range(found.num_columns)]
    size = sum(
        column.total_uncompressed_size
        for column in paths
        if columns is None or column.path_in_schema.partition(".")[0] in columns
    )
    each = max(size // max(found.num_rows, 1), 1)
    return int(min(max(_BATCH_BYTES // each, 1), _BATCH_ROWS_MAX))


def _rows(batch: pa.RecordBatch, values: Mapping[str, str | None]) -> Iterator[Row]:
    columns = {name: _values(batch.column(name)) for name in batch.schema.names}
    for index in range(batch.num_rows):
        yield {**values, **{name: column[index] for name, column in columns.items()}}


def _values(column: pa.Array) -> Sequence[Any]:
    """The values of a column; lists of numbers are arrays, which takes a hundredth of the time."""
    if isinstance(column, pa.FixedShapeTensorArray) and not column.null_count:
        found: Sequence[Any] = column.to_numpy_ndarray()
        return found
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    shape = _shape(column)
    if shape is not None:
        return _flat(column).reshape(len(column), *shape)  # type: ignore[no-any-return]
    if _is_list_of_numbers(column):
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return np.split(flat, np.cumsum(column.value_lengths().to_numpy()[:-1]))
    plain: list[Any] = column.to_pylist()
    return plain


def _shape(column: pa.Array) -> tuple[int, ...] | None:
    """Of the lists in a column where it is in their type, and nothing lacks."""
    shape: list[int] = []
    while pa.types.is_fixed_size_list(column.type):
        if column.null_count:
            return None
        shape.append(column.type.list_size)
        column = column.flatten()
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    return tuple(shape) if shape and numeric and not column.null_count else None


def _flat(column: pa.Array) -> Any:
    while pa.types.is_fixed_size_list(column.type):
        column = column.flatten()
    return column.to_numpy(zero_copy_only=False)


def _is_list_of_numbers(column: pa.Array) -> bool:
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or column.null_count:
        return False
    inner = kind.value_type
    numeric = pa.types.is_integer(inner) or pa.types.is_floating(inner)
    return numeric and len(column) > 0 and not column.flatten().null_count
