"""What the rest of calib knows of an inference runtime."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from data_loaders.types import Array


class Engine(Protocol):
    """A model that is ready to run."""

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch.

        Args:
            inputs: array by input name.

        Returns:
            array by output name; the arrays stay valid until the next call.

        Raises:
            BackendError: if the runtime refuses an input's name, dtype or shape.
        """
        ...


@runtime_checkable
class TimedEngine(Protocol):
    """An engine whose device keeps the time."""

    def timed_infer(self, inputs: Mapping[str, Array]) -> float:
        """Run one batch; its latency by the device's clock, in milliseconds."""
        ...


class Backend(Protocol):
    """A runtime that turns an ONNX file into an engine."""

    @property
    def name(self) -> str:
        """The name the config uses, e.g. onnxruntime."""
        ...

    def engine(self, model_path: Path) -> AbstractContextManager[Engine]:
        """Open the model for running; leaving the context frees it.

        Raises:
            BackendError: if the runtime refuses the model.
        """
        ...

    def runner(self, model_path: Path, name: str) -> Any:
        """The same engine as a Polygraphy runner, not yet activated."""
        ...

    def describe(self) -> dict[str, str]:
        """Version, providers, threads and other settings that the numbers depend on."""
        ...
