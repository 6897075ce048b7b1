"""The text-line orientation classifier of `examples.textline`: upright or upside down?

Weights: PaddleOCR mobile v2.0 (Apache-2.0), from `rapidocr-onnxruntime`. Data: lines rendered in
matplotlib's fonts (Bitstream Vera derivative; STIX licence).
"""

from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.models import common, paddle
from examples import rendering, textline

CALIBRATION, VALIDATION = 512, 2000

_NAME = "textline"


def build() -> Path:
    """The folder with the model and its data."""
    return common.built(
        _NAME, (__file__, paddle.__file__, textline.__file__, rendering.__file__), _make
    )


def _make(folder: Path) -> None:
    shape: list[str | int] = ["batch", 3, textline.HEIGHT, textline.WIDTH]
    model = paddle.model("ch_ppocr_mobile_v2.0_cls_infer", shape, ["batch", 2])
    calibration = _lines("calibration", CALIBRATION)
    validation = _lines("validation", VALIDATION)
    common.save(folder, model, {"x": calibration["x"]}, validation)
    scores = common.outputs(folder / "model.onnx", validation)
    common.print_accuracy(_NAME, scores, validation["label"])


def _lines(split: Literal["calibration", "validation"], count: int) -> common.Arrays:
    samples = list(textline.samples(split, count))
    return {
        "x": np.stack([sample.inputs["x"] for sample in samples]),
        "label": np.array([sample.label for sample in samples], dtype=np.int64),
    }
