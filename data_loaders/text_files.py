"""Rows of files of text, compressed or not, one at a time."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TextIO, cast

import pyarrow as pa

from data_loaders.errors import DataError
from data_loaders.files import DataFile, suffix_of
from data_loaders.parts import Row
from data_loaders.storage import reading

_TEXTS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt")
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_LINE_CHARACTERS_MAX = 2**28
_FILE_CHARACTERS_MAX = 2**32
FORMATS = (
    ".parquet",
    *_TEXTS,
    *(text + packed for text in _TEXTS for packed in _COMPRESSIONS),
)
"""Suffixes of files of rows."""


def read_rows(file: DataFile) -> Iterator[Row]:
    """The rows of a file of text.

    Raises:
        DataError: if its format is not known, or it cannot be read.
    """
    found = suffix_of(file.location, FORMATS)
    if found is None:
        raise DataError(
            file.location, "is of an unknown format", expected=", ".join((".parquet", *_TEXTS))
        )
    form = "." + found.split(".")[1]
    where = file.location
    readers: dict[str, Callable[[TextIO], Iterator[Row]]] = {
        ".csv": lambda text: _delimited(text, ","),
        ".tsv": lambda text: _delimited(text, "\t"),
        ".json": lambda text: _json(text, where),
        ".jsonl": lambda text: _json_lines(text, where),
        ".ndjson": lambda text: _json_lines(text, where),
        ".txt": _lines,
    }
    newline = "" if form in (".csv", ".tsv") else None
    with reading(where), file.open() as stream:
        content = decompressed(stream, found[len(form) :])
        with io.TextIOWrapper(content, encoding="utf-8", newline=newline) as text:
            yield from readers[form](text)


def _lines_of(text: TextIO) -> Iterator[str]:
    """Line by line, none so long that a small archive could fill the memory with it."""
    while line := text.readline(_LINE_CHARACTERS_MAX):
        if len(line) == _LINE_CHARACTERS_MAX and not line.endswith("\n"):
            raise ValueError(f"a line has over {_LINE_CHARACTERS_MAX:,} characters")
        yield line


def decompressed(stream: BinaryIO, suffix: str) -> BinaryIO:
    """The content of a compressed file, as it is read.

    Args:
        stream: the file.
        suffix: what its name ends in; another than those known: it is not compressed.
    """
    kind = _COMPRESSIONS.get(suffix)
    if kind is None:
        return stream
    return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(stream, kind)))


def _delimited(text: TextIO, delimiter: str) -> Iterator[Row]:
    yield from csv.DictReader(_lines_of(text), delimiter=delimiter, strict=True)


def _json(text: TextIO, where: str) -> Iterator[Row]:
    try:
        content: Any = json.loads(_whole(text))
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise DataError(where, f"is no JSON: {error}") from error
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DataError(where, "holds something else than a list of objects")
    yield from content


def _whole(text: TextIO) -> str:
    content = text.read(_FILE_CHARACTERS_MAX + 1)
    if len(content) > _FILE_CHARACTERS_MAX:
        raise ValueError(f"it has over {_FILE_CHARACTERS_MAX:,} characters; write .jsonl")
    return content


def _json_lines(text: TextIO, where: str) -> Iterator[Row]:
    for number, line in enumerate(_lines_of(text), start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise DataError(f"{where}:{number}", f"is no JSON: {error}") from error
        if row is not None and not isinstance(row, dict):
            raise DataError(f"{where}:{number}", "is no object", got=type(row).__name__)
        if row is not None:
            yield row


def _lines(text: TextIO) -> Iterator[Row]:
    for line in _lines_of(text):
        yield {"text": line.rstrip("\n")}
