"""Pictures with a class for each pixel."""

from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from data_loaders.base import encodable
from data_loaders.errors import DataError
from data_loaders.folders import Folder, FolderSamples
from data_loaders.locations import Location, StoredSpec
from data_loaders.pictures import (
    PictureSpec,
    placed,
    prepared,
    thumbnail_from_image,
)
from data_loaders.targets import Frame
from data_loaders.types import Array, Preview, Sample

_MODES = ("L", "P", "1", "I", "I;16")


class MaskValues(BaseModel):
    """What the pixels of a mask stand for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ignore: int = Field(default=255, description="The class of pixels that the picture lacks.")
    values: dict[int, int] = Field(
        default_factory=dict, description="Class by pixel value, where they are not the same."
    )


class MasksSpec(PictureSpec, StoredSpec, MaskValues):
    """A folder of pictures and one of masks: PNG files whose pixels are numbers of classes."""

    kind: Literal["masks"] = "masks"
    images: Location = Field(description="The folder of pictures, or its URL.")
    masks: Location = Field(description="The folder of masks, of the same names and type PNG.")
    suffix: str = Field(default="", description="What a mask's name has behind its picture's.")


class Masks(FolderSamples):
    """The samples of a MasksSpec; masks are int64 (height, width), scaled as the picture is."""

    def __init__(self, spec: MasksSpec) -> None:
        self.spec = spec
        self.source = spec.images
        self.class_names = spec.classes
        self._images, self._masks = (
            Folder(folder, spec.storage, spec.links) for folder in (spec.images, spec.masks)
        )

    def _sample(self, name: str) -> Sample:
        relative = PurePosixPath(name)
        mask_name = relative.with_name(f"{relative.stem}{self.spec.suffix}.png").as_posix()
        if not self._masks.has(mask_name):
            raise DataError(
                self._masks.where(mask_name),
                "there is no such mask",
                fix=f"It is for {self._images.where(name)}.",
            )
        image = self._images.picture(name)
        mask = self._masks.picture(mask_name, None)
        seen, array, frame = prepared(image, self.spec)
        where = self._masks.where(mask_name)
        return Sample(
            id=encodable(name),
            inputs={self.spec.input_name: array},
            label=mask_label(mask, frame, self.spec, self.spec, where),
            preview=Preview(png=thumbnail_from_image(seen)),
            frame=frame,
        )


def mask_label(
    mask: Image.Image, frame: Frame, picture: PictureSpec, spec: MaskValues, where: str
) -> Array:
    """The class of each pixel of the input, int64 (height, width), of a picture of classes.

    Args:
        mask: as the file has it, not converted.
        frame: how its picture lies in the input.
        picture: the input.
        spec: what pixel values stand for.
        where: the mask's place, for messages.

    Raises:
        DataError: if it is of another size than its picture, of colours, or of unknown classes.
    """
    if mask.mode not in _MODES or mask.size != (frame.width, frame.height):
        raise DataError(
            where,
            "is no mask of its picture",
            got=f"mode {mask.mode}, {mask.width} by {mask.height}",
            expected=f"one number a pixel, {frame.width} by {frame.height}",
        )
    classes = _classes(np.asarray(mask).astype(np.int64), picture.classes, spec, where)
    # As 32-bit numbers, which Pillow scales too: a palette would be mixed.
    numbers = Image.fromarray(classes.astype(np.int32), mode="I")
    label = placed(numbers, picture, frame, spec.ignore, Image.Resampling.NEAREST)
    return np.asarray(label).astype(np.int64)


def _classes(pixels: Array, names: tuple[str, ...] | None, spec: MaskValues, where: str) -> Array:
    classes = pixels
    if spec.values:
        classes = np.full_like(pixels, spec.ignore)
        for value, label in spec.values.items():
            classes[pixels == value] = label
    known = classes[classes != spec.ignore]
    many = len(names or ())
    if many and known.size and known.max() >= many:
        raise DataError(
            where,
            "a pixel is of no class",
            got=str(int(known.max())),
            expected=f"0 to {many - 1}, or {spec.ignore}",
            fix="Give values: the class of each pixel value.",
        )
    return classes
