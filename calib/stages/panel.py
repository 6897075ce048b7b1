"""A part of the calibration samples that no remedy is fitted on, to judge remedies by.

FP32's own outputs are the target, so no labels are needed, and validation is not touched.
"""

import math
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calib.backends.base import Engine
from calib.errors import ConfigError
from calib.graph.load import Graph
from calib.graph.save import save_model
from calib.stages.inputs import Inputs
from calib.stages.workbench import Workbench
from data_loaders import Batch, Sample, batches
from data_loaders.types import Array

_SHARE = 4
"""Every fourth sample or so is kept aside."""
_SAMPLES_MAX = 128
_OUTPUT_BYTES_MAX = 1 << 26


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far a model's outputs are from FP32's.

    Attributes:
        noise: Σ error² / Σ reference², the mean over the model's float outputs.
        changed: samples whose largest score is another one, in the task's output.
        samples: compared.
        by_sample: float64 (samples,): Σ error² of each over the signal of all, added over outputs;
            of a whole batch where an output has no batch axis.
    """

    noise: float
    changed: int
    samples: int
    by_sample: NDArray[np.float64]

    def is_below(self, other: "OutputError", gain_db: float) -> bool:
        """Whether the error is less than another's by so much, and by more than chance.

        The same samples under both: the mean of the differences, against its standard error.
        """
        if not math.isfinite(other.noise):
            return math.isfinite(self.noise)
        fall = other.by_sample - self.by_sample
        if not np.isfinite(fall).all() or self.sqnr_db <= other.sqnr_db + gain_db:
            return False
        return (
            bool(fall.mean() > fall.std(ddof=1) / math.sqrt(len(fall))) if len(fall) > 1 else True
        )

    @property
    def sqnr_db(self) -> float:
        """-10·log10(noise); infinite if exact, minus infinity if something is not finite."""
        if not math.isfinite(self.noise):
            return -math.inf
        return -10 * math.log10(self.noise) if self.noise > 0 else math.inf


@dataclass(slots=True)
class Panel:
    """The kept samples, FP32's outputs for them, and how often they were used.

    Attributes:
        batches: of the kept samples.
        reference: FP32's outputs by name, a batch each.
        task_output: the output that decides.
        judged: samples run so far, those of every variant.
    """

    bench: Workbench
    batches: tuple[Batch, ...]
    reference: tuple[Mapping[str, Array], ...]
    task_output: str
    judged: int = 0

    @property
    def samples(self) -> int:
        """How many were kept aside."""
        return sum(len(batch) for batch in self.batches)

    def judge(self, graph: Graph) -> OutputError:
        """Run a model as it is."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "judged.onnx")
            save_model(graph, path)
            with self.bench.backend.engine(path) as engine:
                return self.judge_engine(engine)

    def judge_engine(
        self,
        engine: Engine,
        settings: Mapping[str, Array] | None = None,
        samples: int | None = None,
    ) -> OutputError:
        """Run an engine, with inputs beside the samples' own, on the first samples or on all."""
        signal: dict[str, float] = {}
        noise: dict[str, float] = {}
        changed = seen = 0
        squares: list[dict[str, NDArray[np.float64]]] = []
        for batch, reference in zip(self.batches, self.reference, strict=True):
            if samples is not None and seen >= samples:
                break
            found = engine.infer({**batch.inputs, **(settings or {})})
            squares.append({})
            for name, expected in reference.items():
                wide = expected.astype(np.float64)
                with np.errstate(invalid="ignore", over="ignore"):
                    error = np.square(found[name].astype(np.float64) - wide)
                signal[name] = signal.get(name, 0.0) + float(np.square(wide).sum())
                noise[name] = noise.get(name, 0.0) + float(error.sum())
                squares[-1][name] = _by_sample(error, len(batch))
            changed += _changed(reference[self.task_output], found[self.task_output])
            seen += len(batch)
        self.judged += seen
        used = [name for name in signal if signal[name] > 0]
        shares = [noise[name] / signal[name] for name in used]
        each = [sum((found[n] / signal[n] for n in used), np.zeros(1)) for found in squares]
        return OutputError(
            float(np.mean(shares)) if shares else 0.0, changed, seen, np.concatenate(each)
        )


def open_panel(bench: Workbench, inputs: Inputs) -> Panel:
    """Keep samples aside and run FP32 on them.

    Raises:
        ConfigError: if that leaves none to fit on, or none to judge by.
    """
    kept: list[Batch] = []
    reference: list[Mapping[str, Array]] = []
    room = float(_OUTPUT_BYTES_MAX)
    count = 0
    with bench.backend.engine(inputs.model.path) as engine:
        for batch in _batches(inputs, kept=True):
            outputs = {
                name: array.copy()
                for name, array in engine.infer(batch.inputs).items()
                if np.issubdtype(array.dtype, np.floating)
            }
            room -= sum(array.nbytes for array in outputs.values())
            if kept and room < 0:
                break
            kept.append(batch)
            reference.append(outputs)
            count += len(batch)
            if count >= _SAMPLES_MAX:
                break
    if count in (0, inputs.calibration.scan.samples):
        raise ConfigError(
            "data.calibration",
            "holds too few samples: a part is kept aside to judge what is fitted on the others",
            got=f"{count} of {inputs.calibration.scan.samples} kept aside",
            fix="Give some hundred samples, or do without quantization: auto and calibrator auto.",
        )
    return Panel(bench, tuple(kept), tuple(reference), inputs.task_output.name)


def fitting_batches(inputs: Inputs, batch_size: int) -> Iterator[Batch]:
    """The calibration samples that remedies are fitted on: all that are never kept aside."""
    return _batches(inputs, kept=False, batch_size=batch_size)


def _batches(inputs: Inputs, *, kept: bool, batch_size: int | None = None) -> Iterator[Batch]:
    split = inputs.calibration
    chosen = (sample for sample in split.data if _is_kept(sample) is kept)
    pad_values = getattr(split.data, "pad_values", {})
    return batches(chosen, batch_size or split.batch_size, pad_values=pad_values)


def _is_kept(sample: Sample) -> bool:
    """By a hash of the id, so that no order of the samples changes it."""
    return zlib.crc32(sample.id.encode()) % _SHARE == 0


def _by_sample(squares: Array, samples: int) -> NDArray[np.float64]:
    if squares.ndim == 0 or len(squares) != samples:
        return np.array([squares.sum()])
    return np.asarray(squares.reshape(samples, -1).sum(axis=1), dtype=np.float64)


def _changed(reference: Array, found: Array) -> int:
    if reference.ndim < 2 or reference.shape != found.shape or reference.shape[-1] < 2:
        return 0
    rows = reference.argmax(axis=-1) != found.argmax(axis=-1)
    return int(rows.reshape(len(rows), -1).any(axis=1).sum())
