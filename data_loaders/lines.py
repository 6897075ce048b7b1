"""Pictures of text with what they say."""

from typing import Literal

from pydantic import Field

from data_loaders.base import encodable
from data_loaders.errors import DataError
from data_loaders.folders import Folder
from data_loaders.locations import Location, StoredSpec
from data_loaders.parts import Placed
from data_loaders.pictures import PictureSpec, prepared, thumbnail_from_image
from data_loaders.row_samples import RowSamples, needed
from data_loaders.rows import FileRowsSpec, column
from data_loaders.types import Preview, Sample


class LinesSpec(PictureSpec, StoredSpec):
    """A folder of pictures and a table that tells the text of each."""

    kind: Literal["text_images"] = "text_images"
    images: Location = Field(description="The folder of pictures, or its URL.")
    table: Location = Field(
        description="A .csv, .tsv, .jsonl or .parquet of file names and texts; a path, a pattern "
        "or a URL."
    )
    file_column: str = Field(default="file", description="Column of the file name.")
    text_column: str = Field(default="text", description="Column of the text.")
    slice_columns: tuple[str, ...] = Field(default=(), description="Columns to slice results by.")


class Lines(RowSamples):
    """The samples of a LinesSpec; the label is the text."""

    def __init__(self, spec: LinesSpec) -> None:
        self.spec = spec
        self.class_names = spec.classes
        self._folder = Folder(spec.images, spec.storage, spec.links)
        rows = FileRowsSpec(path=spec.table, storage=spec.storage)
        columns = needed(spec.file_column, spec.text_column, spec.slice_columns)
        super().__init__(rows, columns, spec.file_column, spec.table)

    def _sample(self, placed: Placed) -> Sample:
        spec, row, where = self.spec, placed.row, placed.where
        name, text = (column(row, c, where) for c in (spec.file_column, spec.text_column))
        if not isinstance(name, str) or not isinstance(text, str):
            raise DataError(where, "is no file name and text", got=f"{name!r}, {text!r}")
        seen, array, frame = prepared(self._folder.picture(name), spec)
        return Sample(
            id=encodable(name),
            inputs={spec.input_name: array},
            label=encodable(text),
            metadata={n: encodable(str(column(row, n, where))) for n in spec.slice_columns},
            preview=Preview(text=encodable(text), png=thumbnail_from_image(seen)),
            frame=frame,
        )
