"""Pictures with a class for each pixel."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field

from data_loaders.base import encodable, taken
from data_loaders.errors import DataError
from data_loaders.images import picture_files
from data_loaders.pictures import (
    PictureSpec,
    placed,
    prepared,
    read_picture,
    refuse_outer_link,
    thumbnail_from_image,
)
from data_loaders.types import Array, Preview, Sample

_MODES = ("L", "P", "1", "I", "I;16")


class MasksSpec(PictureSpec):
    """A folder of pictures and one of masks: PNG files whose pixels are numbers of classes."""

    kind: Literal["masks"] = "masks"
    images: Path = Field(description="The folder of pictures.")
    masks: Path = Field(description="The folder of masks, of the same names and type PNG.")
    suffix: str = Field(default="", description="What a mask's name has behind its picture's.")
    ignore: int = Field(default=255, description="The class of pixels that the picture lacks.")
    values: dict[int, int] = Field(
        default_factory=dict, description="Class by pixel value, where they are not the same."
    )


class Masks:
    """The samples of a MasksSpec; masks are int64 (height, width), scaled as the picture is."""

    def __init__(self, spec: MasksSpec) -> None:
        self.spec = spec
        self.source = str(spec.images)
        self.class_names = spec.classes
        for folder in (spec.images, spec.masks):
            if not folder.is_dir():
                raise DataError(str(folder), "there is no such folder")

    def __iter__(self) -> Iterator[Sample]:
        within = None if self.spec.links == "anywhere" else self.source
        for path in taken(picture_files(self.spec.images, within), self.spec):
            yield self._sample(path)

    def _sample(self, path: Path) -> Sample:
        relative = path.relative_to(self.spec.images)
        name = relative.with_name(f"{relative.stem}{self.spec.suffix}.png")
        mask_path = self.spec.masks / name
        if not mask_path.is_file():
            raise DataError(str(mask_path), "there is no such mask", fix=f"It is for {path}.")
        if self.spec.links != "anywhere":
            refuse_outer_link(mask_path, str(self.spec.masks))
        image, mask = read_picture(path), read_picture(mask_path, None)
        if mask.mode not in _MODES or mask.size != image.size:
            raise DataError(
                str(mask_path),
                "is no mask of its picture",
                got=f"mode {mask.mode}, {mask.width} by {mask.height}",
                expected=f"one number a pixel, {image.width} by {image.height}",
            )
        seen, array, frame = prepared(image, self.spec)
        classes = self._classes(np.asarray(mask).astype(np.int64), mask_path)
        # As 32-bit numbers, which Pillow scales too: a palette would be mixed.
        numbers = Image.fromarray(classes.astype(np.int32), mode="I")
        label = placed(numbers, self.spec, frame, self.spec.ignore, Image.Resampling.NEAREST)
        return Sample(
            id=encodable(relative.as_posix()),
            inputs={self.spec.input_name: array},
            label=np.asarray(label).astype(np.int64),
            preview=Preview(png=thumbnail_from_image(seen)),
            frame=frame,
        )

    def _classes(self, pixels: Array, path: Path) -> Array:
        classes = pixels
        if self.spec.values:
            classes = np.full_like(pixels, self.spec.ignore)
            for value, label in self.spec.values.items():
                classes[pixels == value] = label
        known = classes[classes != self.spec.ignore]
        many = len(self.class_names or ())
        if many and known.size and known.max() >= many:
            raise DataError(
                str(path),
                "a pixel is of no class",
                got=str(int(known.max())),
                expected=f"0 to {many - 1}, or {self.spec.ignore}",
                fix="Give values: the class of each pixel value.",
            )
        return classes
