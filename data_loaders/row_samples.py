"""What loaders share that make samples of rows."""

from collections.abc import Iterator, Mapping
from typing import Any

from data_loaders.base import encodable, with_unique_ids
from data_loaders.parts import Part, Placed, counted_parts, placed_ids, placed_rows
from data_loaders.rows import AnyRowsSpec, column, parts_from_spec
from data_loaders.selecting import Positions, Selecting
from data_loaders.types import Sample


class RowSamples(Selecting):
    """A loader that makes one sample of each row.

    Args:
        rows: where they come from.
        columns: which of their columns are needed.
        id_column: of these the one of the id; None if the row's number is the id.
        source: for messages.
    """

    def __init__(
        self, rows: AnyRowsSpec, columns: tuple[str, ...], id_column: str | None, source: str
    ) -> None:
        self._rows, self._columns, self._id_column = rows, columns, id_column
        self.source = source
        self._counts: dict[str, int] = {}

    def known(self) -> dict[str, Any]:
        """As `Choosing.known`; also how many rows each file has."""
        return {**super().known(), "rows": dict(self._counts)}

    def recall(self, known: Mapping[str, Any]) -> None:
        """As `Choosing.recall`."""
        super().recall(known)
        self._counts.update(known.get("rows", {}))

    def total(self) -> int | None:
        """As `Choosing.total`: parquet tells it, and what was read before."""
        rows = [part.rows for part in self._parts()]
        return None if None in rows else sum(count or 0 for count in rows)

    def _sample(self, placed: Placed) -> Sample:
        """A row as a sample."""
        raise NotImplementedError

    def _parts(self) -> Iterator[Part]:
        return counted_parts(parts_from_spec(self._rows), self._counts)

    def _id(self, placed: Placed) -> str:
        if self._id_column is None:
            return placed.id
        return encodable(str(column(placed.row, self._id_column, placed.where)))

    def _ids(self, positions: range) -> Iterator[tuple[int, str]]:
        parts = self._parts()
        if self._id_column is None:
            yield from placed_ids(parts, positions)
            return
        for placed in placed_rows(parts, positions, (self._id_column,)):
            yield placed.place, self._id(placed)

    def _read(self, positions: Positions) -> Iterator[Sample]:
        rows = placed_rows(self._parts(), positions, self._columns)
        yield from with_unique_ids(map(self._sample, rows), self.source)


def needed(*names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The columns that these settings name, each once."""
    listed = ((name,) if isinstance(name, str) else name or () for name in names)
    return tuple(dict.fromkeys(name for group in listed for name in group))
