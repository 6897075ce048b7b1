"""What surely does not fit into memory is said before it is tried: then nobody could say it.

A system ends a process that takes too much without a word. Only lower bounds refuse a run, by the
shapes that are known; what comes near is a note.
"""

import math
from collections.abc import Iterable

import numpy as np

from calib.errors import DataError, ModelError
from calib.graph.load import Graph, Model
from calib.graph.sizes import named_axes, tensor_bytes
from data_loaders import Scan
from data_loaders.batching import WINDOW_BATCHES
from data_loaders.memory import available_bytes

_NEAR = 0.5
"""Share of the free memory from which on a lower bound is worth a note."""
_SAFE = 0.6
"""Share of it that observed activations may take, beside the weights and the runtime's own."""


def memory_notes(model: Model, scan: Scan, batch_size: int) -> tuple[str, ...]:
    """What comes near to the memory that is free; refuse what is beyond it.

    Raises:
        ModelError: if the weights, or one tensor of one batch, take more than there is.
        DataError: if the samples that are held at once do.
    """
    free = available_bytes()
    return tuple(
        note
        for note in (
            _weights(model, free),
            _samples(scan, batch_size, free),
            _activations(model, scan, batch_size, free),
        )
        if note
    )


def activations_mb(
    graph: Graph, scan: Scan, batch_size: int, tensors: Iterable[str]
) -> float | None:
    """Megabytes that these tensors of one batch may take at once; None where they surely fit.

    Unlike a run's own tensors those that are observed need not be there together.
    """
    sizes = _sizes(graph, scan, batch_size)
    allowed = _SAFE * available_bytes()
    return allowed / 1e6 if sum(sizes.get(name, 0) for name in tensors) > allowed else None


def _weights(model: Model, free: int) -> str:
    wanted = model.record.size_bytes
    if wanted > free:
        raise ModelError(
            str(model.path),
            "does not fit into memory",
            got=f"{_gb(wanted)} of weights",
            expected=f"at most {_gb(free)}, which is free",
        )
    return _note(f"the weights take {_gb(wanted)}", wanted, free)


def _samples(scan: Scan, batch_size: int, free: int) -> str:
    """Those of 32 batches are held at once, to put those of one length together."""
    held = min(scan.samples, batch_size * WINDOW_BATCHES)
    one = sum(
        math.prod(shape) * np.dtype(scan.dtypes[name]).itemsize
        for name, shape in _smallest(scan).items()
    )
    if held * one > free:
        raise DataError(
            "data.batch_size",
            f"the samples of {WINDOW_BATCHES} batches, which are held at once, do not fit into "
            "memory",
            got=f"{batch_size}: {held} samples of {_gb(one)} and more",
            expected=f"at most {_gb(free)}, which is free",
            fix="Lower data.batch_size.",
        )
    return _note(f"{held} samples are held at once, which take {_gb(held * one)}", held * one, free)


def _activations(model: Model, scan: Scan, batch_size: int, free: int) -> str:
    sizes = _sizes(model.graph, scan, batch_size)
    largest = max(sizes, key=lambda name: sizes[name], default=None)
    if largest is None:
        return ""
    if sizes[largest] > free:
        raise ModelError(
            str(model.path),
            f"tensor {largest} of one batch does not fit into memory",
            got=f"{_gb(sizes[largest])} for {min(batch_size, scan.samples)} samples",
            expected=f"at most {_gb(free)}, which is free",
            fix="Lower data.batch_size.",
        )
    said = f"tensor {largest} of one batch takes {_gb(sizes[largest])}"
    return _note(said, sizes[largest], free)


def _sizes(graph: Graph, scan: Scan, batch_size: int) -> dict[str, int]:
    """Bytes of each tensor of one batch, at least."""
    rows = min(batch_size, scan.samples)
    shapes = {name: (rows, *shape) for name, shape in _smallest(scan).items()}
    return tensor_bytes(graph, named_axes(graph, shapes))


def _smallest(scan: Scan) -> dict[str, tuple[int, ...]]:
    return {name: tuple(axis[0] for axis in axes) for name, axes in scan.shapes.items()}


def _note(what: str, wanted: int, free: int) -> str:
    return f"memory: {what} of the {_gb(free)} that is free" if wanted > _NEAR * free else ""


def _gb(size: int) -> str:
    return f"{size / 1e9:,.3g} GB"
