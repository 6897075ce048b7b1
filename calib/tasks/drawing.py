"""A sample's picture with what both models say drawn into it."""

import io
import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from calib.tasks.boxes import Boxes
from data_loaders.targets import Frame
from data_loaders.types import Array

FP32_COLOUR, OWN_COLOUR = (0, 114, 178), (230, 159, 0)
"""Blue and orange of M. Okabe and K. Ito's palette, which all eyes tell apart; FP32's boxes are
whole lines, the candidate's dashed, so that colour is not needed."""
_DASH = 4
_WIDTH = 2
_WEIGHT = 0.6


def with_boxes(
    png: bytes, frame: Frame, size: tuple[int, int], reference: Boxes, own: Boxes
) -> bytes:
    """A thumbnail with the boxes of both.

    Args:
        png: the thumbnail: of the model's input, or of the picture as it was. Its sides tell which.
        frame: how the picture lies in the input.
        size: height and width of the input, in pixels.
        reference: FP32's, in the picture's pixels; whole lines.
        own: the candidate's; dashed lines.
    """

    def draw(image: Image.Image) -> Image.Image:
        pen = ImageDraw.Draw(image)
        ratio = image.width / image.height
        as_input = abs(math.log(ratio * size[0] / size[1]))
        as_picture = abs(math.log(ratio * frame.height / frame.width))
        lies, (rows, columns) = frame, size
        if as_picture < as_input:
            lies, rows, columns = Frame(frame.height, frame.width), frame.height, frame.width
        scale = image.width / columns, image.height / rows
        for box in _in_thumbnail(reference, lies, scale):
            pen.rectangle(box, outline=FP32_COLOUR, width=_WIDTH)
        for left, top, right, bottom in _in_thumbnail(own, lies, scale):
            for line in _dashes(left, top, right, bottom):
                pen.line(line, fill=OWN_COLOUR, width=_WIDTH)
        return image

    return _redrawn(png, draw)


def with_difference(png: bytes, changed: NDArray[np.bool_]) -> bytes:
    """A thumbnail with the pixels whose class is not FP32's in orange.

    Args:
        png: the thumbnail of the model's input.
        changed: bool (height, width), of any size.
    """

    def draw(image: Image.Image) -> Image.Image:
        small = Image.fromarray(changed.astype(np.uint8) * 255).resize(image.size)
        mask: Array = np.asarray(small, dtype=np.float64)[..., None] / 255 * _WEIGHT
        pixels = np.asarray(image, dtype=np.float64)
        mixed = pixels * (1 - mask) + np.array(OWN_COLOUR) * mask
        return Image.fromarray(mixed.round().astype(np.uint8))

    return _redrawn(png, draw)


def _redrawn(png: bytes, draw: Callable[[Image.Image], Image.Image]) -> bytes:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        made = draw(image.convert("RGB"))
    buffer = io.BytesIO()
    made.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _in_thumbnail(
    boxes: Boxes, frame: Frame, scale: tuple[float, float]
) -> Iterable[tuple[float, float, float, float]]:
    across, down = scale
    for left, top, right, bottom in boxes:
        yield (
            (left * frame.scale_x + frame.left) * across,
            (top * frame.scale_y + frame.top) * down,
            (right * frame.scale_x + frame.left) * across,
            (bottom * frame.scale_y + frame.top) * down,
        )


def _dashes(
    left: float, top: float, right: float, bottom: float
) -> Iterable[tuple[float, float, float, float]]:
    for x in np.arange(left, right, 2 * _DASH):
        end = min(x + _DASH, right)
        yield from ((x, y, end, y) for y in (top, bottom))
    for y in np.arange(top, bottom, 2 * _DASH):
        end = min(y + _DASH, bottom)
        yield from ((x, y, x, end) for x in (left, right))
