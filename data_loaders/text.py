"""Labelled text through a tokenizer."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_loaders.base import encodable, label_from_value
from data_loaders.errors import DataError
from data_loaders.parts import Placed
from data_loaders.row_samples import RowSamples, needed
from data_loaders.rows import RowsSpec, column, rows_source
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


class Text(Tokenized, RowSamples):
    """The samples of a TextSpec: int64 arrays of shape (length,).

    A run reads them once for each engine, and tokenizing takes longer than a small engine does: of
    later readings only the rows are new.
    """

    def __init__(self, spec: TextSpec) -> None:
        self.spec = spec
        Tokenized.__init__(self, spec)
        columns = needed(
            spec.text_column,
            spec.text_pair_column,
            spec.label_column,
            spec.id_column,
            spec.slice_columns,
        )
        RowSamples.__init__(self, spec.rows, columns, spec.id_column, rows_source(spec.rows))
        self._tokens = TokenStore(len(spec.inputs))

    def _sample(self, placed: Placed) -> Sample:
        spec, row, where = self.spec, placed.row, placed.where
        text = column(row, spec.text_column, where)
        pair = column(row, spec.text_pair_column, where) if spec.text_pair_column else None
        for value in (text, pair or ""):
            if not isinstance(value, str):
                raise DataError(where, "the text is no text", got=repr(value))
        text, pair = encodable(text), pair and encodable(pair)
        tokens = self._tokens.get(
            placed.number, hash((text, pair)), lambda: self._encoded(text, pair)
        )
        label = column(row, spec.label_column, where) if spec.label_column else None
        return Sample(
            id=self._id(placed),
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
