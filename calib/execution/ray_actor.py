"""What a Ray actor does: place the model, run a shard, and send what it makes piece by piece."""

import hashlib
import os
import platform
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import Queue
from typing import Any

from filelock import FileLock

import calib
import data_loaders
from calib.errors import BackendError, InputError
from calib.execution.ledger import WHERE
from calib.execution.worker import content_of, handler
from calib.leftovers import hidden_folder
from calib.store import sha256_from_file, sha256_from_tree
from data_loaders.types import Array

Piece = tuple[str, Any]
_AHEAD = 8
"""Pieces that a worker may be ahead of whoever fetches them."""
_SAY_SECONDS = 1.0
_PIECE_BYTES = 16 * 2**20
_PACKAGES = ("numpy", "onnx", "onnxruntime", "polygraphy")


@cache
def makeup() -> dict[str, str]:
    """What must be the same wherever a shard runs, since the results depend on it."""
    roots = [Path(str(package.__file__)).parent for package in (calib, data_loaders)]
    code = "".join(sha256_from_tree(root) for root in roots)
    return {
        "calib": hashlib.sha256(code.encode()).hexdigest()[:12],
        "python": ".".join(platform.python_version_tuple()[:2]),
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def settle(paths: list[str], here: str) -> dict[str, str]:
    """Make this process like the driver: where it is and what it can import.

    Args:
        paths: the driver's sys.path.
        here: its current directory.

    Returns:
        See `makeup`; and a `problem`, if the directory is not there.
    """
    sys.path.extend(path for path in paths if path not in sys.path)
    if not Path(here).is_dir():
        return {"problem": f"there is no directory {here} on {platform.node()}"}
    os.chdir(here)
    return makeup()


def refuse_unlike(own: Mapping[str, str], other: Mapping[str, str]) -> None:
    """Refuse a worker whose results might be others.

    Args:
        own: `makeup` here.
        other: what `settle` found there.

    Raises:
        BackendError: saying what differs.
    """
    if "problem" in other:
        raise BackendError(
            WHERE,
            f"a worker cannot read what this machine reads: {other['problem']}",
            fix="Run calib from a directory that all machines of the cluster share.",
        )
    unlike = [name for name in own if own[name] != other.get(name)]
    if unlike:
        raise BackendError(
            WHERE,
            f"a worker has another {', another '.join(unlike)} than this machine",
            got=", ".join(f"{name} {other.get(name)}" for name in unlike),
            expected=", ".join(f"{name} {own[name]}" for name in unlike),
            fix="Install the same versions on all machines of the cluster.",
        )


def digest_of(files: Mapping[str, Path]) -> str:
    """SHA-256 over the files that a model consists of."""
    return hashlib.sha256(
        "".join(f"{name}\n{sha256_from_file(path)}\n" for name, path in files.items()).encode()
    ).hexdigest()


def own_folder(context: Any) -> Path:
    """Where this machine keeps what a driver's workers need; this user's alone.

    Args:
        context: Ray's runtime context, of the driver or of an actor of it.

    Raises:
        PermissionError: if somebody else has made it.
    """
    name = f"calib-{context.get_session_name()}-{context.get_job_id()}-{os.getuid()}"
    folder = Path(tempfile.gettempdir(), name)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder


def placed(files: Mapping[str, Array], digest: str, root: Path) -> Path:
    """The model's file, written once on each machine, with what lies beside it.

    Args:
        files: uint8, by name; the model first.
        digest: of them.
        root: where this machine keeps models.
    """
    folder = root / digest
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{digest}.lock"):
        if not folder.is_dir():
            with hidden_folder(root, digest) as filling:
                for name, content in files.items():
                    path = filling / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    content.tofile(path)
                filling.rename(folder)
    return folder / next(iter(files))


def pieces(name: str, request: str, model: Path) -> Iterator[Piece]:
    """Run a handler, and give what it does as it does it.

    Yields:
        `files`, each with its path and bytes; `done` with a number of samples; at the end `error`
        with the content of an InputError, or `fault` with the traceback of any other, if there was
        one. Not more often than each second: the driver listens to many.
    """
    said: Queue[Piece | None] = Queue(_AHEAD)
    # Beside the models, so that what a killed one leaves goes with them.
    with tempfile.TemporaryDirectory(prefix="shard-", dir=model.parent.parent) as folder:
        target = Path(folder)
        sender = _Sender(target, said)

        def work() -> None:
            try:
                handler(name)(request, model, target, sender.advance)
                sender.send()
            except InputError as error:
                said.put(("error", content_of(error)))
            except BaseException:  # whatever it is, it is the driver that says it
                said.put(("fault", traceback.format_exc()))
            said.put(None)

        threading.Thread(target=work, daemon=True).start()
        while (piece := said.get()) is not None:
            yield piece


class _Sender:
    """What has been done since the last time, together."""

    def __init__(self, folder: Path, said: "Queue[Piece | None]") -> None:
        self._folder = folder
        self._said = said
        self._done = 0
        self._last = time.monotonic()

    def advance(self, count: int) -> None:
        """So many samples more are done."""
        self._done += count
        if time.monotonic() - self._last >= _SAY_SECONDS:
            self.send()

    def send(self) -> None:
        """Files leave, whole; hidden ones are being written."""
        files, size = [], 0
        for path in sorted(self._folder.rglob("*")):
            own = path.relative_to(self._folder)
            if path.is_file() and not any(part.startswith(".") for part in own.parts):
                files.append((own.as_posix(), path.read_bytes()))
                size += len(files[-1][1])
                path.unlink()
            if size > _PIECE_BYTES:
                self._said.put(("files", files))
                files, size = [], 0
        if files:
            self._said.put(("files", files))
        if self._done:
            self._said.put(("done", self._done))
        self._done, self._last = 0, time.monotonic()
