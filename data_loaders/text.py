"""Labelled text through a tokenizer."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from tokenizers import BertWordPieceTokenizer, Tokenizer

from data_loaders.base import (
    LoaderSpec,
    encodable,
    label_from_value,
    row_id,
    taken,
    with_unique_ids,
)
from data_loaders.errors import DataError
from data_loaders.rows import Row, RowsSpec, column, rows_from_spec, rows_source
from data_loaders.types import Array, Preview, Sample

_ENCODING_FIELDS = {
    "input_ids": "ids",
    "attention_mask": "attention_mask",
    "token_type_ids": "type_ids",
}


class TextSpec(LoaderSpec):
    """Rows of text, tokenized."""

    kind: Literal["text"] = "text"
    rows: RowsSpec = Field(description="Where the rows come from.")
    tokenizer: Path = Field(description="tokenizer.json, vocab.txt, or a directory with one.")
    text_column: str = Field(default="text", description="Column of the text.")
    text_pair_column: str | None = Field(default=None, description="Column of a second text.")
    label_column: str | None = Field(default=None, description="Column of the label.")
    id_column: str | None = Field(default=None, description="Column of a unique id.")
    slice_columns: tuple[str, ...] = Field(default=(), description="Columns to slice results by.")
    max_length: int = Field(
        default=128, ge=1, le=2**24, description="Longest sequence kept, in tokens."
    )
    inputs: tuple[Literal["input_ids", "attention_mask", "token_type_ids"], ...] = Field(
        default=("input_ids", "attention_mask", "token_type_ids"),
        min_length=1,
        description="Arrays to make: the names of the model's inputs.",
    )


class Text:
    """The samples of a TextSpec: int64 arrays of shape (length,)."""

    def __init__(self, spec: TextSpec) -> None:
        self.spec = spec
        self.source = rows_source(spec.rows)
        self.class_names = spec.classes
        self._tokenizer = _tokenizer(spec.tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_length)

    @property
    def pad_values(self) -> Mapping[str, int]:
        """What to fill padded positions with, by input name."""
        for token in ("[PAD]", "<pad>", "<|pad|>"):
            if (number := self._tokenizer.token_to_id(token)) is not None:
                return {"input_ids": int(number)}
        return {}

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids: every id in a sample is below it."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

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
        encoding = self._tokenizer.encode(text, pair)
        label = column(row, spec.label_column, where) if spec.label_column else None
        own_id = encodable(str(column(row, spec.id_column, where))) if spec.id_column else None
        return Sample(
            id=row_id(index) if own_id is None else own_id,
            inputs={name: _array(encoding, name) for name in spec.inputs},
            label=label_from_value(_as_number(label, spec), spec.classes, where),
            metadata={n: encodable(str(column(row, n, where))) for n in spec.slice_columns},
            preview=Preview(text=text if pair is None else f"{text}\n{pair}"),
        )


def _as_number(label: object, spec: TextSpec) -> object:
    """CSV files hold class indices as text; without class names that is what it must be."""
    if isinstance(label, str) and spec.classes is None and label.lstrip("-").isdigit():
        return int(label)
    return label


def _array(encoding: object, name: str) -> Array:
    return np.asarray(getattr(encoding, _ENCODING_FIELDS[name]), dtype=np.int64)


def _tokenizer(path: Path) -> Tokenizer:
    candidates = [path / "tokenizer.json", path / "vocab.txt"] if path.is_dir() else [path]
    found = next((p for p in candidates if p.is_file()), None)
    if found is None:
        raise DataError(str(path), "there is no tokenizer", expected="tokenizer.json or vocab.txt")
    try:
        if found.suffix == ".txt":
            return _wordpiece(found)
        return Tokenizer.from_file(str(found))
    except Exception as error:  # tokenizers raises plain Exception
        raise DataError(str(found), f"is no tokenizer: {error}") from error


def _wordpiece(vocabulary: Path) -> Tokenizer:
    settings = vocabulary.with_name("tokenizer_config.json")
    options = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    lower = bool(options.get("do_lower_case", True))
    wordpiece = BertWordPieceTokenizer(str(vocabulary), lowercase=lower)
    return Tokenizer.from_str(wordpiece.to_str())
