"""Pictures of text with what they say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from data_loaders.base import encodable, taken, with_unique_ids
from data_loaders.errors import DataError
from data_loaders.pictures import (
    PictureSpec,
    picture_below,
    prepared,
    read_picture,
    thumbnail_from_image,
)
from data_loaders.rows import FileRowsSpec, Row, column, rows_from_spec
from data_loaders.types import Preview, Sample


class LinesSpec(PictureSpec):
    """A folder of pictures and a table that tells the text of each."""

    kind: Literal["text_images"] = "text_images"
    images: Path = Field(description="The folder of pictures.")
    table: Path = Field(description="A .csv, .tsv, .jsonl or .parquet of file names and texts.")
    file_column: str = Field(default="file", description="Column of the file name.")
    text_column: str = Field(default="text", description="Column of the text.")
    slice_columns: tuple[str, ...] = Field(default=(), description="Columns to slice results by.")


class Lines:
    """The samples of a LinesSpec; the label is the text."""

    def __init__(self, spec: LinesSpec) -> None:
        self.spec = spec
        self.source = str(spec.table)
        self.class_names = spec.classes

    def __iter__(self) -> Iterator[Sample]:
        rows = rows_from_spec(FileRowsSpec(path=self.spec.table))
        samples = (self._sample(i, row) for i, row in taken(enumerate(rows), self.spec))
        yield from with_unique_ids(samples, self.source)

    def _sample(self, index: int, row: Row) -> Sample:
        spec, where = self.spec, f"{self.source}, row {index}"
        name, text = (column(row, c, where) for c in (spec.file_column, spec.text_column))
        if not isinstance(name, str) or not isinstance(text, str):
            raise DataError(where, "is no file name and text", got=f"{name!r}, {text!r}")
        seen, array, frame = prepared(read_picture(picture_below(spec.images, name, spec)), spec)
        return Sample(
            id=encodable(name),
            inputs={spec.input_name: array},
            label=encodable(text),
            metadata={n: encodable(str(column(row, n, where))) for n in spec.slice_columns},
            preview=Preview(text=encodable(text), png=thumbnail_from_image(seen)),
            frame=frame,
        )
