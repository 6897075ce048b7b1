"""The executor that the config asks for."""

from collections.abc import Iterator
from contextlib import contextmanager

from calib.execution.local import LocalExecutor
from calib.execution.ray_executor import RayExecutor
from calib.execution.spec import ExecutionSpec, RaySpec
from calib.execution.work import Executor


@contextmanager
def open_executor(spec: ExecutionSpec, jobs: int | None = None) -> Iterator[Executor]:
    """What the config asks for; nothing is started before there is work.

    Args:
        spec: the config's `execution`.
        jobs: workers instead of those that the config says; None leaves it.

    Raises:
        ConfigError: if the kind cannot be used here.
    """
    if jobs is not None:
        spec = spec.model_copy(update={"workers": jobs})
    if not isinstance(spec, RaySpec):
        yield LocalExecutor(spec)
        return
    executor = RayExecutor(spec)
    try:
        yield executor
    finally:
        executor.close()
