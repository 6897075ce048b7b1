"""Hidden files and folders that are filled and then renamed, and those that killed runs left.

Whoever fills one holds a lock on it, which the system lets go of when the process ends, however it
ends. So one that nobody holds is a leftover. Where the file system has no locks, or another machine
(or this one before it was started again) made it, a week without a change must tell.
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_WEEK_SECONDS = 7 * 24 * 3600
_TRIES = 100


def boot_mark() -> str:
    """Eight hex digits that tell this machine, since it was started, from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:
        return "00000000"


@contextmanager
def hidden_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new hidden folder in `parent`, removed on leaving if it is still there under its name.

    Raises:
        OSError: if it cannot be made.
    """
    path, lock = _owned(parent, name, folder=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


@contextmanager
def hidden_file(parent: Path, name: str) -> Iterator[Path]:
    """The same for an empty file."""
    path, lock = _owned(parent, name, folder=False)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def sweep(parent: Path, names: str) -> tuple[Path, ...]:
    """Remove what nobody fills any more; what cannot be removed stays.

    Args:
        parent: the folder that is looked through, not those in it.
        names: regular expression of the names that hidden files and folders were made under.

    Returns:
        What was removed.
    """
    wanted = re.compile(rf"\.(?:{names})\.(?:[0-9a-f]{{8}}-)?\w{{8}}")
    try:
        found = [entry.path for entry in os.scandir(parent) if wanted.fullmatch(entry.name)]
    except OSError:
        return ()
    return tuple(path for path in map(Path, found) if _removed(path))


def _owned(parent: Path, name: str, *, folder: bool) -> tuple[Path, int]:
    """A fresh file or folder, and an open descriptor that holds its lock where there are locks."""
    prefix = f".{name}.{boot_mark()}-"
    for _ in range(_TRIES):
        if folder:
            path = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        else:
            handle, text = tempfile.mkstemp(dir=parent, prefix=prefix)
            os.close(handle)
            path = Path(text)
        with suppress(FileNotFoundError):  # swept before it was locked
            lock = os.open(path, os.O_RDONLY)
            if not _is_held(lock) and _is_at(path, lock):
                return path, lock
            os.close(lock)
    raise FileNotFoundError(f"{parent}: what is made here is removed at once")


def _is_held(lock: int) -> bool:
    """Take the lock; True if another process has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks here: only age will tell
    return False


def _is_at(path: Path, lock: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False


def _removed(path: Path) -> bool:
    """Remove a leftover, holding its lock meanwhile."""
    if path.is_symlink():
        return False
    try:
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        locks = False
    else:
        locks = True
    try:
        ours = f".{boot_mark()}-" in path.name
        aged = time.time() - os.fstat(lock).st_mtime > _WEEK_SECONDS
        if not (locks and ours) and not aged:
            return False
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        return not path.exists()
    except OSError:
        return False
    finally:
        os.close(lock)
