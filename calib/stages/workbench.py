"""What every stage needs: the experiment, the store, the backend, and somebody to tell."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import calib
import data_loaders
from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeEngine, OnnxRuntimeSpec
from calib.backends.tensorrt import TensorRtBuilder, choose, open_builder
from calib.backends.tensorrt_specs import AutoSpec
from calib.config import Experiment
from calib.environment import stage_packages
from calib.errors import ConfigError
from calib.execution import Executor, LocalSpec
from calib.execution.local import LocalExecutor
from calib.graph.load import Graph
from calib.graph.save import save_model
from calib.journal import Journal
from calib.progress import Advance, Progress
from calib.results import StageRecord
from calib.store import Artifact, Store, sha256_from_tree

_JUDGING = frozenset(
    [
        "advice.py",
        "analysis/speedup.py",
        "cli.py",
        "commands/",
        "evidence/",
        "gate/judging.py",
        "gate/limits.py",
        "gate/rules.py",
        "gate/waiving.py",
        "gate/wording.py",
        "progress.py",
        "promotion/",
        "results/sweep.py",
        "results/waivers.py",
        "run_diff/",
        "specs/sweep.py",
        "sweep/",
        "terminal/",
    ]
)
"""What judges, tells and carries on what stages made, and makes nothing of it: files, folders."""


@dataclass(frozen=True, slots=True)
class Workbench:
    """One run's surroundings; `timings` is the only thing that grows.

    Attributes:
        experiment: with `auto` settled.
        store: finished stages.
        backend: runs the FP32 model and, where no TensorRT can, the candidates.
        builder: builds TensorRT engines; None where the backend is ONNX Runtime alone.
        progress: whom to tell.
        made_by: code and packages that every result depends on.
        notes: what the report's reader should know, e.g. what `auto` became.
        executor: has the workers that share a pass over data.
        timings: of the stages so far.
    """

    experiment: Experiment
    store: Store
    backend: OnnxRuntime
    builder: TensorRtBuilder | None
    progress: Progress
    made_by: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    executor: Executor = field(default_factory=lambda: LocalExecutor(LocalSpec()))
    timings: list[StageRecord] = field(default_factory=list)

    def artifact(
        self,
        name: str,
        title: str,
        key: Mapping[str, Any],
        make: Callable[[Path, Advance], None],
        total: int | None = None,
    ) -> Artifact:
        """A stage's folder, made now or found in the store; see `Store.stage`."""
        begin = time.perf_counter()
        with self.progress.stage(title, total) as advance:
            found = self.store.stage(
                name, {"made_by": self.made_by, **key}, lambda folder: make(folder, advance)
            )
        seconds = time.perf_counter() - begin
        self.timings.append(StageRecord(name=title, seconds=seconds, reused=found.reused))
        return found

    @property
    def shared_runtime(self) -> OnnxRuntimeSpec:
        """How workers run a model: with the threads of this process.

        With another number a MatMul of few rows is split otherwise, a thread that is left with one
        row takes another kernel, and its sums are rounded differently.
        """
        return self.backend.spec.model_copy(update={"threads": self.backend.threads})

    @contextmanager
    def engine(self, graph: Graph, *, spinning: bool = True) -> Iterator[OnnxRuntimeEngine]:
        """An engine of a graph that is only run here and now; see `OnnxRuntime.engine`.

        Raises:
            BackendError: if the runtime refuses the graph.
        """
        with self.store.scratch() as folder:
            path = folder / "model.onnx"
            save_model(graph, path, passing=True)
            with self.backend.engine(path, spinning=spinning) as engine:
                yield engine

    def journal(self, name: str, key: Mapping[str, Any]) -> Journal:
        """Where the artifact of this name and key notes what it has measured so far."""
        return self.store.journal(name, {"made_by": self.made_by, **key})

    @contextmanager
    def timed(self, title: str, total: int | None = None) -> Iterator[Advance]:
        """A stage whose result is not kept: it is quick, or must be taken anew."""
        begin = time.perf_counter()
        with self.progress.stage(title, total) as advance:
            yield advance
        seconds = time.perf_counter() - begin
        self.timings.append(StageRecord(name=title, seconds=seconds, reused=False))


def open_workbench(
    experiment: Experiment, progress: Progress, executor: Executor | None = None
) -> Workbench:
    """Open the store and the backend; `auto` is settled here, and says what it became.

    Args:
        experiment: what is asked.
        progress: whom to tell.
        executor: has the workers that share a pass over data; None: this process alone.

    Raises:
        BackendError: if the backend cannot be used here.
    """
    spec = experiment.backend
    notes: tuple[str, ...] = ()
    if isinstance(spec, AutoSpec):
        spec, why = choose(spec)
        progress.note(why)
        notes = (why,)
        experiment = experiment.model_copy(update={"backend": spec})
    builder = None if isinstance(spec, OnnxRuntimeSpec) else open_builder(spec)
    if builder is not None and experiment.quantization.layout == "native":
        raise ConfigError(
            "quantization.layout",
            "is for ONNX Runtime, and the backend builds TensorRT engines",
            got="native",
            expected="tensorrt",
            fix="Set quantization.layout=tensorrt, or backend.kind=onnxruntime.",
        )
    asked = experiment.quantization
    runtime = spec if isinstance(spec, OnnxRuntimeSpec) else spec.reference
    sources = [Path(str(package.__file__)).parent for package in (calib, data_loaders)]
    if executor is not None and executor.workers > 1 and not runtime.threads:
        progress.note(
            f"{executor.workers} workers, each with the threads of one process, for the same bits; "
            "backend.threads=1 is quicker, with the same bits for any number of workers"
        )
    store = Store(experiment.output.store)
    store.sweep()
    return Workbench(
        experiment=experiment,
        store=store,
        # Weights that the model has already may have 8 bits.
        backend=OnnxRuntime(runtime, reduced=asked.reduce_range and asked.existing == "refuse"),
        builder=builder,
        progress=progress,
        made_by={
            "code": [sha256_from_tree(root, exclude=_JUDGING) for root in sources],
            "packages": stage_packages(builder.spec.kind if builder else None),
            "backend": runtime.model_dump(mode="json"),
        },
        notes=notes,
        executor=executor or LocalExecutor(LocalSpec()),
    )
