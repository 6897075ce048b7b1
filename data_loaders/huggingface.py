"""Rows of Hugging Face data sets: of the hub, of a local folder, or of files; kept or streamed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from data_loaders.errors import DataError
from data_loaders.parts import Columns, Part, Row
from data_loaders.selecting import Positions


class HuggingFaceRowsSpec(BaseModel):
    """Rows of a Hugging Face data set. Remote code is never run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["huggingface"] = "huggingface"
    path: str = Field(
        description="Hub id, local directory (of files, or of `save_to_disk`), or parquet, csv, "
        "json for data_files."
    )
    name: str | None = Field(default=None, description="Configuration of the data set.")
    split: str = Field(default="train", description="Split, e.g. validation.")
    data_files: str | tuple[str, ...] | None = Field(
        default=None, description="Files or patterns, local or URLs."
    )
    revision: str | None = Field(default=None, description="Commit of the hub repository.")
    streaming: bool = Field(default=False, description="Read without keeping a local copy.")


def huggingface_parts(spec: HuggingFaceRowsSpec, where: str) -> Iterator[Part]:
    """The data set, of which rows that are not wanted are passed over unless it is streamed.

    Raises:
        DataError: if the package is missing or the data set cannot be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            spec.path,
            "needs the package datasets",
            fix='Install it with: pip install "calib[datasets]"',
        ) from error
    try:
        data = _undecoded(datasets, _loaded(datasets, spec))
    except Exception as error:  # datasets raises whatever its readers do
        raise DataError(spec.path, f"cannot be loaded: {error}") from error
    rows = None if spec.streaming else len(data)

    def read(columns: Columns, positions: Positions) -> Iterator[Row]:
        try:
            part = data if rows is None else data.select(positions)
            names = data.column_names  # None where a stream does not say
            if columns and names and not set(columns) - set(names):
                part = part.select_columns(sorted(columns))
            yield from part
        except Exception as error:
            raise DataError(where, f"cannot be read: {type(error).__name__}: {error}") from error

    yield Part("", where, 0, rows, read)


def _loaded(datasets: Any, spec: HuggingFaceRowsSpec) -> Any:
    folder = Path(spec.path)
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        saved = datasets.load_from_disk(spec.path)
        saved = saved[spec.split] if isinstance(saved, Mapping) else saved
        return saved.to_iterable_dataset() if spec.streaming else saved
    files = list(spec.data_files) if isinstance(spec.data_files, tuple) else spec.data_files
    return datasets.load_dataset(
        spec.path,
        name=spec.name,
        split=spec.split,
        data_files=files,
        revision=spec.revision,
        streaming=spec.streaming,
    )


def _undecoded(datasets: Any, data: Any) -> Any:
    """Pictures as the bytes that they were, for our own decoders to read with care."""
    for name, feature in (data.features or {}).items():
        if isinstance(feature, datasets.Image):
            data = data.cast_column(name, datasets.Image(decode=False))
    return data
