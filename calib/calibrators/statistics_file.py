"""Statistics on disk: one npz a pass, with what they were made from. See docs/calibration.md."""

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.calibrators.histogram import TensorStatistics
from calib.calibrators.not_finite import NONE, NotFinite
from calib.calibrators.parts import TensorParts
from calib.errors import StoreError
from calib.store import write_atomically

FORMAT = 3
_READABLE = (2, FORMAT)
"""Format 2 is from when a value that is not finite ended the pass: it holds none."""
_SHOWN = 60
_DAMAGES = (
    OSError,
    EOFError,
    AttributeError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    zlib.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, slots=True)
class StatisticsFile:
    """The content of a statistics file.

    Attributes:
        parts: by tensor.
        made_from: JSON-serialisable: the hashes of model and data, and the settings.
        shards: the numbers, from 1, of the shards it holds, and how many there are in all.
        batches: number of batches counted.
        samples: number of samples counted.
    """

    parts: dict[str, TensorParts]
    made_from: dict[str, Any]
    shards: tuple[tuple[int, ...], int]
    batches: int
    samples: int

    @property
    def is_whole(self) -> bool:
        """Whether no shard is missing."""
        return len(self.shards[0]) == self.shards[1]


def save_statistics(path: Path, content: StatisticsFile) -> None:
    """Write a statistics file; replaced whole. Equal content gives equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **_columns(content))
    write_atomically(path, buffer.getvalue())


def save_passing(path: Path, content: StatisticsFile) -> None:
    """Write statistics that are read once and then removed: quicker, and larger.

    Uncompressed, in the smallest type that holds every count, without the parts that are of other
    shards and hold nothing.
    """
    columns = _columns(content)
    counted = np.flatnonzero(columns["count"])
    counts = columns["counts"][counted]
    columns["counts"] = counts.astype(np.min_scalar_type(counts.max(initial=0)))
    columns["counted"] = counted
    buffer = io.BytesIO()
    np.savez(buffer, **columns)
    write_atomically(path, buffer.getvalue())


def _columns(content: StatisticsFile) -> dict[str, Any]:
    names = sorted(content.parts)
    tensors = [content.parts[name] for name in names]
    rows = [part for tensor in tensors for part in tensor.parts]
    held, total = ((1,), 1) if content.is_whole else content.shards
    header = {
        "format": FORMAT,
        "made_from": content.made_from,
        "tensors": names,
        "part_batches": [t.size for t in tensors],
        "part_counts": [len(t.parts) for t in tensors],
        "shards": {"held": held, "of": total},
        "batches": content.batches,
        "samples": content.samples,
        "not_finite": {
            str(k): asdict(s.not_finite) for k, s in enumerate(rows) if s.not_finite.values
        },
    }
    return {
        "header": np.array(json.dumps(header, sort_keys=True)),
        "counts": np.stack([s.counts for s in rows]) if rows else np.zeros((0, 0), np.int64),
        "exponent": np.array([s.exponent for s in rows], dtype=np.int64),
        "minimum": np.array([s.minimum for s in rows], dtype=np.float64),
        "maximum": np.array([s.maximum for s in rows], dtype=np.float64),
        "count": np.array([s.count for s in rows], dtype=np.int64),
        "zeros": np.array([s.zeros for s in rows], dtype=np.int64),
    }


def load_statistics(path: Path) -> StatisticsFile:
    """Read what `save_statistics` wrote, or `save_passing`.

    Raises:
        StoreError: if the file is missing, damaged, or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"]))
            if header["format"] not in _READABLE:
                raise ValueError(f"format {header['format']}, expected {FORMAT}")
            columns = {name: archive[name] for name in archive.files if name != "header"}
        columns = {
            name: column.tolist() for name, column in columns.items() if column.ndim == 1
        } | {"counts": _counts(columns)}
        return StatisticsFile(
            parts=_parts(header, columns),
            made_from=header["made_from"],
            shards=(tuple(header["shards"]["held"]), header["shards"]["of"]),
            batches=header["batches"],
            samples=header["samples"],
        )
    except _DAMAGES as error:
        raise StoreError(
            str(path), f"holds no calibration statistics: {error}", fix="Calibrate again."
        ) from error


def _counts(columns: dict[str, Any]) -> Sequence[NDArray[np.int64]]:
    """The histogram of every part; see `save_passing`."""
    found: NDArray[np.int64] = columns["counts"].astype(np.int64, copy=False)
    if "counted" not in columns:
        return list(found)
    counts = [np.zeros(found.shape[1], np.int64)] * len(columns["count"])
    for row, own in zip(columns["counted"], found, strict=True):
        counts[row] = own
    return counts


def _parts(header: dict[str, Any], columns: dict[str, Any]) -> dict[str, TensorParts]:
    bad = {int(row): _not_finite(found) for row, found in header.get("not_finite", {}).items()}
    found, row = {}, 0
    described = zip(header["tensors"], header["part_batches"], header["part_counts"], strict=True)
    for name, size, count in described:
        rows = range(row, row + count)
        # Parts that hold nothing are alike: of a shard's file that is most of them.
        empty = [r for r in rows if not columns["count"][r] and r not in bad]
        own = {r: _statistics(name, columns, r, bad) for r in rows if r not in empty[1:]}
        found[name] = TensorParts(size, tuple(own[r] if r in own else own[empty[0]] for r in rows))
        row += count
    return found


def _not_finite(found: dict[str, Any]) -> NotFinite:
    return NotFinite(**{**found, "ids": tuple(found["ids"])})


def _statistics(
    name: str, columns: dict[str, Any], row: int, bad: Mapping[int, NotFinite]
) -> TensorStatistics:
    return TensorStatistics(
        name=name,
        counts=columns["counts"][row],
        exponent=columns["exponent"][row],
        minimum=columns["minimum"][row],
        maximum=columns["maximum"][row],
        count=columns["count"][row],
        zeros=columns["zeros"][row],
        not_finite=bad.get(row, NONE),
    )


def refuse_stale(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse statistics that were made from something else.

    Raises:
        StoreError: naming each field that differs, with both values.
    """
    fields = [name for name in wanted if found.get(name) != wanted[name]]
    if fields:
        raise StoreError(
            str(path),
            "is stale: it was made from another " + ", another ".join(map(_spoken, fields)),
            got="; ".join(f"{name} {_short(found.get(name))}" for name in fields),
            expected="; ".join(f"{name} {_short(wanted[name])}" for name in fields),
            fix="Calibrate again.",
        )


def _spoken(field: str) -> str:
    return field.replace("_", " ")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def merge_files(paths: Iterable[Path]) -> StatisticsFile:
    """The statistics of several shards together: those of one process, if none is missing.

    Raises:
        StoreError: if a file cannot be read, two were made from different things, or a shard is
            there twice.
    """
    merged: StatisticsFile | None = None
    for path in paths:
        content = load_statistics(path)
        merged = content if merged is None else _merged(path, merged, content)
    if merged is None:
        raise ValueError("nothing to merge")
    return merged


def _merged(path: Path, one: StatisticsFile, two: StatisticsFile) -> StatisticsFile:
    refuse_stale(path, two.made_from, one.made_from)
    if one.shards[1] != two.shards[1] or set(one.shards[0]) & set(two.shards[0]):
        raise StoreError(
            str(path),
            "does not go with the shards before it",
            got=f"shards {list(two.shards[0])} of {two.shards[1]}",
            expected=f"others than {list(one.shards[0])}, of {one.shards[1]}",
        )
    held = tuple(sorted((*one.shards[0], *two.shards[0])))
    return StatisticsFile(
        # Of format 2: what a shard gave up is given up.
        parts={n: parts.merge(two.parts[n]) for n, parts in one.parts.items() if n in two.parts},
        made_from=one.made_from,
        shards=(held, one.shards[1]),
        batches=one.batches + two.batches,
        samples=one.samples + two.samples,
    )
