"""Lists within a JSON object read record by record, so that a file of any size takes little memory.

A window of the text is held, and `json`'s own scanner reads one record from it at a time.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from data_loaders.errors import DataError
from data_loaders.files import DataFile

_CHUNK = 1 << 20
_RECORD_MAX = 1 << 26
"""Characters of one record, or of one value beside the lists; more is no list of records."""
_BLANK = " \t\n\r"


def read_lists(
    source: Path | DataFile, take: Mapping[str, Callable[[Any], None]], expected: str
) -> set[str]:
    """Hand each record of the lists that are named to what takes it, in the file's order.

    Args:
        source: a JSON file that holds an object.
        take: by the name of a list.
        expected: what the file should hold, for messages.

    Returns:
        the names of the lists that were there.

    Raises:
        DataError: if the file cannot be read, or is no such JSON; the place is told.
    """
    where = place_of(source)
    try:
        raw = source.open("rb") if isinstance(source, Path) else source.open()
        with raw, io.TextIOWrapper(raw, encoding="utf-8") as file:
            return _Reader(file, where, expected).lists(take)
    except FileNotFoundError as error:
        raise DataError(where, "there is no such file") from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(where, f"cannot be read as JSON: {error}") from error


def place_of(source: Path | DataFile) -> str:
    """Where a file is, for messages."""
    return str(source) if isinstance(source, Path) else source.location


class _Reader:
    """A place in the text, and as much of it as is needed there."""

    def __init__(self, file: TextIO, where: str, expected: str) -> None:
        self._file, self._where, self._expected = file, where, expected
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._at, self._ended = "", 0, False
        self._before, self._line, self._column = 0, 1, 1

    def lists(self, take: Mapping[str, Callable[[Any], None]]) -> set[str]:
        if self._next() != "{":
            raise DataError(self._where, "holds no object", expected=self._expected)
        self._at += 1
        found: set[str] = set()
        for _ in self._items("}"):
            name = self._value()
            if not isinstance(name, str):
                raise self._malformed("Expecting property name enclosed in double quotes")
            self._expect(":")
            if name not in take:
                self._value()
                continue
            if self._next() != "[":
                raise DataError(self._where, f"has no list of {name}", expected=self._expected)
            self._at += 1
            found.add(name)
            for _ in self._items("]"):
                take[name](self._value())
        if self._next():
            raise self._malformed("Extra data")
        return found

    def _items(self, end: str) -> Iterator[None]:
        """Stops before each item of a list or an object, up to its end."""
        if self._next() == end:
            self._at += 1
            return
        while True:
            yield
            if self._next() == end:
                self._at += 1
                return
            self._expect(",")

    def _expect(self, mark: str) -> None:
        if self._next() != mark:
            raise self._malformed(f"Expecting '{mark}' delimiter")
        self._at += 1

    def _next(self) -> str:
        """The next character that is no blank, which is not taken; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANK:
                    return self._text[self._at]
                self._at += 1
            if not self._more(_CHUNK):
                return ""

    def _value(self) -> Any:
        """The value that begins at the next character."""
        self._next()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # It may be cut: then more of it is read, twice as much each time.
                held = len(self._text) - self._at
                if held > _RECORD_MAX or not self._more(max(_CHUNK, held)):
                    self._at = max(self._at, error.pos)
                    raise self._malformed(error.msg) from error
                continue
            # A number that ends with the window may go on behind it.
            if end == len(self._text) and self._more(_CHUNK):
                continue
            self._at = end
            return value

    def _more(self, characters: int) -> bool:
        """Read on, and forget what was taken; False at the end of the file."""
        new = "" if self._ended else self._file.read(characters)
        self._ended = not new
        if new:
            self._count(self._text[: self._at])
            self._text, self._at = self._text[self._at :] + new, 0
        return bool(new)

    def _count(self, taken: str) -> None:
        self._before += len(taken)
        lines = taken.count("\n")
        self._line += lines
        rest = len(taken) - taken.rfind("\n") - 1
        self._column = rest + 1 if lines else self._column + len(taken)

    def _malformed(self, problem: str) -> DataError:
        self._count(self._text[: self._at])
        return DataError(
            self._where,
            f"cannot be read as JSON: {problem}: line {self._line} column {self._column} "
            f"(char {self._before})",
            got=self._text[self._at : self._at + 40] or "the end of the file",
        )
