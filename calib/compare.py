"""Reference against candidate, through Polygraphy's runners and comparator.

Each engine runs over the validation batches once and its outputs are saved in Polygraphy's format,
a file a batch; every comparison then reads two such folders side by side. So nothing grows with the
number of samples, no engine runs twice, and `polygraphy` can read and judge the same files again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from polygraphy.comparator import (
    Comparator,
    CosineSimilarityCompareFunc,
    IterationResult,
    RunResults,
    SimpleCompareFunc,
    SnrCompareFunc,
)
from polygraphy.exception import PolygraphyException
from polygraphy.json import save_json
from polygraphy.logger import G_LOGGER

from calib.analysis.channels import ChannelAccumulator
from calib.analysis.finite import refuse_not_finite
from calib.analysis.layers import TensorErrorAccumulator
from calib.errors import BackendError
from calib.results import TensorError
from data_loaders.types import Array, Batch


def save_outputs(
    runner: Any, batches: Iterable[Batch], folder: Path, on_batch: Callable[[int], None]
) -> None:
    """Run an engine over the batches and keep its outputs, one Polygraphy JSON file a batch.

    Args:
        runner: a Polygraphy runner, not yet activated.
        batches: what to run; read once.
        folder: an existing folder; `outputs/<index>.json` is written below it.
        on_batch: called after each batch with its number of samples.

    Raises:
        BackendError: if the runtime refuses the model or an input.
    """
    sizes: list[int] = []

    def feeds() -> Iterator[dict[str, Array]]:
        for batch in batches:
            sizes.append(len(batch))
            yield dict(batch.inputs)

    with _quiet_polygraphy():
        try:
            stream = Comparator.run(
                [runner],
                data_loader=feeds(),
                streaming=True,
                save_outputs_path=str(folder / "outputs"),
            )
            for _ in stream:
                on_batch(sizes[-1])
        except PolygraphyException as error:
            raise BackendError(runner.name, f"cannot run: {error}") from error


def move_batch(source: Path, target: Path, number: int) -> None:
    """Take the only batch's file out of a folder that `save_outputs` fills, and give it a number.

    Args:
        source: what was given to `save_outputs`.
        target: where `outputs` are put together.
        number: of the batch among all, from 0.
    """
    (path,) = (source / "outputs").iterdir()
    (target / "outputs").mkdir(exist_ok=True)
    path.rename(target / "outputs" / f"{number:0{len(path.stem)}d}{path.suffix}")


def move_batches(source: Path, target: Path) -> None:
    """Take all batches' files out of a folder into another, under their numbers."""
    (target / "outputs").mkdir(exist_ok=True)
    for path in (source / "outputs").iterdir():
        path.rename(target / "outputs" / path.name)


def read_outputs(folder: Path) -> Iterator[dict[str, Array]]:
    """The outputs that `save_outputs` kept, batch by batch: array by output name."""
    with _quiet_polygraphy():
        for results in RunResults.load_streaming(str(folder / "outputs")):
            ((_, iterations),) = results.items()
            yield _arrays(iterations[0])


def refuse_broken_reference(reference: Path, scored: str, batches: Iterable[Batch]) -> None:
    """Refuse outputs of FP32 that are no numbers; see `refuse_not_finite`.

    Raises:
        DataError: naming the output and the samples.
    """
    for batch, outputs in zip(batches, read_outputs(reference), strict=True):
        refuse_not_finite(outputs, scored, batch)


def compare_outputs(reference: Path, candidate: Path, accuracy_file: Path) -> None:
    """Judge two saved runs with Polygraphy's metrics and keep its result.

    The file holds signal-to-noise ratio, cosine similarity and maximum error a batch and output,
    so that `polygraphy check accuracy` can judge them again by other thresholds.
    """
    streams = [_named(reference, "fp32"), _named(candidate, "candidate")]
    with _quiet_polygraphy():
        results = Comparator.compare_accuracy(
            streams,
            compare_func=[SnrCompareFunc(), CosineSimilarityCompareFunc(), SimpleCompareFunc()],
        )
        save_json(results, str(accuracy_file))


def output_errors(
    reference: Path, candidate: Path, axes: Mapping[str, int | None]
) -> tuple[TensorError, ...]:
    """Error of each floating-point output over all samples of two saved runs, and its channels'.

    Args:
        reference: FP32's folder.
        candidate: the other one.
        axes: of the batch, by output.
    """
    errors: dict[str, TensorErrorAccumulator] = {}
    channels: dict[str, ChannelAccumulator] = {}
    for expected, got in zip(read_outputs(reference), read_outputs(candidate), strict=True):
        for name, array in expected.items():
            if np.issubdtype(array.dtype, np.floating):
                errors.setdefault(name, TensorErrorAccumulator(name)).add(array, got[name])
                own = channels.setdefault(name, ChannelAccumulator(axes.get(name, 0)))
                own.add(array, got[name])
    return tuple(
        total.result().model_copy(update={"channels": channels[name].result()})
        for name, total in errors.items()
    )


def _named(folder: Path, name: str) -> Iterator[RunResults]:
    """A saved run under another runner name: the comparator wants the two to differ."""
    for results in RunResults.load_streaming(str(folder / "outputs")):
        renamed = RunResults()
        renamed.append((name, next(iter(results.values()))))
        yield renamed


def _arrays(iteration: IterationResult) -> dict[str, Array]:
    return {name: np.asarray(array) for name, array in iteration.items()}


@contextmanager
def _quiet_polygraphy() -> Iterator[None]:
    """Polygraphy logs each batch to the terminal; ours shows one bar instead."""
    # Its relative metrics divide by outputs that may be 0.
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL), np.errstate(divide="ignore", invalid="ignore"):
        yield
