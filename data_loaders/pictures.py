"""Pictures: read with care, and made into what a model takes."""

import io
import stat
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps
from pydantic import Field

from data_loaders.base import LoaderSpec
from data_loaders.errors import DataError
from data_loaders.targets import Frame
from data_loaders.types import Array

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
_FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "WEBP", "TIFF", "GIF")
"""Only these decoders see a file, whatever its suffix: some of Pillow's others start programs."""
_THUMBNAIL_PIXELS = 160
_SIDE_MAX = 65_535
"""Of JPEG, and of what Pillow resizes to."""


class PictureSpec(LoaderSpec):
    """How a picture becomes a model's input."""

    input_name: str = Field(description="The model input that takes the image.")
    height: int = Field(ge=1, le=_SIDE_MAX, description="Height the model wants, in pixels.")
    width: int = Field(ge=1, le=_SIDE_MAX, description="Width the model wants, in pixels.")
    resize: Literal["stretch", "fit_pad", "center_crop"] = Field(
        default="stretch", description="Keep the ratio by padding or cropping, or do not."
    )
    pad_value: int = Field(
        default=0, ge=0, le=255, description="Grey of what fit_pad adds; 114 for YOLO."
    )
    pad_at: Literal["both", "end"] = Field(
        default="both", description="Where fit_pad adds: on both sides, or right and below."
    )
    channels: Literal["rgb", "bgr", "gray"] = Field(default="rgb", description="Channel order.")
    layout: Literal["chw", "hwc"] = Field(default="chw", description="Axis order of a sample.")
    mean: tuple[float, ...] = Field(default=(0.0,), description="Subtracted, for values in 0…1.")
    std: tuple[float, ...] = Field(default=(1.0,), description="Divided by, after the mean.")
    links: Literal["inside", "anywhere"] = Field(
        default="inside",
        description="Symbolic links that lead out of the folder: refused, or followed.",
    )


def frame_from_size(spec: PictureSpec, width: int, height: int) -> Frame:
    """How a picture of that size will lie in the input."""
    across, down = spec.width / width, spec.height / height
    if spec.resize == "stretch":
        return Frame(height, width, across, down)
    if spec.resize == "center_crop":
        scale = max(across, down)
        left, top = (spec.width - width * scale) / 2, (spec.height - height * scale) / 2
        return Frame(height, width, scale, scale, left, top)
    scale = min(across, down)
    sides = max(round(width * scale), 1), max(round(height * scale), 1)
    left, top = (
        0 if spec.pad_at == "end" else (whole - side) // 2
        for whole, side in zip((spec.width, spec.height), sides, strict=True)
    )
    return Frame(height, width, sides[0] / width, sides[1] / height, left, top)


def placed(
    image: Image.Image, spec: PictureSpec, frame: Frame, fill: int, filter_: Image.Resampling
) -> Image.Image:
    """The picture scaled and put into the input's frame.

    Args:
        image: of any mode.
        spec: the input's sides.
        frame: of `frame_from_size`.
        fill: of what the picture does not cover.
        filter_: nearest for classes, which nothing lies between.
    """
    size = (spec.width, spec.height)
    if spec.resize != "fit_pad":
        # Only what will be seen is scaled: of a picture of one row, the whole would be gigantic.
        x, y = -frame.left / frame.scale_x, -frame.top / frame.scale_y
        return image.resize(size, filter_, box=(x, y, frame.width - x, frame.height - y))
    sides = round(frame.scale_x * frame.width), round(frame.scale_y * frame.height)
    scaled = image.resize(sides, filter_)
    if scaled.size == size:
        return scaled
    many = len(image.getbands())
    canvas = Image.new(image.mode, size, fill if many == 1 else (fill,) * many)
    canvas.paste(scaled, (int(frame.left), int(frame.top)))
    return canvas


def prepared(image: Image.Image, spec: PictureSpec) -> tuple[Image.Image, Array, Frame]:
    """What the model sees: a picture, its array, and how the file's picture lies in it.

    The array is float32, (channels, height, width) or as the layout says.
    """
    frame = frame_from_size(spec, *image.size)
    seen = placed(image, spec, frame, spec.pad_value, Image.Resampling.BILINEAR)
    return seen, _array(seen, spec), frame


def _array(image: Image.Image, spec: PictureSpec) -> Array:
    mode = "L" if spec.channels == "gray" else "RGB"
    pixels = np.asarray(image.convert(mode), dtype=np.float32) / np.float32(255)
    pixels = np.atleast_3d(pixels)
    if spec.channels == "bgr":
        pixels = pixels[:, :, ::-1]
    mean, std = (np.asarray(v, dtype=np.float32) for v in (spec.mean, spec.std))
    scaled = (pixels - mean) / std
    ordered = scaled.transpose(2, 0, 1) if spec.layout == "chw" else scaled
    return np.ascontiguousarray(ordered, dtype=np.float32)


def read_picture(path: Path, mode: str | None = "RGB") -> Image.Image:
    """A picture file, turned as its EXIF data say.

    Args:
        path: of any suffix.
        mode: Pillow's; None keeps the file's own, as a palette's numbers.

    Raises:
        DataError: if it is none, or damaged, or no regular file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("it is no regular file")
        return _decoded(path, mode)
    except Exception as error:  # Pillow raises what its decoders do, and for too many pixels
        raise DataError(str(path), f"is no image, or a damaged one: {error}") from error


def picture_from_bytes(content: bytes, where: str, mode: str | None = "RGB") -> Image.Image:
    """As `read_picture`, of a file's content.

    Args:
        content: of the file.
        where: its place, for messages.
        mode: see `read_picture`.

    Raises:
        DataError: if it is no picture, or a damaged one.
    """
    try:
        return _decoded(io.BytesIO(content), mode)
    except Exception as error:
        raise DataError(where, f"is no image, or a damaged one: {error}") from error


def _decoded(source: Path | io.BytesIO, mode: str | None) -> Image.Image:
    with Image.open(source, formats=_FORMATS) as image:
        turned = ImageOps.exif_transpose(image)
        turned.load()
        return turned.convert(mode) if mode else turned


def refuse_outer_link(path: Path, folder: str) -> None:
    """A report shows pictures: a data set from elsewhere must not choose which of this machine."""
    target = path.resolve()
    if not target.is_relative_to(Path(folder).resolve()):
        raise DataError(
            str(path),
            "is a link that leads out of the folder of images",
            got=str(target),
            fix="If that is meant, set links: anywhere.",
        )


def thumbnail_from_image(image: Image.Image) -> bytes:
    """A PNG at most 160 pixels wide or high."""
    small = image.convert("RGB")
    small.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
