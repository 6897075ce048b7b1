"""PP-OCRv4's mobile recognizer on rendered lines: what does the line say?

Weights: PaddleOCR (Apache-2.0), from `rapidocr-onnxruntime`. Data: lines rendered by
`examples.text_recognizer` in matplotlib's fonts (Bitstream Vera derivative; STIX licence).

The output is the probability of each class at each of 40 steps; class 0 is CTC's blank. A label is
the line's classes without spaces, which PaddleOCR's own metric leaves out too, padded with 0.
"""

from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.models import common, paddle
from examples import rendering, text_recognizer
from examples.text_recognizer import HEIGHT, STEPS, WIDTH, fitted

CLASSES = 6625
CALIBRATION, VALIDATION = 256, 500
BLANK, SPACE = 0, CLASSES - 1

_NAME = "ocr_recognizer"
_SEED = 48
_LONGEST = 40


def build() -> Path:
    """The folder with the model and its data."""
    return common.built(
        _NAME, (__file__, paddle.__file__, text_recognizer.__file__, rendering.__file__), _make
    )


def decode(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Classes of each line by greedy CTC decoding, without spaces, (lines, 40), padded with 0.

    Args:
        scores: (lines, steps, classes).
    """
    best = scores.argmax(axis=-1)
    out = np.zeros((len(best), _LONGEST), dtype=np.int64)
    for row, steps in enumerate(best):
        classes = [key for key, _ in groupby(steps.tolist()) if key not in (BLANK, SPACE)]
        out[row, : len(classes)] = classes
    return out


def _make(folder: Path) -> None:
    shape: list[str | int] = ["batch", 3, HEIGHT, WIDTH]
    model = paddle.model("ch_PP-OCRv4_rec_infer", shape, ["batch", STEPS, CLASSES])
    (known,) = (p.value for p in model.metadata_props if p.key == "character")
    classes = {character: index + 1 for index, character in enumerate(known.splitlines())}
    calibration = _lines(0, CALIBRATION, classes)
    validation = _lines(1, VALIDATION, classes)
    common.save(folder, model, {"x": calibration["x"]}, validation)
    found = decode(common.outputs(folder / "model.onnx", {"x": validation["x"]}))
    exact = (found == validation["label"]).all(axis=1).mean()
    print(f"{_NAME}: FP32 reads {exact:.2%} of {VALIDATION} lines without an error")


def _lines(split: int, count: int, classes: dict[str, int]) -> common.Arrays:
    x = np.zeros((count, 3, HEIGHT, WIDTH), dtype=np.float32)
    label = np.zeros((count, _LONGEST), dtype=np.int64)
    for index in range(count):
        rng = np.random.default_rng([_SEED, split, index])
        image, text, _ = text_recognizer.line(rng)
        pixels = fitted(image)
        x[index, :, :, : pixels.shape[1]] = pixels / np.float32(127.5) - np.float32(1)
        line = [classes[character] for character in text if character != " "]
        label[index, : len(line)] = line
    return {"x": x, "label": label}
