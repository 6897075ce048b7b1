"""From a spec to a data set."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, Field

from data_loaders.arrays import Arrays, ArraysSpec, Columns, ColumnsSpec, HuggingFaceSpec
from data_loaders.files import is_pattern, suffix_of
from data_loaders.image_rows import ImageRows, ImageRowsSpec
from data_loaders.images import Images, ImagesSpec
from data_loaders.lines import Lines, LinesSpec
from data_loaders.locations import is_remote, local_path
from data_loaders.masks import Masks, MasksSpec
from data_loaders.objects import Coco, CocoSpec, Yolo, YoloSpec
from data_loaders.python import Python, PythonSpec
from data_loaders.questions import Squad, SquadSpec
from data_loaders.relations import Corpus, CorpusSpec, Pairs, PairsSpec
from data_loaders.tagged import Conll, ConllSpec
from data_loaders.text import Text, TextSpec
from data_loaders.text_files import FORMATS
from data_loaders.types import DataSet

DataSpec = Annotated[
    TextSpec
    | ImagesSpec
    | ArraysSpec
    | HuggingFaceSpec
    | PythonSpec
    | CocoSpec
    | YoloSpec
    | MasksSpec
    | LinesSpec
    | ConllSpec
    | SquadSpec
    | PairsSpec
    | CorpusSpec
    | ImageRowsSpec
    | ColumnsSpec,
    Field(discriminator="kind"),
]


def _is_table(spec: ArraysSpec) -> bool:
    """Whether it is of rows, and not of numpy's files."""
    if suffix_of(spec.path, (".npy", ".npz")):
        return False
    if is_remote(spec.path) or is_pattern(spec.path) or suffix_of(spec.path, FORMATS):
        return True
    folder = local_path(spec.path)
    return folder.is_dir() and not any(folder.glob("*.npy"))


_LOADERS: dict[type[BaseModel], Callable[[Any], DataSet]] = {
    TextSpec: Text,
    ImagesSpec: Images,
    ArraysSpec: lambda spec: Columns(spec) if _is_table(spec) else Arrays(spec),
    HuggingFaceSpec: Columns,
    PythonSpec: Python,
    CocoSpec: Coco,
    YoloSpec: Yolo,
    MasksSpec: Masks,
    LinesSpec: Lines,
    ConllSpec: Conll,
    SquadSpec: Squad,
    PairsSpec: Pairs,
    CorpusSpec: Corpus,
    ImageRowsSpec: ImageRows,
    ColumnsSpec: Columns,
}


def data_set_from_spec(spec: BaseModel) -> DataSet:
    """Open the source that a spec names.

    Args:
        spec: one of DataSpec.

    Raises:
        DataError: if it is not there or cannot be read.
    """
    return _LOADERS[type(spec)](spec)
