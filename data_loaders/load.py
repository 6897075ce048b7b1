"""From a spec to a data set."""

from typing import Annotated

from pydantic import Field

from data_loaders.arrays import Arrays, ArraysSpec, Columns, HuggingFaceSpec
from data_loaders.images import Images, ImagesSpec
from data_loaders.python import Python, PythonSpec
from data_loaders.text import Text, TextSpec
from data_loaders.types import DataSet

DataSpec = Annotated[
    TextSpec | ImagesSpec | ArraysSpec | HuggingFaceSpec | PythonSpec,
    Field(discriminator="kind"),
]


def data_set_from_spec(
    spec: TextSpec | ImagesSpec | ArraysSpec | HuggingFaceSpec | PythonSpec,
) -> DataSet:
    """Open the source that a spec names.

    Raises:
        DataError: if it is not there or cannot be read.
    """
    match spec:
        case TextSpec():
            return Text(spec)
        case ImagesSpec():
            return Images(spec)
        case HuggingFaceSpec():
            return Columns(spec)
        case PythonSpec():
            return Python(spec)
        case ArraysSpec():
            tabular = spec.path.suffix in (".parquet", ".csv", ".tsv", ".json", ".jsonl")
            return Columns(spec) if tabular else Arrays(spec)
