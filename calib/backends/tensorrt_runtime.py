"""Running TensorRT engines, through Polygraphy's runner. Needs a GPU."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calib.errors import BackendError
from data_loaders.types import Array


def make_runner(plan: Path, kind: str, name: str) -> Any:
    """A Polygraphy runner of an engine file, not yet activated.

    Args:
        plan: the engine.
        kind: tensorrt or tensorrt_rtx; Polygraphy serves one of them in a process.
        name: the runner's name.
    """
    if kind == "tensorrt_rtx":
        os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1"
    from polygraphy.backend.common import BytesFromPath
    from polygraphy.backend.trt import EngineFromBytes, TrtRunner

    return TrtRunner(EngineFromBytes(BytesFromPath(str(plan))), name=name)


class TensorRtEngine:
    """An active engine; `infer` copies in, runs, waits for the device, and copies out."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Engine.infer`."""
        try:
            return dict(self._runner.infer(dict(inputs), check_inputs=True))
        except Exception as error:  # Polygraphy and TensorRT raise many kinds
            raise BackendError("inputs of the engine", f"TensorRT refused it: {error}") from error


@contextmanager
def open_engine(plan: Path, kind: str) -> Iterator[TensorRtEngine]:
    """The engine for running; leaving the context frees the device.

    Raises:
        BackendError: if this machine cannot load it.
    """
    runner = make_runner(plan, kind, plan.parent.name)
    try:
        runner.activate()
    except Exception as error:  # Polygraphy and TensorRT raise many kinds
        raise BackendError(str(plan), f"the engine cannot be loaded: {error}") from error
    try:
        yield TensorRtEngine(runner)
    finally:
        runner.deactivate()
