"""Work that several processes share: each is given a request, and says what it has done."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import IO, Any

from calib import errors
from calib.errors import BackendError, InputError
from calib.progress import Advance

_WHERE = "--jobs"
_ALONE = "Run it again with --jobs 1, which says more."
_LINE = 300
"""Characters of a worker's last words."""


@dataclass(frozen=True, slots=True)
class _Worker:
    number: int
    process: "subprocess.Popen[str]"
    errors: IO[str]


def threads_by_worker(threads: int, workers: int) -> list[int]:
    """The threads shared out evenly; at least one for each."""
    each, over = divmod(threads, workers)
    return [max(1, each + (number < over)) for number in range(workers)]


def run_workers(module: str, requests: Sequence[str], advance: Advance) -> None:
    """Run `python -m module` for each request, all at once, and wait for the last.

    No worker outlives this call, however it ends. If this process is killed without a chance to end
    them, they end when they have something to say next.

    Args:
        module: reads its request from standard input and serves it with `serve`.
        requests: one for each worker.
        advance: called with what workers report to have done.

    Raises:
        InputError: the first that a worker reports.
        BackendError: if a worker ends by anything else, with its last words.
    """
    with ExitStack() as stack:
        said: SimpleQueue[tuple[_Worker, str | None]] = SimpleQueue()
        for number, request in enumerate(requests, 1):
            worker = stack.enter_context(_started(module, number, request))
            threading.Thread(target=_listen, args=(worker, said), daemon=True).start()
        running = len(requests)
        while running:
            worker, line = said.get()
            if line is None:
                running -= 1
                _refuse_failed(worker, len(requests))
            elif "error" in (content := json.loads(line)):
                raise _error(content)
            else:
                advance(content["done"])


@contextmanager
def _started(module: str, number: int, request: str) -> Iterator[_Worker]:
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
        subprocess.Popen(
            [sys.executable, "-m", module],
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
                    process.stdin.write(request)
                    process.stdin.close()
            yield _Worker(number, process, said)
        finally:
            process.kill()
            process.wait()


def _listen(worker: _Worker, said: "SimpleQueue[tuple[_Worker, str | None]]") -> None:
    with suppress(ValueError):  # closed: nobody waits any more
        for line in worker.process.stdout or ():
            said.put((worker, line))
    said.put((worker, None))


def _refuse_failed(worker: _Worker, workers: int) -> None:
    code = worker.process.wait()
    if code == 0:
        return
    name = f"process {worker.number} of {workers}"
    if code == -signal.SIGKILL:
        raise BackendError(
            _WHERE,
            f"{name} was killed, as systems do with what takes too much memory",
            fix="Take fewer jobs, lower data.batch_size, or set calibration.memory_mb.",
        )
    worker.errors.seek(0)
    last = (worker.errors.read().strip().splitlines() or ["no message"])[-1]
    problem = f"{name} ended with exit code {code}: {last[:_LINE]}"
    raise BackendError(_WHERE, problem, fix=_ALONE)


def _error(content: dict[str, Any]) -> InputError:
    kind: type[InputError] = getattr(errors, content.pop("error"), InputError)
    return kind(**content)


def serve(work: Callable[[str, Advance], None]) -> None:
    """A worker's whole program: read the request, do the work, report.

    Args:
        work: is given the request, and a function to call with what it has done.
    """
    # The parent ends this process: it needs no traceback. Batch systems send SIGTERM to every
    # process of a job, and the parent would take a worker's end for a fault.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    said = sys.stdout
    sys.stdout = sys.stderr  # a user's loader may print

    def say(content: dict[str, object]) -> None:
        said.write(json.dumps(content) + "\n")
        said.flush()

    try:
        work(sys.stdin.read(), lambda count: say({"done": count}))
    except InputError as error:
        parts = {name: getattr(error, name) for name in ("got", "expected")}
        shown = {name: None if value is None else str(value) for name, value in parts.items()}
        plain = {"where": error.where, "problem": error.problem, "fix": error.fix}
        say({"error": type(error).__name__, **plain, **shown, "more": list(error.more)})
