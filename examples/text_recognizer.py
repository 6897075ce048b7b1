"""What does a line of text say? PaddleOCR's recognizer, cut to ASCII, and lines to read."""

import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image

from data_loaders.types import Preview, Sample
from examples import paddle
from examples.packages import kept
from examples.rendering import FONTS, degrade, draw_text, png, words

HEIGHT, WIDTH, STEPS = 48, 320, 40
"""The size that PaddleOCR reads lines at, in pixels, and its steps across that width."""

CHARACTERS = string.digits + string.ascii_letters + string.punctuation + " "
"""In the order of the scores; the blank comes first."""

_SEED = 48
_SPLITS = {"calibration": 0, "validation": 1}


def model() -> Path:
    """The recognizer's ONNX file, made once: scores of 95 characters and the blank, not 6,624.

    The rows of the last product that stand for other characters, Chinese most of them, are left
    out; the others are the published ones. Softmax then runs over those that are left.
    """
    made = paddle.model("ch_PP-OCRv4_rec_infer")
    (known,) = (p.value for p in made.metadata_props if p.key == "character")
    # Of PaddleOCR's classes the first is the blank, the last the space.
    places = {character: 1 + index for index, character in enumerate([*known.splitlines(), " "])}
    _cut_head(made, [0, *(places[character] for character in CHARACTERS)])
    paddle.state_shapes(made, [["batch", 3, HEIGHT, WIDTH], ["batch", STEPS, len(CHARACTERS) + 1]])
    del made.metadata_props[:]
    onnx.checker.check_model(made)
    return kept("text_recognizer", made.SerializeToString(deterministic=True))


def _cut_head(found: onnx.ModelProto, kept: list[int]) -> None:
    """Keep these columns of the last product and of its bias, which are Constant nodes."""
    product, bias, softmax = list(found.graph.node)[-3:]
    assert [n.op_type for n in (product, bias, softmax)] == ["MatMul", "Add", "Softmax"]
    names = {product.input[1], bias.input[1]}
    for node in found.graph.node:
        if node.op_type == "Constant" and node.output[0] in names:
            (value,) = node.attribute
            table = numpy_helper.to_array(value.t)[..., kept]
            value.t.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(table)))


def samples(split: Literal["calibration", "validation"], count: int) -> Iterator[Sample]:
    """Rendered lines; line i is the same whatever `count` is.

    Args:
        split: the two never share a line.
        count: number of lines.

    Yields:
        input `x`, float32 (3, 48, 320) in -1…1, 0 to the right of the line; the label is its text;
        metadata font, ink (dark or light) and quality (clean or degraded).
    """
    for index in range(count):
        pixels, text, metadata = _line(split, index)
        x = np.zeros((3, HEIGHT, WIDTH), dtype=np.float32)
        x[:, :, : pixels.shape[1]] = pixels / np.float32(127.5) - np.float32(1)
        yield Sample(
            id=f"{split}-{index:05d}",
            inputs={"x": x},
            label=text,
            metadata=metadata,
            preview=Preview(png=png(pixels)),
        )


@cache
def _line(split: str, index: int) -> tuple[NDArray[np.uint8], str, dict[str, str]]:
    image, text, metadata = line(np.random.default_rng([_SEED, _SPLITS[split], index]))
    return fitted(image), text, metadata


def line(rng: np.random.Generator) -> tuple[Image.Image, str, dict[str, str]]:
    """A rendered line, half of them degraded: the picture, its text, what it was made of."""
    text = words(rng)
    font = str(rng.choice(FONTS))
    light = bool(rng.random() < 0.3)
    image = draw_text(text, font, rng, light=light)
    degraded = bool(rng.random() < 0.5)
    metadata = {
        "font": font,
        "ink": "light" if light else "dark",
        "quality": "degraded" if degraded else "clean",
    }
    return degrade(image, rng) if degraded else image, text, metadata


def fitted(image: Image.Image) -> NDArray[np.uint8]:
    """The line 48 pixels high, its ratio kept up to a width of 320: uint8 (48, width)."""
    width = min(WIDTH, round(image.width * HEIGHT / image.height))
    return np.asarray(image.resize((width, HEIGHT)))
