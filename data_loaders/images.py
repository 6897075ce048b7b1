"""Folders of labelled images."""

import io
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps
from pydantic import Field

from data_loaders.base import LoaderSpec, encodable, taken
from data_loaders.errors import DataError
from data_loaders.types import Array, Preview, Sample

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
_FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "WEBP", "TIFF", "GIF")
"""Only these decoders see a file, whatever its suffix: some of Pillow's others start programs."""
_THUMBNAIL_PIXELS = 160
_SIDE_MAX = 65_535
"""Of JPEG, and of what Pillow resizes to."""


class ImagesSpec(LoaderSpec):
    """A folder with one sub-folder a class; a flat folder is unlabelled."""

    kind: Literal["images"] = "images"
    path: Path = Field(description="The folder.")
    input_name: str = Field(description="The model input that takes the image.")
    height: int = Field(ge=1, le=_SIDE_MAX, description="Height the model wants, in pixels.")
    width: int = Field(ge=1, le=_SIDE_MAX, description="Width the model wants, in pixels.")
    resize: Literal["stretch", "fit_pad", "center_crop"] = Field(
        default="stretch", description="Keep the ratio by padding or cropping, or do not."
    )
    channels: Literal["rgb", "bgr", "gray"] = Field(default="rgb", description="Channel order.")
    layout: Literal["chw", "hwc"] = Field(default="chw", description="Axis order of a sample.")
    mean: tuple[float, ...] = Field(default=(0.0,), description="Subtracted, for values in 0…1.")
    links: Literal["inside", "anywhere"] = Field(
        default="inside",
        description="Symbolic links that lead out of the folder: refused, or followed.",
    )
    std: tuple[float, ...] = Field(default=(1.0,), description="Divided by, after the mean.")


class Images:
    """The samples of an ImagesSpec: float32 (channels, height, width), or as layout says."""

    def __init__(self, spec: ImagesSpec) -> None:
        self.spec = spec
        self.source = str(spec.path)
        if not spec.path.is_dir():
            raise DataError(self.source, "there is no such folder")
        folders = tuple(sorted(encodable(p.name) for p in spec.path.iterdir() if p.is_dir()))
        self.class_names = spec.classes or (folders or None)

    def __iter__(self) -> Iterator[Sample]:
        within = None if self.spec.links == "anywhere" else self.source
        files = _files(self.spec.path, within, frozenset())
        for path in taken(sorted(files), self.spec):
            yield self._sample(path)

    def _sample(self, path: Path) -> Sample:
        relative = path.relative_to(self.spec.path)
        label = encodable(relative.parts[0]) if len(relative.parts) > 1 else None
        if label is not None and label not in (self.class_names or ()):
            raise DataError(str(path), "its folder is none of the classes", got=repr(label))
        image = self._resized(_read(path))
        return Sample(
            id=encodable(relative.as_posix()),
            inputs={self.spec.input_name: self._array(image)},
            label=(self.class_names or ()).index(label) if label is not None else None,
            preview=Preview(png=thumbnail_from_image(image)),
        )

    def _resized(self, image: Image.Image) -> Image.Image:
        size = (self.spec.width, self.spec.height)
        match self.spec.resize:
            case "stretch":
                return image.resize(size, Image.Resampling.BILINEAR)
            case "fit_pad":
                return ImageOps.pad(image, size, Image.Resampling.BILINEAR)
            case "center_crop":
                return ImageOps.fit(image, size, Image.Resampling.BILINEAR)

    def _array(self, image: Image.Image) -> Array:
        mode = "L" if self.spec.channels == "gray" else "RGB"
        pixels = np.asarray(image.convert(mode), dtype=np.float32) / np.float32(255)
        pixels = np.atleast_3d(pixels)
        if self.spec.channels == "bgr":
            pixels = pixels[:, :, ::-1]
        mean, std = (np.asarray(v, dtype=np.float32) for v in (self.spec.mean, self.spec.std))
        scaled = (pixels - mean) / std
        ordered = scaled.transpose(2, 0, 1) if self.spec.layout == "chw" else scaled
        return np.ascontiguousarray(ordered, dtype=np.float32)


def _files(folder: Path, within: str | None, above: frozenset[Path]) -> Iterator[Path]:
    """Every image below the folder, in no order.

    Args:
        folder: links to folders are followed.
        within: what links must not lead out of; None where they may.
        above: the folders that this one is in.
    """
    real = folder.resolve()
    if real in above:
        raise DataError(str(folder), "is a link to a folder that it is in", got=str(real))
    for path in folder.iterdir():
        is_folder = path.is_dir()
        if not is_folder and path.suffix.lower() not in _SUFFIXES:
            continue
        if within is not None and path.is_symlink():
            _refuse_outer_link(path, within)
        if is_folder:
            yield from _files(path, within, above | {real})
        else:
            yield path


def _refuse_outer_link(path: Path, folder: str) -> None:
    """A report shows pictures: a data set from elsewhere must not choose which of this machine."""
    target = path.resolve()
    if not target.is_relative_to(Path(folder).resolve()):
        raise DataError(
            str(path),
            "is a link that leads out of the folder of images",
            got=str(target),
            fix="If that is meant, set links: anywhere.",
        )


def _read(path: Path) -> Image.Image:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("it is no regular file")
        with Image.open(path, formats=_FORMATS) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # Pillow raises what its decoders do, and for too many pixels
        raise DataError(str(path), f"is no image, or a damaged one: {error}") from error


def thumbnail_from_image(image: Image.Image) -> bytes:
    """A PNG at most 160 pixels wide or high."""
    small = image.convert("RGB")
    small.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
