"""How far a quantized model's first output is from FP32's, batch by batch in little memory."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import (
    _FAITHFUL,
    _session,
    correct,
    flip_share,
    mask_iou,
    paired_interval,
    read_text_lines,
)
from benchmarks.models import ocr_detector, ocr_recognizer

Array = NDArray[Any]
Task = Literal["classification", "ctc", "mask"]
BATCH = 16
SQNR_MAX = 200.0
"""Reported where outputs are equal; its negative where they are not finite."""


def rows_of(npz: Path, name: str, size: int = BATCH) -> Iterator[Array]:
    """An array of an .npz by batches, without reading it whole."""
    with zipfile.ZipFile(npz) as archive, archive.open(f"{name}.npy") as file:
        header = (
            np.lib.format.read_array_header_1_0
            if np.lib.format.read_magic(file)[0] == 1
            else np.lib.format.read_array_header_2_0
        )
        (count, *shape), is_fortran, dtype = header(file)
        if is_fortran:
            raise ValueError(f"{npz}: {name} is in Fortran order")
        row_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        for start in range(0, count, size):
            rows = min(size, count - start)
            yield np.frombuffer(file.read(rows * row_bytes), dtype).reshape(rows, *shape)


def array_names(npz: Path) -> list[str]:
    """Names of the arrays in an .npz."""
    with zipfile.ZipFile(npz) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def sample_count(npz: Path) -> int:
    """Number of samples in an .npz."""
    return sum(map(len, rows_of(npz, array_names(npz)[0])))


def first_outputs(model: Path, npz: Path, samples: int, threads: int = 2) -> Iterator[Array]:
    """The model's first output by batches, run as `measure.outputs` runs it."""
    running = _session(model, threads, _FAITHFUL)
    names = [value.name for value in running.get_inputs()]
    first = running.get_outputs()[0].name
    left = samples
    for arrays in zip(*(rows_of(npz, name) for name in names), strict=True):
        feed = {n: a[:left] for n, a in zip(names, arrays, strict=True)}
        yield running.run([first], feed)[0]
        left -= len(arrays[0])
        if left <= 0:
            return


def reference(folder: Path, samples: int, key: str) -> Array:
    """FP32's first output, computed once and mapped from disk."""
    path, facts = folder / "fp32.npy", folder / "fp32.json"
    if path.exists() and facts.exists():
        known = json.loads(facts.read_text())
        if known["made_from"] == key and known["samples"] >= samples:
            return np.asarray(np.load(path, mmap_mode="r")[:samples])
    facts.unlink(missing_ok=True)
    start, stored = 0, None
    for part in first_outputs(folder / "model.onnx", folder / "validation.npz", samples):
        if stored is None:
            shape = (samples, *part.shape[1:])
            stored = np.lib.format.open_memmap(path, mode="w+", dtype=part.dtype, shape=shape)
        stored[start : start + len(part)] = part
        start += len(part)
    if stored is None:
        raise ValueError(f"{folder}: there are no validation samples")
    stored.flush()
    facts.write_text(json.dumps({"made_from": key, "samples": samples}))
    return np.asarray(np.load(path, mmap_mode="r"))


@dataclass
class Scores:
    """Sums over batches, and one verdict a sample.

    Attributes:
        task: what the output means.
        signal: energy of FP32's output.
        noise: energy of the difference.
        flips: share of positions that differ, by sample.
        before: FP32's score in [0, 1], by sample.
        after: the quantized model's.
        alike: whether both say the same, by sample; a mask's IoU.
    """

    task: Task
    signal: float = 0.0
    noise: float = 0.0
    flips: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    alike: list[float] = field(default_factory=list)

    def add(self, expected: Array, found: Array, labels: Array | None) -> None:
        """One batch: FP32's output, the quantized model's, and labels where there are."""
        wide = expected.astype(np.float64)
        self.signal += float(np.square(wide).sum())
        self.noise += float(np.square(wide - found).sum())
        if self.task == "mask":
            self._add_mask(expected, found)
            return
        if labels is None:
            raise ValueError("there are no labels")
        self.flips += [flip_share(one, two) for one, two in zip(expected, found, strict=True)]
        if self.task == "ctc":
            self._add_lines(expected, found, labels)
            return
        self.before += correct(expected, labels).tolist()
        self.after += correct(found, labels).tolist()
        self.alike += [1.0 - flip for flip in self.flips[-len(labels) :]]

    def _add_mask(self, expected: Array, found: Array) -> None:
        iou = partial(mask_iou, threshold=ocr_detector.THRESHOLD)
        differ = (expected > ocr_detector.THRESHOLD) != (found > ocr_detector.THRESHOLD)
        self.flips += differ.reshape(len(differ), -1).mean(axis=1).tolist()
        shares = [iou(one, two) for one, two in zip(expected, found, strict=True)]
        self.before += [1.0] * len(shares)
        self.after += shares
        self.alike += shares

    def _add_lines(self, expected: Array, found: Array, labels: Array) -> None:
        for scores, verdicts in ((expected, self.before), (found, self.after)):
            verdicts += (ocr_recognizer.decode(scores) == labels).all(axis=1).tolist()
        pairs = zip(read_text_lines(expected), read_text_lines(found), strict=True)
        self.alike += [one == two for one, two in pairs]

    def figures(self) -> dict[str, float]:
        """What a row says of accuracy: percentages, points and decibels."""
        before, after = np.array(self.before, np.float64), np.array(self.after, np.float64)
        low, high = paired_interval(before, after)
        return {
            "fp32_pct": 100 * float(before.mean()),
            "int8_pct": 100 * float(after.mean()),
            "drop_points": 100 * float(before.mean() - after.mean()),
            "drop_low": low,
            "drop_high": high,
            "flips_pct": 100 * float(np.mean(self.flips)),
            "alike_pct": 100 * float(np.mean(self.alike)),
            "sqnr_db": self._sqnr(),
        }

    def _sqnr(self) -> float:
        if self.noise == 0:
            return SQNR_MAX
        if not np.isfinite(self.noise) or self.signal == 0:
            return -SQNR_MAX
        return float(np.clip(10 * np.log10(self.signal / self.noise), -SQNR_MAX, SQNR_MAX))


def scored(folder: Path, model: Path, task: Task, samples: int, key: str) -> dict[str, float]:
    """Accuracy of a quantized model beside FP32's on the first validation samples.

    Args:
        folder: with FP32's model and the data.
        model: quantized.
        task: what the first output means.
        samples: of the validation split.
        key: what the folder was made from.
    """
    expected = reference(folder, samples, key)
    npz = folder / "validation.npz"
    scores, start = Scores(task), 0
    labels: Iterator[Array | None] = (
        iter(lambda: None, 0) if task == "mask" else rows_of(npz, "label")
    )
    for found, label in zip(first_outputs(model, npz, samples), labels, strict=False):
        stop = start + len(found)
        scores.add(expected[start:stop], found, None if label is None else label[: len(found)])
        start = stop
    return scores.figures()


def first_batch(folder: Path) -> Path:
    """An .npz with the first batch of the validation split: for shapes and for timing."""
    path = folder / "first_batch.npz"
    source = folder / "validation.npz"
    if not path.exists() or path.stat().st_mtime < source.stat().st_mtime:
        parts = {name: next(rows_of(source, name)) for name in array_names(source)}
        np.savez(path, **parts)
    return path
