"""What every loader's Spec has in common, and how it turns raw values into samples."""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from data_loaders.errors import DataError
from data_loaders.types import Label, Sample

_COUNT_MAX = 2**40
"""No data set has more samples; what counts them takes no larger numbers."""


class SubsetSpec(BaseModel):
    """A uniform random subset, drawn by a hash of each sample's id: its order does not matter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int | None = Field(
        default=None, ge=1, le=_COUNT_MAX, description="How many samples; this or `share`."
    )
    share: float | None = Field(
        default=None, gt=0, lt=1, description="About what share of them; this or `count`."
    )
    skip: int = Field(
        default=0,
        ge=0,
        le=_COUNT_MAX,
        description="With `count`: samples of the drawing to pass over, so that two splits of one "
        "source and seed share none.",
    )
    seed: int = Field(default=0, ge=0, le=2**63, description="Another seed, another subset.")

    @model_validator(mode="after")
    def _says_how_many(self) -> "SubsetSpec":
        if (self.count is None) == (self.share is None):
            raise ValueError("give either count or share")
        if self.share is not None and self.skip:
            raise ValueError("skip goes with count")
        return self


class LoaderSpec(BaseModel):
    """The part of a loader's config that does not depend on where samples come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int | None = Field(
        default=None,
        ge=1,
        le=_COUNT_MAX,
        description="How many samples to take; all of them if absent.",
    )
    skip: int = Field(
        default=0, ge=0, le=_COUNT_MAX, description="How many samples to pass over first."
    )
    subset: SubsetSpec | None = Field(
        default=None,
        description="Take a random subset of what `skip` and `samples` leave; all of it if absent.",
    )
    classes: tuple[str, ...] | None = Field(
        default=None, description="Class names in the order of the model's outputs."
    )

    @field_validator("classes")
    @classmethod
    def _class_names_are_distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        repeated = sorted({name for name in names or () if (names or ()).count(name) > 1})
        if repeated:
            raise ValueError(f"two classes have the same name: {', '.join(repeated)}")
        return names


def encodable(text: str) -> str:
    """The text with what no encoding takes, of file names and JSON, written as an escape."""
    return text.encode(errors="backslashreplace").decode()


def with_unique_ids(samples: Iterable[Sample], where: str) -> Iterator[Sample]:
    """Pass samples on, refusing an id seen before."""
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise repeated_id(where, sample.id)
        seen.add(sample.id)
        yield sample


def repeated_id(where: str, sample_id: str) -> DataError:
    """What to raise of two samples of one id."""
    return DataError(
        where, "two samples have the same id", got=repr(sample_id), fix="Make ids unique."
    )


def row_id(index: int) -> str:
    """The id of a sample that has none of its own."""
    return f"row-{index:06d}"


def label_from_value(value: Any, classes: tuple[str, ...] | None, where: str) -> Label | None:
    """A label as the analysis wants it: class names become their index.

    Raises:
        DataError: if a name is none of the classes, or there are no classes to look it up in.
    """
    if value is None:
        return None
    if isinstance(value, str):
        if classes is None:
            raise DataError(
                where, "the label is text", got=repr(value), fix="List the class names in classes."
            )
        if value not in classes:
            raise DataError(
                where, "the label is none of the classes", got=repr(value), expected=str(classes)
            )
        return classes.index(value)
    if isinstance(value, bool | int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value)
    return np.asarray(value)


def resolve_entry(entry: str) -> Callable[..., Any]:
    """The function that `module:function` names; modules of the current directory are found.

    Raises:
        DataError: if there is no such module or function.
    """
    module_name, _, name = entry.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise DataError(
            entry, f"cannot be imported: {error}", expected="module:function"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise DataError(entry, f"module {module_name} has no function {name!r}")
    return function  # type: ignore[no-any-return]
