"""Rows with their places, and sources in parts of which those that are not wanted are not read."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from data_loaders.base import row_id
from data_loaders.errors import DataError
from data_loaders.selecting import Positions, end_of, picked, within

Row = Mapping[str, Any]
KEY = "__key__"
"""The column of a row's name in its file, where rows have names."""
Columns = Collection[str] | None
"""Those that are wanted; None: all. A reader may give more."""

Reader = Callable[[Columns, Positions], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class Placed:
    """A row.

    Attributes:
        number: in this reading, from 0.
        place: among all rows of the source, from 0.
        id: of a row that has no column for it.
        where: the file and the number in it, for messages.
        row: column to value.
    """

    number: int
    place: int
    id: str
    where: str
    row: Row


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or a stretch of one.

    Attributes:
        name: what ids begin with; empty where the source is one file.
        where: the file, for messages.
        first: the number of its first row in its file.
        rows: how many there are; None if only reading tells.
        read: the rows, of the wanted columns, at these places in the part. If `rows` is not known,
            one for each place up to the last of these, of which those at others may be empty.
    """

    name: str
    where: str
    first: int
    rows: int | None
    read: Reader


def placed_rows(
    parts: Iterable[Part], positions: Positions, columns: Columns = None
) -> Iterator[Placed]:
    """The rows at some places of a source; parts without any are passed over.

    Args:
        parts: in order.
        positions: which rows.
        columns: which columns are needed.
    """
    for number, (part, begin, index, row) in enumerate(_rows(parts, positions, columns)):
        place = row[KEY] if KEY in row else f"row {part.first + index}"
        name = _id(part, begin, index, row)
        yield Placed(number, begin + index, name, f"{part.where}, {place}", row)


def _rows(
    parts: Iterable[Part], positions: Positions, columns: Columns
) -> Iterator[tuple[Part, int, int, Row]]:
    """Rows with their part, the place of its first row, and their number in it."""
    begin, end = 0, end_of(positions)
    for part in parts:
        if begin >= end:
            return
        if part.rows is None:
            here = moved(within(positions, begin, end), -begin)
            counted = _Counted(part.read(columns, here))
            for index, row in picked(counted, here):
                yield part, begin, index, row
            begin += counted.count
            continue
        here = moved(within(positions, begin, begin + part.rows), -begin)
        if len(here):
            for index, row in zip(here, part.read(columns, here), strict=True):
                yield part, begin, int(index), row
        begin += part.rows


def placed_ids(parts: Iterable[Part], positions: range) -> Iterator[tuple[int, str]]:
    """Place and id of rows that have no column for it; what has its rows counted is not read."""
    begin = 0
    for part in parts:
        if begin >= positions.stop:
            return
        count = part.rows
        if count is None:
            number = -1
            for number, row in enumerate(part.read((), positions)):
                if begin + number in positions:
                    yield begin + number, _id(part, begin, number, row)
            count = number + 1
        else:
            for place in within(positions, begin, begin + count):
                yield int(place), _id(part, begin, int(place) - begin, {})
        begin += count


def counted_parts(parts: Iterable[Part], counts: dict[str, int]) -> Iterator[Part]:
    """The parts, those whose rows were counted before with their number, so that they are skipped.

    Args:
        parts: in order.
        counts: rows by file; those of files that are read to their end are noted here.
    """
    for part in parts:
        if part.rows is not None:
            yield part
        elif part.where in counts:
            rows = counts[part.where]
            yield replace(part, rows=rows, read=partial(_read_counted, part, rows))
        else:
            yield replace(part, read=partial(_read_and_count, part, counts))


def _read_and_count(
    part: Part, counts: dict[str, int], columns: Columns, positions: Positions
) -> Iterator[Row]:
    counted = _Counted(part.read(columns, positions))
    yield from counted
    counts[part.where] = counted.count


def _read_counted(part: Part, rows: int, columns: Columns, positions: Positions) -> Iterator[Row]:
    found = 0
    for _, row in picked(part.read(columns, positions), positions):
        found += 1
        yield row
    if found < len(positions):
        raise DataError(
            part.where,
            "has changed since it was read first",
            got="fewer rows",
            expected=f"{rows:,} rows",
        )


def moved(positions: Positions, by: int) -> Positions:
    """The same places, counted from elsewhere."""
    if isinstance(positions, range):
        return range(positions.start + by, positions.stop + by)
    return positions + by


def _id(part: Part, begin: int, number: int, row: Row) -> str:
    """Of a source of many files it does not depend on the other files."""
    if KEY in row:
        return f"{part.name}/{row[KEY]}"
    if not part.name:
        return row_id(begin + number)
    return f"{part.name}/{row_id(part.first + number)}"


class _Counted:
    """Items, and how many of them were read."""

    def __init__(self, items: Iterable[Row]) -> None:
        self._items = items
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        for item in self._items:
            self.count += 1
            yield item
