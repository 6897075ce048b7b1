"""Processes of this machine that share work."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from calib.errors import BackendError
from calib.execution.ledger import WHERE, Ledger, failure
from calib.execution.spec import LocalSpec
from calib.execution.work import Take, Work
from calib.execution.worker import error_from
from calib.progress import Advance

_KILLS_MAX = 2
"""So often may a shard's process be killed outright before memory is taken for the reason."""


@dataclass(frozen=True, slots=True)
class _Worker:
    shard: int
    process: "subprocess.Popen[str]"
    errors: IO[str]
    target: Path


class LocalExecutor:
    """Runs each shard in a process; see `Executor`.

    A process that is killed leaves the machine to one less from then on, since memory may be what
    it died of.
    """

    def __init__(self, spec: LocalSpec) -> None:
        self.workers = spec.workers
        self._attempts = spec.attempts

    def run(self, work: Work, folder: Path, advance: Advance, take: Take) -> None:
        """See `Executor.run`.

        No process outlives this call, however it ends. If this one is killed without a chance to
        end them, they end when they have something to say next.
        """
        with ExitStack() as stack:
            _Run(work, folder, take, Ledger(len(work.requests), self._attempts, advance), stack)(
                self.workers
            )


class _Run:
    def __init__(
        self, work: Work, folder: Path, take: Take, ledger: Ledger, stack: ExitStack
    ) -> None:
        self._work = work
        self._folder = folder
        self._take = take
        self._ledger = ledger
        self._stack = stack
        self._said: SimpleQueue[tuple[_Worker, str | None]] = SimpleQueue()
        self._waiting = deque(range(len(work.requests)))
        self._kills: Counter[int] = Counter()

    def __call__(self, slots: int) -> None:
        running = 0
        while self._waiting or running:
            while self._waiting and running < slots:
                self._start(self._waiting.popleft())
                running += 1
            worker, line = self._said.get()
            if line is not None:
                self._heard(worker, line)
                continue
            running -= 1
            if self._ended(worker) == -signal.SIGKILL:
                slots = max(1, slots - 1)

    def _start(self, shard: int) -> None:
        target = self._folder / f"shard-{shard}"
        shutil.rmtree(target, ignore_errors=True)  # what a dead one has left
        target.mkdir()
        worker = self._stack.enter_context(_started(self._work, shard, target))
        threading.Thread(target=_listen, args=(worker, self._said), daemon=True).start()

    def _heard(self, worker: _Worker, line: str) -> None:
        if not line.endswith("\n"):
            return  # killed while it wrote
        content = json.loads(line)
        if "error" in content:
            raise error_from(content)
        self._ledger.add(worker.shard, content["done"])

    def _ended(self, worker: _Worker) -> int:
        """Take what a process has made, or have it made again; its exit code."""
        code, shard = worker.process.wait(), worker.shard
        if code == 0:
            self._take(shard, worker.target)
            shutil.rmtree(worker.target, ignore_errors=True)
            return code
        worker.errors.seek(0)
        words = worker.errors.read()
        name = self._ledger.name(shard)
        if code > 0:
            raise failure(name, f"ended with exit code {code}", words)
        self._kills[shard] += code == -signal.SIGKILL
        if self._kills[shard] >= _KILLS_MAX:
            raise BackendError(
                WHERE,
                f"{name} was killed {_KILLS_MAX} times, as systems do with what takes too much "
                "memory",
                fix="Take fewer workers (execution.workers, --jobs), lower data.batch_size, or set "
                "calibration.memory_mb.",
            )
        self._ledger.died(shard, f"{words}\nsignal {-code} ({signal.strsignal(-code)})")
        self._waiting.append(shard)
        return code


@contextmanager
def _started(work: Work, shard: int, target: Path) -> Iterator[_Worker]:
    asked = {
        "handler": work.handler,
        "request": work.requests[shard],
        "model": str(work.model),
        "target": str(target),
    }
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
        subprocess.Popen(
            [sys.executable, "-m", "calib.execution.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            encoding="utf-8",
            # What this process can import, they can: the user's loaders among it.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            # Ctrl-C is for this process, which ends them.
            start_new_session=True,
        ) as process,
    ):
        try:
            with suppress(BrokenPipeError):  # it has died: its exit code says so
                if process.stdin is not None:
                    process.stdin.write(json.dumps(asked))
                    process.stdin.close()
            yield _Worker(shard, process, said, target)
        finally:
            process.kill()
            process.wait()


def _listen(worker: _Worker, said: "SimpleQueue[tuple[_Worker, str | None]]") -> None:
    with suppress(ValueError):  # closed: nobody waits any more
        for line in worker.process.stdout or ():
            said.put((worker, line))
    said.put((worker, None))
