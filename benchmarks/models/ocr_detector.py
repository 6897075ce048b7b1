"""PP-OCRv4's mobile detector on rendered pages: where is text?

Weights: PaddleOCR (Apache-2.0), from `rapidocr-onnxruntime`. Data: pages rendered in matplotlib's
fonts (Bitstream Vera derivative; STIX licence), the pages of `examples.text_segmenter`.

The output is each pixel's probability of being text, (batch, 1, 320, 320); above 0.3 it is text.
There is no label: a candidate is compared with FP32's mask.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.models import common, paddle
from examples import rendering, text_segmenter
from examples.rendering import Box
from examples.text_segmenter import SIZE

CALIBRATION, VALIDATION = 256, 300
THRESHOLD = 0.3

_NAME = "ocr_detector"
_SEED = 320


def build() -> Path:
    """The folder with the model and its data; the arrays hold `x` only."""
    return common.built(
        _NAME, (__file__, paddle.__file__, text_segmenter.__file__, rendering.__file__), _make
    )


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


def _page(split: int, index: int) -> tuple[NDArray[np.float32], tuple[Box, ...]]:
    """A page as the detector's input, and its lines' places."""
    page = text_segmenter.page(np.random.default_rng([_SEED, split, index]))
    pixels = page.pixels / np.float32(127.5) - np.float32(1)
    return np.repeat(pixels[None], 3, axis=0), page.places


def _covered(boxes: tuple[Box, ...]) -> NDArray[np.bool_]:
    out = np.zeros((SIZE, SIZE), dtype=bool)
    for left, top, right, bottom in boxes:
        out[top:bottom, left:right] = True
    return out
