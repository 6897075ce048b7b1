"""A calibration cache of TensorRT 8 or 10 moved to explicit Q/DQ."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from calib.analysis.layers import TensorErrorAccumulator
from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.calibrators.trt_cache import CalibrationCache
from calib.config import Experiment
from calib.errors import ConfigError, ModelError
from calib.graph.embedding import embedding_rows
from calib.graph.fold import fold_batchnorm
from calib.graph.from_scales import Coverage, cover
from calib.graph.load import Model, load_model
from calib.graph.qdq import insert_qdq
from calib.graph.save import save_model
from calib.graph.select import select
from calib.graph.selection_spec import SelectionSpec
from calib.leftovers import hidden_folder, sweep
from calib.results import TensorError, TensorSpec
from calib.stages.batch_axes import input_axes
from calib.stages.opening import open_split
from calib.stages.splits import Split, shared_shapes
from data_loaders.types import Array

_SCRATCH = "calib-migration"
_RANDOM_BATCHES = 4
_AXIS = 32
"""Size of a dynamic axis that nobody gave, beyond the batch axis."""


@dataclass(frozen=True, slots=True)
class Migration:
    """What became of a cache.

    Attributes:
        coverage: which tensors it had scales for.
        errors: of each output, explicit Q/DQ against FP32.
        samples: that these rest on.
        data: where the samples came from.
    """

    coverage: Coverage
    errors: tuple[TensorError, ...]
    samples: int
    data: str


def migrate(
    model_path: Path,
    cache: CalibrationCache,
    target: Path,
    *,
    experiment: Experiment | None,
    shapes: Mapping[str, tuple[int, ...]],
    samples: int,
) -> Migration:
    """Write the model with explicit Q/DQ at the cache's scales, and compare its outputs to FP32's.

    Weights get per-channel scales of their own, as TensorRT gives them. A node whose inputs are not
    all in the cache stays in float.

    Args:
        model_path: the FP32 ONNX file that the cache was made for.
        cache: the scales.
        target: the ONNX file to write.
        experiment: whose selection and validation samples are taken; None for the defaults and
            random inputs.
        shapes: of the random inputs, by name, batch axis included.
        samples: how many to compare on, at most.

    Raises:
        ModelError: if the model cannot be used, or the cache has no scale for any of its tensors.
        DataError: if a sample cannot be used.
        ConfigError: if a shape is given for something that is no input, or does not fit it.
    """
    model = load_model(model_path)
    graph = fold_batchnorm(model.graph)
    spec = experiment.quantization if experiment else SelectionSpec()
    amax = cache.amax
    coverage = cover(graph, select(graph, spec), amax)
    if not coverage.matched or not coverage.selection.activations:
        raise ModelError(
            str(model_path),
            "no node has all its scales in the cache: it was made for another model, or under "
            "other names",
            got=", ".join(islice(amax, 3)) or "no scales",
            expected=", ".join(islice(coverage.lacking, 3)),
        )
    quantized = insert_qdq(graph, coverage.selection, amax)
    if experiment:
        split = _validation(experiment, model)
        feeds: Iterator[Mapping[str, Array]] = (
            batch.inputs for batch in split.batches(islice(split.data, samples))
        )
        source = getattr(split.data, "source", "validation samples")
    else:
        feeds = random_feeds(model, shapes)
        source = "random inputs: they show that the graph works, not how accurate it is"
    temporary = Path(tempfile.gettempdir())
    sweep(temporary, _SCRATCH)
    with hidden_folder(temporary, _SCRATCH) as folder:
        candidate = folder / "model.onnx"
        save_model(quantized, candidate)
        errors, seen = _compare(model_path, candidate, feeds)
    save_model(quantized, target)
    return Migration(coverage, errors, seen, source)


def _validation(experiment: Experiment, model: Model) -> Split:
    """The validation samples, batched as the model's inputs want it."""
    split = open_split(experiment, "validation", model)
    axes = input_axes(model.record.inputs, (split.scan,), experiment.model.batch_axes)
    return replace(split, axes=axes, shared_shapes=shared_shapes(model.record, axes))


def coverage_of(model_path: Path, cache: CalibrationCache) -> Coverage:
    """Which of a cache's scales a model asks for, with the default selection.

    Raises:
        ModelError: if the model cannot be used.
    """
    graph = fold_batchnorm(load_model(model_path).graph)
    return cover(graph, select(graph, SelectionSpec()), cache.amax)


def _compare(
    model_path: Path, candidate_path: Path, feeds: Iterator[Mapping[str, Array]]
) -> tuple[tuple[TensorError, ...], int]:
    runtime = OnnxRuntime(OnnxRuntimeSpec())
    sums: dict[str, TensorErrorAccumulator] = {}
    seen = 0
    with runtime.engine(model_path) as reference, runtime.engine(candidate_path) as candidate:
        for feed in feeds:
            expected, found = reference.infer(feed), candidate.infer(feed)
            for name, values in expected.items():
                if values.dtype.kind == "f":
                    sums.setdefault(name, TensorErrorAccumulator(name)).add(values, found[name])
            seen += len(next(iter(feed.values())))
    return tuple(total.result() for total in sums.values()), seen


def random_feeds(
    model: Model, shapes: Mapping[str, tuple[int, ...]], seed: int = 0
) -> Iterator[Mapping[str, Array]]:
    """Batches of normal floats, token ids the model knows, and ones for what looks like a mask.

    Raises:
        DataError: if a sample cannot be used.
        ConfigError: if a shape is given for something that is no input, or does not fit it.
    """
    specs = {spec.name: spec for spec in model.record.inputs}
    for name in shapes.keys() - specs.keys():
        raise ConfigError("--shape", "names no input", got=name, expected=", ".join(specs))
    sizes = {name: _shape(spec, shapes.get(name)) for name, spec in specs.items()}
    rows = embedding_rows(model.graph)
    rng = np.random.default_rng(seed)
    for _ in range(_RANDOM_BATCHES):
        yield {
            name: _random(rng, np.dtype(spec.dtype), sizes[name], rows.get(name, 2))
            for name, spec in specs.items()
        }


def _random(
    rng: np.random.Generator, dtype: np.dtype[np.generic], shape: tuple[int, ...], rows: int
) -> Array:
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    if rows == 2:  # no embedding: a mask, or something that 1 is safe for
        return np.ones(shape, dtype=dtype)
    return rng.integers(0, rows, size=shape).astype(dtype)


def _shape(spec: TensorSpec, given: tuple[int, ...] | None) -> tuple[int, ...]:
    if given is None:
        free = [8, *([_AXIS] * (len(spec.shape) - 1))]
        return tuple(s if isinstance(s, int) else f for s, f in zip(spec.shape, free, strict=True))
    fits = len(given) == len(spec.shape) and all(
        not isinstance(want, int) or want == got
        for want, got in zip(spec.shape, given, strict=True)
    )
    if not fits:
        raise ConfigError(
            "--shape",
            f"does not fit input {spec.name}",
            got="x".join(map(str, given)),
            expected="x".join(map(str, spec.shape)),
        )
    return given
