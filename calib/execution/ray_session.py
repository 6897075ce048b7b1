"""Ray, started or joined quietly, and left as it was found."""

import importlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from calib.errors import BackendError, ConfigError
from calib.execution.ledger import last_words
from calib.execution.spec import RaySpec

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray prints what it has to say of dead workers to standard output, where --json has its line.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
_STORE_BYTES = 256 * 2**20
"""Models travel through the object store; one that is larger goes by way of the disk."""
_REACH_SECONDS = 10.0
_PATH_MAX = 23
"""Ray's sockets lie below, and their paths have 107 characters at most."""
_CLIENT = "ray://"


def import_ray() -> Any:
    """The package.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        with _environment(_QUIET):
            return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            "execution.kind",
            f"ray needs a package that cannot be imported here: {error}",
            fix="Install it with: pip install 'calib[ray]', or set execution.kind=local.",
        ) from error


class RaySession:
    """A connection to a cluster; one that we started ends with it.

    Attributes:
        ray: the package.
        folder: where this machine's workers keep models; None where there are other machines.
    """

    def __init__(self, spec: RaySpec) -> None:
        """Start or join it.

        Raises:
            BackendError: if that fails.
        """
        self.ray = import_ray()
        self.folder: Path | None = None
        self._joined = bool(self.ray.is_initialized())
        if self._joined:
            return
        _refuse_unreachable(spec)
        if spec.address is None:
            parent = tempfile.gettempdir()
            if len(parent) > _PATH_MAX:
                parent = "/tmp"  # noqa: S108 - mkdtemp makes a folder of its own there
            self.folder = Path(tempfile.mkdtemp(prefix="calib-ray-", dir=parent))
        try:
            with _environment(_QUIET), _handlers_kept():
                self.ray.init(**_arguments(spec, self.folder))
        except BaseException as error:
            self.close()
            # Ray's own errors, of connections, versions and ports, have no common base.
            if isinstance(error, Exception):
                raise _refused(spec, error) from error
            raise

    def cpus_each(self, workers: int) -> int:
        """The largest number of CPUs that so many workers can have each; at least 1.

        No worker's share is on two machines.
        """
        alive = [node for node in self.ray.nodes() if node["Alive"]]
        found = [int(node["Resources"].get("CPU", 0)) for node in alive]
        for each in range(max([1, *found]), 1, -1):
            if sum(cpus // each for cpus in found) >= workers:
                return each
        return 1

    def close(self) -> None:
        """Leave it, or end it."""
        if not self._joined:
            with _handlers_kept():
                self.ray.shutdown()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _arguments(spec: RaySpec, folder: Path | None) -> dict[str, Any]:
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if spec.address is not None:
        return {"address": spec.address, **quiet}
    return {
        "address": "local",
        "num_cpus": spec.workers,
        "num_gpus": 0,
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
        # Its sessions would stay in /tmp for good.
        "_temp_dir": str(folder),
        **quiet,
    }


def refuse_client(spec: RaySpec) -> None:
    """Refuse an address of Ray Client, which has no streams.

    Raises:
        ConfigError: naming what to do instead.
    """
    if spec.address is not None and spec.address.startswith(_CLIENT):
        raise ConfigError(
            "execution.address",
            "is of Ray Client, which cannot stream results",
            got=spec.address,
            expected="auto, or host:port",
            fix="Run calib on a machine of the cluster, for instance by `ray job submit`, with "
            "execution.address=auto.",
        )


def _refuse_unreachable(spec: RaySpec) -> None:
    """Ray itself asks for minutes, and says so on standard error."""
    host, _, port = (spec.address or "").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _refused(spec, error) from error


def _refused(spec: RaySpec, error: Exception) -> BackendError:
    where = "execution.kind" if spec.address is None else "execution.address"
    doing = "Ray cannot be started" if spec.address is None else "the cluster cannot be joined"
    words = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return BackendError(
        where,
        f"{doing}: {last_words(words)}",
        got=spec.address,
        fix="Check that the cluster runs, can be reached, and has this version of Ray and Python."
        if spec.address
        else "Set execution.kind=local, or free memory and try again.",
    )


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Variables that are not set by the user, set for a while."""
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(TypeError, ValueError):  # one that was not set from Python
                signal.signal(number, handler)
