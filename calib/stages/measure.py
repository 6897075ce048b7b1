"""Running the engines: outputs, layers, saturation. Each runs once, then is kept."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from calib.analysis.layers import TensorErrorAccumulator
from calib.backends.tensorrt_runtime import make_runner
from calib.compare import compare_outputs, output_errors, refuse_broken_reference, save_outputs
from calib.graph.read import read_graph
from calib.graph.save import save_model
from calib.graph.taps import LayerTensor, layer_tensors, tapped
from calib.progress import Advance
from calib.record import Precision
from calib.results import TensorError
from calib.stages.calibrate import Calibration, Candidate
from calib.stages.inputs import Inputs
from calib.stages.splits import Split
from calib.stages.validating import save_by_workers, validating_workers
from calib.stages.workbench import Workbench
from calib.store import sha256_from_file, write_atomically
from data_loaders import Batch
from data_loaders.types import Array

_ERRORS = TypeAdapter(tuple[TensorError, ...])
_SATURATION = TypeAdapter(dict[str, dict[str, float]])


def run_outputs(bench: Workbench, inputs: Inputs, candidate: Candidate) -> Path:
    """The folder with the outputs of one engine over the validation split.

    Raises:
        DataError: if one of FP32's is no number: there would be nothing to compare with.
    """
    split = inputs.validation
    plan = sha256_from_file(candidate.plan) if candidate.plan else None
    key = {
        "engine": candidate.digest,
        "plan": plan,
        "data": split.scan.sha256,
        "batch_size": split.batch_size,
    }

    def make(folder: Path, advance: Advance) -> None:
        if validating_workers(bench, inputs, candidate) > 1:
            save_by_workers(bench, inputs, candidate, folder, advance)
        else:
            _save_here(bench, split, candidate, folder, advance)
        if candidate.precision is Precision.FP32:
            refuse_broken_reference(folder, inputs.task_output.name, split.batches())

    title = f"validate {candidate.name}"
    return bench.artifact("outputs", title, key, make, split.scan.samples).path


def _save_here(
    bench: Workbench, split: Split, candidate: Candidate, folder: Path, advance: Advance
) -> None:
    if candidate.plan is not None and bench.builder is not None:
        runner = make_runner(candidate.plan, bench.builder.spec.kind, candidate.name)
    else:
        runner = bench.backend.runner(candidate.runs, candidate.name)
    save_outputs(runner, split.batches(), folder, advance)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Error of each output, and Polygraphy's own verdicts in its own format."""

    errors: tuple[TensorError, ...]
    accuracy_file: Path


def compare(
    bench: Workbench, inputs: Inputs, reference: Path, outputs: Path, candidate: Candidate
) -> Comparison:
    """Hold a candidate's outputs against FP32's, through Polygraphy's comparator."""
    axes = inputs.axes.outputs
    key = {"reference": reference.name, "outputs": outputs.name, "axes": axes}

    def make(folder: Path, _: Advance) -> None:
        compare_outputs(reference, outputs, folder / "accuracy.json")
        errors = output_errors(reference, outputs, axes)
        write_atomically(folder / "errors.json", _ERRORS.dump_json(errors))

    found = bench.artifact("compare", f"compare {candidate.name}", key, make)
    errors = _ERRORS.validate_json((found.path / "errors.json").read_bytes())
    return Comparison(errors, found.path / "accuracy.json")


def compare_layers(
    bench: Workbench, inputs: Inputs, calibration: Calibration, candidate: Candidate
) -> tuple[TensorError, ...]:
    """Error of every inner tensor that FP32 and the candidate share, over a part of the data."""
    samples = min(bench.experiment.analysis.layer_samples, inputs.validation.scan.samples)
    if samples == 0 or candidate.precision is Precision.FP32:
        return ()
    key = {
        "reference": calibration.digest,
        "engine": candidate.digest,
        "data": inputs.validation.scan.sha256,
        "samples": samples,
    }

    def make(folder: Path, advance: Advance) -> None:
        quantized = calibration.selection.quantized_nodes
        own = read_graph(candidate.path)
        layers = _shared_layers(layer_tensors(calibration.graph), layer_tensors(own))
        names = [layer.tensor for layer in layers]
        save_model(tapped(calibration.graph, names), folder / "reference.onnx")
        save_model(tapped(own, names), folder / "candidate.onnx")
        sums = {
            layer.tensor: TensorErrorAccumulator(
                layer.tensor,
                layer.node,
                layer.op_type,
                quantized=candidate.precision is Precision.INT8 and layer.node in quantized,
            )
            for layer in layers
        }
        with (
            bench.backend.engine(folder / "reference.onnx", spinning=False) as reference,
            bench.backend.engine(folder / "candidate.onnx", spinning=False) as engine,
            ThreadPoolExecutor(bench.backend.threads) as pool,
        ):
            for batch in _first(inputs, samples):
                # No name for the outputs: the next ones are written into the same memory.
                _add_layers(pool, sums, reference.infer(batch.inputs), engine.infer(batch.inputs))
                advance(len(batch))
        for name in ("reference.onnx", "candidate.onnx"):
            (folder / name).unlink()
        errors = tuple(total.result() for total in sums.values())
        write_atomically(folder / "layers.json", _ERRORS.dump_json(errors))

    found = bench.artifact("layers", f"layers of {candidate.name}", key, make, samples)
    return _ERRORS.validate_json((found.path / "layers.json").read_bytes())


def _shared_layers(
    reference: tuple[LayerTensor, ...], candidate: tuple[LayerTensor, ...]
) -> list[LayerTensor]:
    present = {layer.tensor for layer in candidate}
    return [layer for layer in reference if layer.tensor in present]


def _add_layers(
    pool: ThreadPoolExecutor,
    sums: dict[str, TensorErrorAccumulator],
    reference: dict[str, Array],
    own: dict[str, Array],
) -> None:
    list(pool.map(lambda name: sums[name].add(reference[name], own[name]), sums))


def _first(inputs: Inputs, samples: int) -> Iterable[Batch]:
    """The first batches of the validation split, cut to a number of samples."""
    left = samples
    for batch in inputs.validation.batches():
        if left <= 0:
            return
        whole = len(batch) <= left or inputs.axes.size is not None
        yield batch if whole else _cut(inputs, batch, left)
        left -= len(batch)


def _cut(inputs: Inputs, batch: Batch, samples: int) -> Batch:
    return inputs.validation.stack(batch.samples[:samples])
