"""A model opened as it will be served, and what ONNX Runtime then says of its ends."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort

from calib.backends.bfloat16 import Float32Session
from calib.errors import BackendError
from calib.results import TensorSpec
from data_loaders.types import Array

_CPU = "CPUExecutionProvider"
_DTYPES = {"float": "float32", "double": "float64", "string": "object"}
"""numpy's names, where they are not ONNX Runtime's own."""


class ServedModel:
    """An open session.

    Attributes:
        inputs: as the session has them, after its optimizations: a server that compares shapes
            compares these, not those of the file. An axis of no fixed size has its name, or `?`.
        outputs: likewise; () where the runtime does not know the rank.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Open it.

        Args:
            path: the ONNX file.
            settings: of `session.json`; execution providers that this machine has not got are
                left out.

        Raises:
            BackendError: if the runtime refuses the model.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(settings.get("threads", 0))
        level = str(settings.get("optimization", "ORT_ENABLE_ALL"))
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        options.log_severity_level = 3
        for key, value in settings.get("entries", {}).items():
            options.add_session_config_entry(key, value)
        here = set(ort.get_available_providers())
        providers = [p for p in settings.get("providers", ()) if p in here] or [_CPU]
        try:
            session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime raises classes it does not export
            raise _refusal(str(path), error) from error
        self.inputs = tuple(_specs(session.get_inputs()))
        self.outputs = tuple(_specs(session.get_outputs()))
        self._session = Float32Session(session) if Float32Session.is_needed(session) else session

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs' arrays by name; BF16 is given and taken as float32, strings as objects.

        Raises:
            BackendError: if the runtime refuses an input.
        """
        names = [output.name for output in self.outputs]
        try:
            values = self._session.run(names, dict(inputs))
        except Exception as error:  # onnxruntime raises classes it does not export
            raise _refusal("inputs of the model", error) from error
        return dict(zip(names, values, strict=True))


def _refusal(where: str, error: Exception) -> BackendError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return BackendError(where, f"ONNX Runtime refused it: {reason[0]}")


def _specs(ends: Iterable[Any]) -> Iterable[TensorSpec]:
    for end in ends:
        kind = end.type.removeprefix("tensor(").removesuffix(")")
        yield TensorSpec(
            name=end.name,
            dtype=_DTYPES.get(kind, kind),
            shape=tuple(a if isinstance(a, int) and a >= 0 else (a or "?") for a in end.shape),
        )
