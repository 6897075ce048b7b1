"""PP-OCRv4's mobile detector on rendered pages: where is text?

Weights: PaddleOCR (Apache-2.0), from `rapidocr-onnxruntime`. Data: pages rendered in matplotlib's
fonts (Bitstream Vera derivative; STIX licence), with the lines of `examples.textline`.

The output is each pixel's probability of being text, (batch, 1, 320, 320); above 0.3 it is text.
There is no label: a candidate is compared with FP32's mask.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.models import common, paddle
from examples import textline
from examples.textline import _FONTS, _degraded, _drawn, _text

SIZE = 320
CALIBRATION, VALIDATION = 256, 300
THRESHOLD = 0.3

_NAME = "ocr_detector"
_SEED = 320
_LINES = (3, 9)
_TRIES = 40


def build() -> Path:
    """The folder with the model and its data; the arrays hold `x` only."""
    return common.built(_NAME, (__file__, paddle.__file__, textline.__file__), _make)


def _make(folder: Path) -> None:
    model = paddle.model(
        "ch_PP-OCRv4_det_infer", ["batch", 3, SIZE, SIZE], ["batch", 1, SIZE, SIZE]
    )
    drawn = [_page(1, index) for index in range(VALIDATION)]
    validation = {"x": np.stack([x for x, _ in drawn])}
    calibration = {"x": np.stack([_page(0, index)[0] for index in range(CALIBRATION)])}
    common.save(folder, model, calibration, validation)
    mask = common.outputs(folder / "model.onnx", validation, 8)[:, 0] > THRESHOLD
    boxes = [
        mask[page, top:bottom, left:right].any()
        for page, (_, rows) in enumerate(drawn)
        for left, top, right, bottom in rows
    ]
    ground = np.stack([~_covered(rows) for _, rows in drawn])
    print(
        f"{_NAME}: FP32 finds {np.mean(boxes):.2%} of {len(boxes)} lines on {VALIDATION} pages, "
        f"and calls {mask[ground].mean():.2%} of the ground text"
    )


Box = tuple[int, int, int, int]


def _page(split: int, index: int) -> tuple[NDArray[np.float32], list[Box]]:
    """A page as the detector's input, and its lines' boxes."""
    rng = np.random.default_rng([_SEED, split, index])
    light = bool(rng.random() < 0.3)
    lines = [
        _drawn(_text(rng), str(rng.choice(_FONTS)), rng, light=light)
        for _ in range(rng.integers(*_LINES))
    ]
    shade = int(rng.integers(0, 90)) if light else int(rng.integers(150, 256))
    page = Image.new("L", (SIZE, SIZE), shade)
    boxes: list[Box] = []
    for line in lines:
        line.thumbnail((SIZE - 16, SIZE))
        for _ in range(_TRIES):
            left = int(rng.integers(0, SIZE - line.width))
            top = int(rng.integers(0, SIZE - line.height))
            box = (left, top, left + line.width, top + line.height)
            if not any(_touch(box, other) for other in boxes):
                page.paste(line, (left, top))
                boxes.append(box)
                break
    if rng.random() < 0.5:
        page = _degraded(page, rng)
    pixels = np.asarray(page, dtype=np.float32) / np.float32(127.5) - np.float32(1)
    return np.repeat(pixels[None], 3, axis=0), boxes


def _touch(one: Box, other: Box) -> bool:
    return not (
        one[2] + 4 < other[0]
        or other[2] + 4 < one[0]
        or one[3] + 4 < other[1]
        or other[3] + 4 < one[1]
    )


def _covered(boxes: list[Box]) -> NDArray[np.bool_]:
    out = np.zeros((SIZE, SIZE), dtype=bool)
    for left, top, right, bottom in boxes:
        out[top:bottom, left:right] = True
    return out
