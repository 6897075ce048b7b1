"""Which pixels of a page are text? PaddleOCR's detector as a segmenter, and pages to ask it about.

The net (differentiable binarization: M. Liao et al., AAAI 2020) tells for each pixel how likely it
lies in the core of a line. Cores are what it was trained on: each line's box, shrunk on all sides
by A·(1 - r²) / L with its area A, its circumference L and r = 0.4. The masks here are made so, of
boxes that leave a fifth of the ink's height around it: people who mark lines draw no closer.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from data_loaders.types import Preview, Sample
from examples import paddle
from examples.packages import kept
from examples.rendering import FONTS, Box, degrade, draw_text, free_place, png, words

SIZE = 320
"""Of a page, in pixels: height and width."""
_SHRINK_RATIO = 0.4
_SLACK = 0.2
_SEED = 320
_SPLITS = {"calibration": 0, "validation": 1}
_LINES = (3, 9)
_APART = 4
_INK = 24


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page.

    Attributes:
        pixels: uint8 (320, 320).
        places: where lines were pasted, with some ground around each.
        boxes: of their ink alone.
        metadata: ink (dark or light), quality (clean or degraded) and lines (how many).
    """

    pixels: NDArray[np.uint8]
    places: tuple[Box, ...]
    boxes: tuple[Box, ...]
    metadata: Mapping[str, str]


def model() -> Path:
    """The detector's ONNX file, made once: its axes named, its weights as published."""
    made = paddle.model("ch_PP-OCRv4_det_infer")
    paddle.state_shapes(made, [["batch", 3, SIZE, SIZE], ["batch", 1, SIZE, SIZE]])
    onnx.checker.check_model(made)
    return kept("text_segmenter", made.SerializeToString(deterministic=True))


def samples(split: Literal["calibration", "validation"], count: int) -> Iterator[Sample]:
    """Rendered pages; page i is the same whatever `count` is.

    Args:
        split: the two never share a page.
        count: number of pages.

    Yields:
        input `x`, float32 (3, 320, 320) in -1…1; the label int64 (320, 320), 1 in the cores of
        lines; metadata ink (dark or light), quality (clean or degraded) and lines (how many).
    """
    for index in range(count):
        made = _page(split, index)
        x = made.pixels / np.float32(127.5) - np.float32(1)
        yield Sample(
            id=f"{split}-{index:05d}",
            inputs={"x": np.repeat(x[None], 3, axis=0)},
            label=cores(made.boxes),
            metadata=made.metadata,
            preview=Preview(png=png(made.pixels)),
        )


@cache
def _page(split: str, index: int) -> Page:
    return page(np.random.default_rng([_SEED, _SPLITS[split], index]))


def page(rng: np.random.Generator) -> Page:
    """A page of up to eight lines, fewer where there is no room; half of them degraded."""
    light = bool(rng.random() < 0.3)
    lines = [
        draw_text(words(rng), str(rng.choice(FONTS)), rng, light=light)
        for _ in range(rng.integers(*_LINES))
    ]
    shade = int(rng.integers(0, 90)) if light else int(rng.integers(150, 256))
    image = Image.new("L", (SIZE, SIZE), shade)
    places: list[Box] = []
    boxes: list[Box] = []
    for line in lines:
        line.thumbnail((SIZE - 16, SIZE))
        place = free_place(line.size, image.size, places, _APART, rng)
        if place is not None:
            image.paste(line, place[:2])
            places.append(place)
            boxes.append(_ink_box(line, place))
    degraded = bool(rng.random() < 0.5)
    metadata = {
        "ink": "light" if light else "dark",
        "quality": "degraded" if degraded else "clean",
        "lines": "up to 4" if len(boxes) <= 4 else "5 and more",
    }
    pixels = np.asarray(degrade(image, rng) if degraded else image)
    return Page(pixels, tuple(places), tuple(boxes), metadata)


def _ink_box(line: Image.Image, place: Box) -> Box:
    """What the letters cover, where a line lies on its page."""
    pixels = np.asarray(line).astype(np.int64)
    ink = np.abs(pixels - pixels[0, 0]) > _INK
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    left, top = place[:2]
    return (
        left + int(columns[0]),
        top + int(rows[0]),
        left + int(columns[-1]) + 1,
        top + int(rows[-1]) + 1,
    )


def cores(boxes: Iterable[Box]) -> NDArray[np.int64]:
    """The mask of a page: 1 in the core of each line, 0 elsewhere."""
    mask = np.zeros((SIZE, SIZE), dtype=np.int64)
    for left, top, right, bottom in boxes:
        slack = round(_SLACK * (bottom - top))
        width, height = right - left + 2 * slack, bottom - top + 2 * slack
        inset = round(width * height * (1 - _SHRINK_RATIO**2) / (2 * (width + height))) - slack
        rows = slice(max(top + inset, 0), bottom - inset)
        mask[rows, max(left + inset, 0) : right - inset] = 1
    return mask
