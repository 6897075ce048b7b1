"""Tokens that were found once, so that later readings of the same texts need no tokenizer."""

import os
import tempfile
from array import array
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_BYTES_MAX = 1 << 28
"""Of the file. Where temporary files are kept in memory it is memory; what does not fit is made
anew each time."""
_VALUE_BYTES = 4


class TokenStore:
    """Integer arrays by row number, in a temporary file that vanishes with this process.

    In memory are 16 bytes a row. Not safe for two threads at once.

    Args:
        fields: arrays of equal length that each row has.
    """

    def __init__(self, fields: int) -> None:
        self._fields = fields
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the store
        self._texts = array("q")
        self._ends = array("q", [0])

    def get(self, row: int, text: int, make: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
        """What `make` gives for this row, from the file if it was made for the same text before.

        Args:
            row: from 0. Kept are those that come in order.
            text: a hash of everything that `make` depends on.
            make: int64 (fields, length), below 2**31.
        """
        if row < len(self._texts) and self._texts[row] == text:
            return self._read(row)
        made = make()
        if row == len(self._texts) and self._ends[-1] + made.size * _VALUE_BYTES <= _BYTES_MAX:
            self._write(text, made)
        return made

    def _read(self, row: int) -> NDArray[np.int64]:
        begin, end = self._ends[row], self._ends[row + 1]
        found = os.pread(self._file.fileno(), end - begin, begin)
        values = np.frombuffer(found, dtype=np.int32).astype(np.int64)
        return values.reshape(self._fields, -1)

    def _write(self, text: int, made: NDArray[np.int64]) -> None:
        content = made.astype(np.int32).tobytes()
        try:
            if os.pwrite(self._file.fileno(), content, self._ends[-1]) < len(content):
                return
        except OSError:  # the disk is full: nothing is lost but time
            return
        self._texts.append(text)
        self._ends.append(self._ends[-1] + len(content))
