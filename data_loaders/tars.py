"""Tar archives read as a stream, member by member, and nothing in them believed.

What is held is one member. Nothing is unpacked to disk, no name leads anywhere, and an archive that
ends before its end mark is an error, not a shorter archive.
"""

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from data_loaders.base import encodable
from data_loaders.errors import DataError
from data_loaders.files import DataFile, suffix_of
from data_loaders.storage import reading
from data_loaders.text_files import decompressed

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tzst")
"""Of archives that are read."""

MEMBER_BYTES_MAX = 2**30
"""A larger member is refused before it is read."""

_HEADER_BYTES_MAX = 2**20
_LONG_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Attributes:
        name: as it is written there, with what no encoding takes as escapes.
        size: in bytes.
        read: its content; only until the next member is asked for.
    """

    name: str
    size: int
    read: Callable[[], bytes]


def tar_members(file: DataFile) -> Iterator[Member]:
    """The files in an archive, in order; folders are passed over.

    Raises:
        DataError: if it is no archive, damaged, cut short, or a member is a link, a device, too
            large, or has a name that leads out of the archive.
    """
    where = file.location
    with file.open() as stream, _archive(stream, where) as archive:
        while True:
            with _told(where):
                info = archive.next()
                if info is None:
                    _refuse_more(archive)
                    return
            archive.members = []  # type: ignore[attr-defined] # tarfile keeps them all
            if not info.isdir():
                yield _member(archive, info, where)


def _refuse_more(archive: tarfile.TarFile) -> None:
    """What follows an end mark is nothing but zeros, unless archives were put behind each other."""
    stream: Any = archive.fileobj
    while block := stream.read(2**16):
        if block.count(0) < len(block):
            raise tarfile.ReadError(
                "it goes on behind its end mark; archives are not put together by cat"
            )


@contextmanager
def _archive(stream: Any, where: str) -> Iterator[tarfile.TarFile]:
    with _told(where):
        if suffix_of(where, (".zst", ".tzst")):
            stream = decompressed(stream, ".zst")
        opened = tarfile.open(  # noqa: SIM115 - it is closed below
            fileobj=stream, mode="r|*", tarinfo=_Header, bufsize=2**18, errors="surrogateescape"
        )
    with opened:
        yield opened


class _Header(tarfile.TarInfo):
    """A member's header. What tarfile takes for the end without an end mark, is none."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "_Header":
        found = super().frombuf(buf, encoding, errors)
        if found.size < 0 or (found.type in _LONG_HEADERS and found.size > _HEADER_BYTES_MAX):
            raise tarfile.ReadError(f"a header claims {found.size:,} bytes")
        return found

    @classmethod
    def fromtarfile(cls, tarfile_: Any) -> "_Header":  # the base class shadows the module's name
        at = tarfile_.offset
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(
                f"no header, and no end mark, at byte {at:,}: {error}"
            ) from None


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Whatever tarfile and the decompressors stumble over becomes a DataError."""
    try:
        with reading(where):
            yield
    except DataError as error:
        if isinstance(error.__cause__, tarfile.TarError | EOFError | ValueError):
            raise DataError(
                where, f"is no tar archive, or a damaged or incomplete one: {error.__cause__}"
            ) from error
        raise


def _member(archive: tarfile.TarFile, info: tarfile.TarInfo, where: str) -> Member:
    name = encodable(info.name)
    place = f"{where}, {name}"
    parts = PurePosixPath(info.name).parts
    if info.name.startswith("/") or ".." in parts or "\0" in info.name:
        raise DataError(place, "is a name that leads out of the archive")
    if not info.isreg() or info.issparse():
        raise DataError(
            place,
            "is no plain file",
            got="a link" if info.issym() or info.islnk() else "a device, a pipe or a sparse file",
            fix="Write the archive with the files themselves.",
        )
    if not 0 <= info.size <= MEMBER_BYTES_MAX:
        raise DataError(
            place, f"is too large: {info.size:,} bytes", expected=f"at most {MEMBER_BYTES_MAX:,}"
        )

    def read() -> bytes:
        with _told(place):
            content = archive.extractfile(info)
            found = content.read() if content is not None else b""
            if len(found) < info.size:
                raise tarfile.ReadError(f"it ends after {len(found):,} of {info.size:,} bytes")
            return found

    return Member(name, info.size, read)
