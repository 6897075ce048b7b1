"""ONNX Runtime: the embedded backend that needs no GPU."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from polygraphy.backend.onnxrt import OnnxrtRunner
from pydantic import BaseModel, ConfigDict, Field

from calib.backends.bfloat16 import Float32Session
from calib.backends.processor import is_x86, sums_bytes_exactly
from calib.errors import BackendError
from data_loaders.types import Array

_LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_WARNINGS, _ERRORS = 2, 3
_EXACT = {"session.x64quantprecision": "1"}
_CONSTANTS_FILE = "session.optimized_model_external_initializers_file_name"
_RESTING = {"session.force_spinning_stop": "1"}
_GRAPH_ATTRIBUTES = (b"\n\x04body", b"\n\x0bthen_branch")
"""As a protobuf spells them: field 1, the length, the text."""


class OnnxRuntimeSpec(BaseModel):
    """How ONNX Runtime runs every engine of the experiment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["onnxruntime"] = "onnxruntime"
    providers: tuple[str, ...] = Field(
        default=("CPUExecutionProvider",),
        min_length=1,
        description="Execution providers, first choice first.",
    )
    threads: int = Field(
        default=0, ge=0, le=4096, description="Threads inside one operator; 0 = one a usable core."
    )
    optimization: Literal["disabled", "basic", "extended", "all"] = Field(
        default="all", description="Graph optimization level."
    )


class OnnxRuntimeEngine:
    """One session; `infer` takes and gives numpy arrays.

    Outputs are bound, so that the arrays are the runtime's own memory: `InferenceSession.run` would
    copy every one of them, which costs more than the taps themselves.
    """

    def __init__(self, session: ort.InferenceSession | Float32Session) -> None:
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]
        self._bound = not isinstance(session, Float32Session)

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Engine.infer`."""
        arrays = {name: np.asarray(array, order="C") for name, array in inputs.items()}
        try:
            values = self._run_bound(arrays) if self._bound else self._run(arrays)
            if len(values) != len(self._outputs):
                # Of outputs that are an input, or one another, a binding gives only some.
                self._bound = False
                values = self._run(arrays)
        except Exception as error:  # onnxruntime raises classes it does not export
            raise _refusal("inputs of the model", error) from error
        return dict(zip(self._outputs, values, strict=True))

    def _run_bound(self, arrays: Mapping[str, Array]) -> list[Array]:
        session: Any = self._session
        binding = session.io_binding()
        for name, array in arrays.items():
            binding.bind_cpu_input(name, array)
        for name in self._outputs:
            binding.bind_output(name)
        session.run_with_iobinding(binding)
        return [value.numpy() for value in binding.get_outputs()]

    def _run(self, arrays: Mapping[str, Array]) -> list[Array]:
        return list(self._session.run(self._outputs, dict(arrays)))


class OnnxRuntime:
    """The ONNX Runtime backend with fixed settings."""

    name = "onnxruntime"

    def __init__(self, spec: OnnxRuntimeSpec, *, reduced: bool = False) -> None:
        """Set up.

        Args:
            spec: the settings.
            reduced: all weights are in 7 bits: no sum of theirs can overflow.

        Raises:
            BackendError: if this build has not got the execution providers.
        """
        missing = sorted(set(spec.providers) - set(ort.get_available_providers()))
        if missing:
            raise BackendError(
                "backend.providers",
                "this build of ONNX Runtime has no such execution provider",
                got=", ".join(missing),
                expected=" or ".join(ort.get_available_providers()),
            )
        self.spec = spec
        self.reduced = reduced
        self._asks_exact = not (reduced or sums_bytes_exactly())
        self.threads = spec.threads or len(os.sched_getaffinity(0))

    @contextmanager
    def engine(
        self, model_path: Path, *, spinning: bool = True, optimized: bool = False
    ) -> Iterator[OnnxRuntimeEngine]:
        """See `Backend.engine`.

        Args:
            model_path: the ONNX file.
            spinning: threads wait for the next run awake, as they do by default: quicker when
                runs follow one another, slower when other work comes between.
            optimized: the file comes from `write_optimized`, and is run as it is.
        """
        options = self._options(spinning=spinning)
        if optimized:
            options.graph_optimization_level = _LEVELS["disabled"]
        yield OnnxRuntimeEngine(self._session(model_path, options))

    def with_threads(self, threads: int | None) -> "OnnxRuntime":
        """The same backend with another number of threads inside an operator; None: this one."""
        if threads is None or threads == self.threads:
            return self
        return OnnxRuntime(self.spec.model_copy(update={"threads": threads}))

    @staticmethod
    def takes(model: bytes) -> bool:
        """Whether this build takes a model, given as the bytes of an ONNX file."""
        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS + 1
        try:
            ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception:  # onnxruntime raises classes it does not export
            return False
        return True

    @property
    def computes_in_blocks(self) -> bool:
        """Whether convolutions are computed on blocks of channels."""
        cpu_alone = self.spec.providers == ("CPUExecutionProvider",)
        return cpu_alone and self.spec.optimization == "all"

    @property
    def emulates_fp16(self) -> bool:
        """Whether FP16 is computed in float32, with Casts around: on x86 it has no kernels."""
        return self.spec.providers == ("CPUExecutionProvider",) and is_x86()

    def write_optimized(self, model_path: Path, target: Path) -> None:
        """Write the model as this runtime, on this machine, would run it.

        Raises:
            BackendError: if the runtime refuses the model.
        """
        options = self._options()
        options.optimized_model_filepath = str(target)
        # It warns that the file is for this machine alone, which it is meant for.
        options.log_severity_level = _ERRORS
        self._session(model_path, options)

    def write_structure(self, model_path: Path, target: Path) -> None:
        """Write the same without its larger constants: what they are, and nothing they hold.

        A model of gigabytes is written in the time that it takes to load it, and needs no disk.

        Raises:
            BackendError: if the runtime refuses the model, or cannot write what it made of it.
        """
        options = self._options()
        options.optimized_model_filepath = str(target)
        options.log_severity_level = _ERRORS
        nowhere = target.with_suffix(".nowhere")
        options.add_session_config_entry(_CONSTANTS_FILE, nowhere.name)
        try:
            nowhere.symlink_to(os.devnull)
            self._session(model_path, options)
        except OSError as error:
            raise _refusal(str(target), error) from error
        finally:
            nowhere.unlink(missing_ok=True)

    def runner(self, model_path: Path, name: str, *, spinning: bool = True) -> Any:
        """See `Backend.runner`; for `spinning` see `engine`."""
        options = self._options(spinning=spinning)
        return OnnxrtRunner(lambda: self._session(model_path, options), name=name)

    def describe(self) -> dict[str, str]:
        """See `Backend.describe`."""
        return {
            "version": ort.__version__,
            "providers": ", ".join(self.spec.providers),
            "threads": str(self.threads),
            "optimization": self.spec.optimization,
            "8-bit sums": self._exactness(),
        }

    def _exactness(self) -> str:
        if self._asks_exact:
            return "exact by session.x64quantprecision, for want of VNNI"
        if sums_bytes_exactly():
            return "exact by the processor"
        return "exact by weights in 7 bits, for want of VNNI"

    def session_settings(self) -> dict[str, Any]:
        """What is timed is opened with, by ONNX Runtime's names, so that others can do so."""
        return {
            "providers": list(self.spec.providers),
            "threads": self.threads,
            "optimization": _LEVELS[self.spec.optimization].name,
            "entries": {**_RESTING, **(_EXACT if self._asks_exact else {})},
        }

    def _options(self, *, spinning: bool = True) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = _LEVELS[self.spec.optimization]
        options.log_severity_level = _WARNINGS
        # Threads that spin after a run would take the cores from whoever reads its outputs. An
        # overflow would be taken for quantization error: the exact kernels are slower.
        resting, exact = ({} if spinning else _RESTING), (_EXACT if self._asks_exact else {})
        for key, value in {**resting, **exact}.items():
            options.add_session_config_entry(key, value)
        return options

    def _session(
        self, model_path: Path, options: ort.SessionOptions
    ) -> ort.InferenceSession | Float32Session:
        if _holds_graphs(model_path):
            # Optimizing a second time, as it does by default, ends the process with a segmentation
            # fault on a Scan in a model of FP16.
            options.add_session_config_entry("session.graph_optimizations_loop_level", "0")
        try:
            session = ort.InferenceSession(
                str(model_path), options, providers=list(self.spec.providers)
            )
            return Float32Session(session) if Float32Session.is_needed(session) else session
        except Exception as error:  # onnxruntime raises classes it does not export
            raise _refusal(str(model_path), error) from error


def _holds_graphs(model_path: Path) -> bool:
    """Whether some node is an If, Loop or Scan, as far as the file's bytes tell.

    Reading a large model takes longer than looking for the names of attributes in it.
    """
    try:
        with model_path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            return any(content.find(name) >= 0 for name in _GRAPH_ATTRIBUTES)
    except (OSError, ValueError):  # it is not there, or is empty: the session says so
        return False


def _refusal(where: str, error: Exception) -> BackendError:
    message = str(error).strip().splitlines()
    return BackendError(where, f"ONNX Runtime refused it: {message[0] if message else error!r}")
