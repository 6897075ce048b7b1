"""Files wherever they are: on this machine, or behind a URL that fsspec knows.

Credentials come from where the service's own tools find them, such as the environment; never from
the config, which every run keeps.
"""

import io
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar

from data_loaders.errors import DataError
from data_loaders.locations import is_remote

T = TypeVar("T")

WAITS = (0.2, 1.0, 3.0)
"""Seconds before a failed request is made again."""

_SEQUENTIAL_BYTES = 8 * 2**20
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "hf": "huggingface_hub",
    "sftp": "paramiko",
    "ssh": "paramiko",
}
_CHAINS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_PROFILE, a role, or storage: {anon: true}",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, or storage: {token: anon}",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or az's login",
    "hf": "HF_TOKEN, or its own login",
}


@dataclass(frozen=True, slots=True)
class Store:
    """A file system behind URLs.

    Attributes:
        options: of fsspec.
    """

    options: Mapping[str, Any] = field(default_factory=dict)

    def system(self, url: str) -> tuple[Any, str]:
        """The file system of fsspec, and the path in it.

        Raises:
            DataError: if fsspec or the protocol's package is missing, or it does not know it.
        """
        protocol = re.split("::|://", url, maxsplit=1)[0].lower()
        try:
            import fsspec
        except ImportError as error:
            raise _missing(url, "fsspec", 'pip install "calib[remote]"') from error
        try:
            system, path = fsspec.core.url_to_fs(url, **self.options)
        except ImportError as error:
            package = _PACKAGES.get(protocol, protocol)
            raise _missing(url, package, f"pip install {package}") from error
        except Exception as error:  # of its options, whatever the protocol's package raises
            known = ", ".join(sorted(_PACKAGES))
            raise DataError(
                url, f"cannot be opened: {error}", expected=f"a URL of {known}"
            ) from error
        return system, str(path)

    def open(self, url: str, *, at_random: bool = False) -> BinaryIO:
        """A remote file, whose failed requests are made again.

        Args:
            url: of one file.
            at_random: whether little of it is read, here and there, instead of all in order.

        Raises (also while it is read):
            DataError: if it is not there, must not be read, or its connection fails repeatedly.
        """
        system, path = self.system(url)
        raw = _Remote(system, path, url, at_random=at_random)
        buffer = 2**16 if at_random else 2**20
        return io.BufferedReader(raw, buffer_size=buffer)


class _Remote(io.RawIOBase):
    """A file of fsspec that is opened anew, and goes on where it was, when a request fails."""

    def __init__(self, system: Any, path: str, url: str, *, at_random: bool) -> None:
        self._system, self._path, self._url = system, path, url
        # At random only what is asked for is fetched; in order a block at a time.
        self._how = {"cache_type": "none"} if at_random else {"cache_type": "readahead"}
        self._file: Any = None
        self._at = 0
        self._size: int | None = tried(url, lambda: _size(self._opened()))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._size is not None  # without a size its server gives no ranges either

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        if self._size is None and (offset, whence) != (self._at, 0):
            raise io.UnsupportedOperation("the server gives no ranges")
        base = (0, self._at, self._size or 0)[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = tried(self._url, lambda: self._read(len(buffer)), lambda: f"at byte {self._at:,}")
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._drop()
        super().close()

    def _read(self, count: int) -> bytes:
        try:
            file = self._opened()
            data = bytes(file.read(count))
            if not data and count and self._size is not None and self._at < self._size:
                raise ConnectionError(f"it ended at byte {self._at:,} of {self._size:,}")
        except Exception:
            self._drop()
            raise
        return data

    def _opened(self) -> Any:
        """The file at the place that is read next."""
        if self._file is None:
            self._file = self._system.open(
                self._path, "rb", block_size=_SEQUENTIAL_BYTES, **self._how
            )
        if self._file.tell() != self._at:
            if _size(self._file) is not None:
                self._file.seek(self._at)
            while self._file.tell() < self._at:  # a stream: what was read already is passed over
                if not self._file.read(min(self._at - self._file.tell(), _SEQUENTIAL_BYTES)):
                    raise ConnectionError("it is shorter than it was")
        return self._file

    def _drop(self) -> None:
        if self._file is not None:
            with suppress(Exception):
                self._file.close()
            self._file = None


def _size(file: Any) -> int | None:
    """Bytes of an open file of fsspec; None where its server does not tell."""
    if isinstance(file, io.BufferedReader):  # a copy that fsspec keeps here
        return os.fstat(file.fileno()).st_size
    size: int | None = file.size
    return size


def tried(url: str, ask: Callable[[], T], place: Callable[[], str] | None = None) -> T:
    """What a request gives; it is made again where that may help.

    Raises:
        DataError: if it fails for good.
    """
    for wait in (*WAITS, None):
        try:
            return ask()
        except Exception as error:
            if not _may_pass(error):
                raise as_data_error(url, error) from error
            if wait is None:
                at = f" {place()}" if place else ""
                raise DataError(
                    url,
                    f"the connection failed {len(WAITS) + 1} times{at}: {_said(error)}",
                    fix="Try again later, or copy the data here first.",
                ) from error
            time.sleep(wait)
    raise AssertionError("the last wait is none")


def _may_pass(error: Exception) -> bool:
    status = _status(error)
    if status is not None:
        return status in (408, 425, 429) or status >= 500
    if isinstance(error, DataError | FileNotFoundError | PermissionError | IsADirectoryError):
        return False
    network = type(error).__module__.partition(".")[0] in ("aiohttp", "botocore", "aiobotocore")
    is_local = _wants_credentials(error)
    return not is_local and (network or isinstance(error, OSError | EOFError))


def _status(error: Exception) -> int | None:
    """The answer's number in HTTP, where there is one; fsspec calls many a file not found."""
    seen: Any = error.__cause__ if isinstance(error, FileNotFoundError) else error
    found = seen.status if hasattr(seen, "status") else getattr(seen, "code", None)
    return found if isinstance(found, int) and 100 <= found < 600 else None


def _said(error: Exception) -> str:
    status = _status(error)
    return f"HTTP {status}" if status else f"{type(error).__name__}: {error}"


def _wants_credentials(error: Exception) -> bool:
    return "credential" in type(error).__name__.lower()


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Whatever readers of files raise becomes a DataError about `where`."""
    try:
        yield
    except Exception as error:
        raise as_data_error(where, error) from error


def as_data_error(where: str, error: Exception) -> DataError:
    """What went wrong with a file, for its reader."""
    if isinstance(error, DataError):
        return error
    status = _status(error)
    if status in (404, 410) or (status is None and isinstance(error, FileNotFoundError)):
        return DataError(where, "there is no such file")
    if is_remote(where) and (
        isinstance(error, PermissionError) or status in (401, 403) or _wants_credentials(error)
    ):
        chain = _CHAINS.get(where.partition("://")[0], "those of the service, in the environment")
        return DataError(
            where,
            f"access is refused: {_said(error)}",
            fix=f"Give credentials outside of the config: {chain}.",
        )
    return DataError(where, f"cannot be read: {error or type(error).__name__}")


def _missing(url: str, package: str, command: str) -> DataError:
    return DataError(url, f"needs the package {package}", fix=f"Install it with: {command}")
