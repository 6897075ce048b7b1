"""Is a line of text upright or upside down? PaddleOCR's classifier, and lines to ask it about."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_loaders.types import Preview, Sample
from examples import paddle
from examples.packages import kept
from examples.rendering import FONTS, degrade, draw_text, png, words

HEIGHT, WIDTH = 48, 192
"""What the classifier was trained on, in pixels."""

_SEED = 180
_SPLITS = {"calibration": 0, "validation": 1}

Line = tuple[NDArray[np.uint8], int, dict[str, str]]


def model() -> Path:
    """The classifier's ONNX file, copied out of its package once."""
    return kept("textline", paddle.content("ch_ppocr_mobile_v2.0_cls_infer"))


def samples(split: Literal["calibration", "validation"], count: int) -> Iterator[Sample]:
    """Rendered lines; line i is the same whatever `count` is.

    Args:
        split: the two never share a line.
        count: number of lines.

    Yields:
        input `x`, float32 (3, 48, 192) in -1…1; label 0 upright, 1 turned by 180°; metadata font,
        ink (dark or light) and quality (clean or degraded).
    """
    for index in range(count):
        pixels, label, metadata = _line(split, index)
        scaled = (pixels.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
        yield Sample(
            id=f"{split}-{index:05d}",
            inputs={"x": np.repeat(scaled[None], 3, axis=0)},
            label=label,
            metadata=metadata,
            preview=Preview(png=png(pixels)),
        )


@cache
def _line(split: str, index: int) -> Line:
    """One line as uint8 (48, 192), its label, and what it was made of."""
    rng = np.random.default_rng([_SEED, _SPLITS[split], index])
    font = str(rng.choice(FONTS))
    light, degraded = bool(rng.random() < 0.3), bool(rng.random() < 0.5)
    image = draw_text(words(rng), font, rng, light=light)
    if degraded:
        image = degrade(image, rng)
    label = int(rng.random() < 0.5)
    if label:
        image = image.transpose(Image.Transpose.ROTATE_180)
    metadata = {
        "font": font,
        "ink": "light" if light else "dark",
        "quality": "degraded" if degraded else "clean",
    }
    return _padded(image), label, metadata


def _padded(image: Image.Image) -> NDArray[np.uint8]:
    """As the classifier expects it: 48 high, ratio kept up to 192 wide, grey to the right."""
    width = min(WIDTH, max(1, round(image.width * HEIGHT / image.height)))
    canvas = np.full((HEIGHT, WIDTH), 128, dtype=np.uint8)
    canvas[:, :width] = np.asarray(image.resize((width, HEIGHT), Image.Resampling.BILINEAR))
    return canvas
