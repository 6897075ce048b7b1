"""Labelled text through a tokenizer."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_loaders.base import (
    encodable,
    label_from_value,
    row_id,
    taken,
    with_unique_ids,
)
from data_loaders.errors import DataError
from data_loaders.rows import Row, RowsSpec, column, rows_from_spec, rows_source
from data_loaders.token_store import TokenStore
from data_loaders.tokenizing import Tokenized, TokenizedSpec
from data_loaders.types import Preview, Sample


class TextSpec(TokenizedSpec):
    """Rows of text, tokenized."""

    kind: Literal["text"] = "text"
    rows: RowsSpec = Field(description="Where the rows come from.")
    text_column: str = Field(default="text", description="Column of the text.")
    text_pair_column: str | None = Field(default=None, description="Column of a second text.")
    label_column: str | None = Field(default=None, description="Column of the label.")
    id_column: str | None = Field(default=None, description="Column of a unique id.")
    slice_columns: tuple[str, ...] = Field(default=(), description="Columns to slice results by.")


class Text(Tokenized):
    """The samples of a TextSpec: int64 arrays of shape (length,).

    A run reads them once for each engine, and tokenizing takes longer than a small engine does: of
    later readings only the rows are new.
    """

    def __init__(self, spec: TextSpec) -> None:
        self.spec = spec
        self.source = rows_source(spec.rows)
        super().__init__(spec)
        self._tokens = TokenStore(len(spec.inputs))

    def __iter__(self) -> Iterator[Sample]:
        rows = taken(enumerate(rows_from_spec(self.spec.rows)), self.spec)
        yield from with_unique_ids((self._sample(i, row) for i, row in rows), self.source)

    def _sample(self, index: int, row: Row) -> Sample:
        spec, where = self.spec, f"{self.source}, row {index}"
        text = column(row, spec.text_column, where)
        pair = column(row, spec.text_pair_column, where) if spec.text_pair_column else None
        for value in (text, pair or ""):
            if not isinstance(value, str):
                raise DataError(where, "the text is no text", got=repr(value))
        text, pair = encodable(text), pair and encodable(pair)
        tokens = self._tokens.get(
            index - spec.skip, hash((text, pair)), lambda: self._encoded(text, pair)
        )
        label = column(row, spec.label_column, where) if spec.label_column else None
        own_id = encodable(str(column(row, spec.id_column, where))) if spec.id_column else None
        return Sample(
            id=row_id(index) if own_id is None else own_id,
            inputs=dict(zip(spec.inputs, tokens, strict=True)),
            label=label_from_value(_as_number(label, spec), spec.classes, where),
            metadata={n: encodable(str(column(row, n, where))) for n in spec.slice_columns},
            preview=Preview(text=text if pair is None else f"{text}\n{pair}"),
        )

    def _encoded(self, text: str, pair: str | None) -> NDArray[np.int64]:
        arrays = self.arrays(self._tokenizer.encode(text, pair))
        return np.stack([arrays[name] for name in self.spec.inputs])


def _as_number(label: object, spec: TextSpec) -> object:
    """CSV files hold class indices as text; without class names that is what it must be."""
    if isinstance(label, str) and spec.classes is None and label.lstrip("-").isdigit():
        return int(label)
    return label
