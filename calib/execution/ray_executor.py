"""Actors of a Ray cluster that share work.

An actor reads its shard itself: only the model travels to it, once for each machine through the
object store, and only what it makes travels back.
"""

import shutil
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calib.errors import BackendError
from calib.execution.ledger import WHERE, Ledger, failure
from calib.execution.ray_actor import digest_of, makeup, own_folder, refuse_unlike
from calib.execution.ray_session import RaySession, import_ray, refuse_client
from calib.execution.spec import RaySpec
from calib.execution.work import Take, Work
from calib.execution.worker import error_from
from calib.progress import Advance

_POLL_SECONDS = 5.0
_START_SECONDS = 300.0
"""So long there may be no worker at all before the cluster is said to have no room."""
_CLEAR_SECONDS = 5.0
_BACKPRESSURE = 16
"""Pieces of one worker that may wait in the object store."""


class RayExecutor:
    """Runs each shard on an actor; see `Executor`. The actors stay for what comes next.

    Nothing is started before there is work.
    """

    def __init__(self, spec: RaySpec) -> None:
        """Set up.

        Raises:
            ConfigError: if the package is not installed, or the address is of Ray Client.
        """
        refuse_client(spec)
        import_ray()
        self.workers = spec.workers
        self._spec = spec
        self._opened: RaySession | None = None
        self._pool: _Pool | None = None

    def run(self, work: Work, folder: Path, advance: Advance, take: Take) -> None:
        """See `Executor.run`."""
        if self._pool is None:
            self._pool = _Pool(self._session, self.workers, self._spec.attempts)
        ledger = Ledger(len(work.requests), self._spec.attempts, advance)
        try:
            _Run(self._pool, work, folder, take, ledger)()
        except BaseException:
            self._pool.kill_busy()  # what still runs is of no use
            raise

    def close(self) -> None:
        """End the actors, and Ray if it was started here."""
        if self._pool is not None:
            self._pool.close()
        if self._opened is not None:
            self._opened.close()

    @property
    def _session(self) -> RaySession:
        if self._opened is None:
            self._opened = RaySession(self._spec)
        return self._opened


def _place() -> tuple[list[str], str]:
    """What this process imports from, and where it is."""
    return [str(Path(path).absolute()) for path in sys.path], str(Path.cwd())


def _actor_class(ray: Any) -> Any:
    """The actor. It is sent by value, and imports nothing before it has been told from where."""

    class Worker:
        def settle(self, paths: list[str], here: str) -> dict[str, str]:
            import sys

            sys.path.extend(path for path in paths if path not in sys.path)
            from calib.execution import ray_actor

            return ray_actor.settle(paths, here)

        def work(self, asked: tuple[str, str], place: Any, files: Any, model: Any) -> Any:
            from calib.execution import ray_actor

            ray_actor.settle(*place)  # the driver may have moved since
            digest, root = model
            yield from ray_actor.pieces(*asked, ray_actor.placed(files, digest, self._root(root)))

        def clear(self) -> None:
            import shutil

            shutil.rmtree(self._root(None), ignore_errors=True)

        @staticmethod
        def _root(root: Path | None) -> Path:
            import ray

            from calib.execution import ray_actor

            return root or ray_actor.own_folder(ray.get_runtime_context())

    return ray.remote(Worker)


class _Pool:
    """The actors: those that are starting, and those that wait for work."""

    def __init__(self, session: RaySession, workers: int, attempts: int) -> None:
        self.ray, self.root = session.ray, session.folder
        own = session.folder is not None
        self._class = _actor_class(self.ray).options(
            num_cpus=1 if own else session.cpus_each(workers),
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )
        self._workers = workers
        self._attempts = attempts
        self._failures = 0
        self._makeup = makeup()
        self._model: tuple[str, Any] = ("", None)
        self.starting: dict[Any, Any] = {}
        self.idle: list[Any] = []
        self.busy: list[Any] = []

    def grow(self, shards: int) -> None:
        """Start actors until there is one for each shard, or as many as are to be."""
        missing = min(shards, self._workers) - len(self.starting) - len(self.idle) - len(self.busy)
        for _ in range(missing):
            actor = self._class.remote()
            self.starting[actor.settle.remote(*_place())] = actor

    def started(self, ref: Any) -> None:
        """An actor is ready, or has failed to be.

        Raises:
            BackendError: if it cannot do this run's work, or too many have failed.
        """
        actor = self.starting.pop(ref)
        try:
            found = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            raise failure("a worker", "cannot start", str(error)) from error
        except self.ray.exceptions.RayError as error:
            self._failures += 1
            if self._failures >= self._attempts:
                raise failure("a worker", "died at its start", str(error)) from error
            return
        refuse_unlike(self._makeup, found)
        self.idle.append(actor)

    def model(self, work: Work) -> tuple[str, Any]:
        """The digest of the work's model, and a reference to it in the object store."""
        files = {
            path.relative_to(work.model.parent).as_posix(): path
            for path in (work.model, *work.beside)
        }
        digest = digest_of(files)
        if digest != self._model[0]:
            content = {name: np.fromfile(path, np.uint8) for name, path in files.items()}
            self._model = (digest, self.ray.put(content))
        return self._model

    def kill_busy(self) -> None:
        """End the actors that do something."""
        for actor in (*self.starting.values(), *self.busy):
            self._kill(actor)
        self.starting.clear()
        self.busy.clear()

    def close(self) -> None:
        """End all actors; nothing stays on machines where one has nothing to do, or on this one."""
        self.kill_busy()
        if self.root is None:
            asked = [actor.clear.remote() for actor in self.idle]
            with suppress(self.ray.exceptions.RayError, ValueError):  # none to wait for
                self.ray.wait(asked, num_returns=len(asked), timeout=_CLEAR_SECONDS)
        for actor in self.idle:
            self._kill(actor)
        self.idle.clear()
        if self.root is None:
            context = self.ray.get_runtime_context()
            shutil.rmtree(own_folder(context), ignore_errors=True)

    def _kill(self, actor: Any) -> None:
        with suppress(self.ray.exceptions.RayError):
            self.ray.kill(actor)


@dataclass(frozen=True, slots=True)
class _Task:
    shard: int
    actor: Any
    target: Path


class _Run:
    def __init__(self, pool: _Pool, work: Work, folder: Path, take: Take, ledger: Ledger) -> None:
        self._pool, self._ray = pool, pool.ray
        self._work = work
        self._folder = folder
        self._take = take
        self._ledger = ledger
        self._waiting = deque(range(len(work.requests)))
        self._tasks: dict[Any, _Task] = {}

    def __call__(self) -> None:
        digest, model = self._pool.model(self._work)
        alone_since = time.monotonic()
        while self._waiting or self._tasks:
            # One that died is replaced as long as its shard waits.
            self._pool.grow(len(self._waiting) + len(self._tasks))
            while self._waiting and self._pool.idle:
                self._start(self._waiting.popleft(), digest, model)
            if self._tasks:
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > _START_SECONDS:
                raise BackendError(
                    WHERE,
                    f"no worker has started in {_START_SECONDS:.0f} s: the cluster has no CPU free",
                    fix="Wait for other work of the cluster, or take fewer workers.",
                )
            ready, _ = self._ray.wait(
                [*self._pool.starting, *self._tasks], num_returns=1, timeout=_POLL_SECONDS
            )
            for item in ready:
                self._step(item) if item in self._tasks else self._pool.started(item)

    def _start(self, shard: int, digest: str, model: Any) -> None:
        target = self._folder / f"shard-{shard}"
        shutil.rmtree(target, ignore_errors=True)  # what a dead one has sent
        target.mkdir()
        actor = self._pool.idle.pop()
        self._pool.busy.append(actor)
        work = actor.work.options(
            num_returns="streaming", _generator_backpressure_num_objects=_BACKPRESSURE
        )
        asked = (self._work.handler, self._work.requests[shard])
        stream = work.remote(asked, _place(), model, (digest, self._pool.root))
        self._tasks[stream] = _Task(shard, actor, target)

    def _step(self, stream: Any) -> None:
        """Take the next piece of a shard, if there is one."""
        task = self._tasks[stream]
        try:
            kind, content = self._ray.get(next(stream))
        except StopIteration:
            self._leave(stream)
            self._pool.idle.append(task.actor)
            self._take(task.shard, task.target)
            shutil.rmtree(task.target, ignore_errors=True)
        except self._ray.exceptions.RayTaskError as error:
            raise failure(self._ledger.name(task.shard), "ended", str(error)) from error
        except self._ray.exceptions.RayError as error:
            self._leave(stream)
            self._ledger.died(task.shard, str(error))
            self._waiting.append(task.shard)
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(task.actor)  # it may live, with its results lost
        else:
            self._got(task, kind, content)

    def _leave(self, stream: Any) -> None:
        self._pool.busy.remove(self._tasks.pop(stream).actor)

    def _got(self, task: _Task, kind: str, content: Any) -> None:
        if kind == "done":
            self._ledger.add(task.shard, content)
        elif kind == "files":
            for name, data in content:
                path = task.target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        elif kind == "error":
            raise error_from(content)
        else:
            raise failure(self._ledger.name(task.shard), "ended", content)
