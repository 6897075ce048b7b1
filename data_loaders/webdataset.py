"""Rows of WebDataset's tar archives: members of one key are a row, their extensions its columns.

The values are made by our own readers: nothing that a member holds is run, and a `pipe:` URL is no
URL. Members whose columns nobody wants are passed over.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from data_loaders.errors import DataError
from data_loaders.files import DataFile, files_from_location
from data_loaders.locations import Location, StoredSpec
from data_loaders.parts import KEY, Columns, Part, Row
from data_loaders.pictures import SUFFIXES as PICTURES
from data_loaders.selecting import Ascending, Positions
from data_loaders.storage import Store
from data_loaders.tars import MEMBER_BYTES_MAX, SUFFIXES, Member, tar_members
from data_loaders.types import Array

IMAGE = "image"
"""The column of a row's only picture, whatever its extension."""

_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
_TEXTS = ("txt", "text", "transcript")
_NUMBERS = ("cls", "cls2", "class", "count", "index", "inx", "id")
_PICKLES = ("pyd", "pth", "pt", "pkl", "pickle", "pk")


class WebDatasetRowsSpec(StoredSpec):
    """Rows of tar archives, read as streams; members with one name up to its first dot are a row.

    Columns are the extensions: pictures (also as `image`, if there is one), `txt`, `cls`, `id`,
    `json` (its fields as `json.field`), `npy`, `npz` (`npz.array`), others as bytes.
    """

    kind: Literal["webdataset"] = "webdataset"
    path: Location = Field(
        description="A .tar, .tar.gz, .tar.bz2, .tar.xz or .tar.zst; a folder, a pattern "
        "(`*`, `{000..012}`) or a URL of such."
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """A member by its key and extension."""

    key: str
    extension: str
    member: Member


def webdataset_parts(spec: WebDatasetRowsSpec) -> Iterator[Part]:
    """The archives, in the order of their names.

    Raises:
        DataError: if there is none.
    """
    for file in files_from_location(spec.path, Store(spec.storage), SUFFIXES).files:
        yield Part(file.name, file.location, 0, None, _reader(file))


def _reader(file: DataFile) -> Callable[[Columns, Positions], Iterator[Row]]:
    def read(columns: Columns, positions: Positions) -> Iterator[Row]:
        wanted, row, names = Ascending(positions), dict[str, Any](), list[str]()
        number, key = -1, None
        for found in _found(file):
            if found.key != key:
                if key is not None:
                    yield _complete(
                        row, names, columns, wanted.has(number), f"{file.location}, {key}"
                    )
                number, key, row, names = number + 1, found.key, {KEY: found.key}, []
            if found.extension in names:
                raise DataError(
                    f"{file.location}, {found.member.name}", "is there twice in one sample"
                )
            names.append(found.extension)
            if wanted.has(number) and _is_wanted(found.extension, columns):
                row |= _values(found, file.location)
        if key is not None:
            yield _complete(row, names, columns, wanted.has(number), f"{file.location}, {key}")

    return read


def _found(file: DataFile) -> Iterator[_Found]:
    """The members that belong to samples; others, such as hidden ones, have no key."""
    for member in tar_members(file):
        split = _NAME.fullmatch(member.name)
        if split:
            yield _Found(split[1], split[2].lower(), member)


def _complete(
    row: dict[str, Any], names: list[str], columns: Columns, is_wanted: bool, where: str
) -> Row:
    """The row with its only picture as `image`, if it has all columns."""
    pictures = [name for name in names if f".{name}" in PICTURES]
    if len(pictures) == 1 and IMAGE not in names and pictures[0] in row:
        row[IMAGE] = row[pictures[0]]
    lacks = next((name for name in columns or () if name not in row), None)
    if is_wanted and lacks is not None:
        known = [*names, *(name for name in row if "." in name and name not in names)]
        several = f" ({IMAGE} is none: {', '.join(pictures)})" if len(pictures) > 1 else ""
        raise DataError(
            where, f"has no column {lacks!r}{several}", expected=f"one of {', '.join(known)}"
        )
    return row


def _is_wanted(extension: str, columns: Columns) -> bool:
    if columns is None:
        return True
    return (
        extension in columns
        or (IMAGE in columns and f".{extension}" in PICTURES)
        or any(name.startswith(f"{extension}.") for name in columns)
    )


def _values(found: _Found, location: str) -> dict[str, Any]:
    """The columns of one member."""
    name, where = found.extension, f"{location}, {found.member.name}"
    kind = name.rpartition(".")[2]
    if kind in _PICKLES:
        raise DataError(
            where, "is a pickle, which can run code when it is read", fix="Write .npy or .json."
        )
    content = found.member.read()
    if f".{kind}" in PICTURES:
        return {name: {"bytes": content, "path": None}}
    if kind == "npy":
        return {name: array_from_npy(content, where)}
    if kind == "npz":
        return {f"{name}.{key}": array for key, array in _arrays(content, where).items()}
    if kind in (*_TEXTS, *_NUMBERS, "json"):
        return _of_text(name, kind, content, where)
    return {name: content}


def _of_text(name: str, kind: str, content: bytes, where: str) -> dict[str, Any]:
    try:
        text = content.decode("utf-8")
        if kind == "json":
            value = json.loads(text)
            fields = value if isinstance(value, dict) else {}
            return {name: value, **{f"{name}.{key}": field for key, field in fields.items()}}
        if kind in _NUMBERS:
            text = text.strip()
            return {name: int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text}
    except (ValueError, RecursionError) as error:
        raise DataError(where, f"is no {'JSON' if kind == 'json' else 'text'}: {error}") from error
    return {name: text}


def array_from_npy(content: bytes, where: str) -> Array:
    """An array of an npy file's bytes; objects are never unpickled.

    Raises:
        DataError: if it is none, holds objects, or claims more than there is.
    """
    try:
        stream = io.BytesIO(content)
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        if dtype.hasobject:
            raise ValueError("it holds objects")
        rest = memoryview(content)[stream.tell() :]
        count = 1
        for size in shape:
            count *= size
        if count < 0 or count * dtype.itemsize != len(rest):
            raise ValueError(f"an array of shape {shape} is not in {len(rest):,} bytes")
        flat = np.frombuffer(rest, dtype=dtype, count=count)
        return flat.reshape(shape, order="F" if fortran else "C")
    except Exception as error:  # numpy's parsers raise whatever they stumble over
        raise DataError(where, f"is no array: {error}") from error


def _arrays(content: bytes, where: str) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            size = sum(info.file_size for info in infos)
            if size > MEMBER_BYTES_MAX:
                raise ValueError(f"it unpacks to {size:,} bytes")
            parts = {}
            for info in infos:
                with archive.open(info) as member:
                    parts[info.filename] = member.read(info.file_size + 1)
    except Exception as error:  # zipfile and zlib raise whatever they stumble over
        raise DataError(where, f"is no npz: {error}") from error
    return {
        name.removesuffix(".npy"): array_from_npy(part, f"{where}, {name}")
        for name, part in parts.items()
    }
