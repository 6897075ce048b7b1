"""One of several workers that run an engine over the validation split: its request, its part."""

import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.compare import move_batch, save_outputs
from calib.progress import Advance
from calib.stages.share import Share
from data_loaders import Batch


@dataclass(frozen=True, slots=True)
class ValidatingRequest:
    """What a worker does.

    Attributes:
        name: the engine's, which stands in the files.
        backend: runs it.
        reduced: see `OnnxRuntime`.
        share: of the validation split.
    """

    name: str
    backend: OnnxRuntimeSpec
    reduced: bool
    share: Share


REQUEST = TypeAdapter(ValidatingRequest)


def validate(text: str, model: Path, target: Path, advance: Advance) -> None:
    """Serve a request: an output file a batch, under the batch's number in the whole split.

    Args:
        text: a `ValidatingRequest` in JSON.
        model: what is run.
        target: the folder, existing, for the outputs.
        advance: called with the samples done.
    """
    request = REQUEST.validate_json(text)
    backend = OnnxRuntime(request.backend, reduced=request.reduced)
    runner = backend.runner(model, request.name, spinning=False)
    numbers: deque[int] = deque()

    def batches() -> Iterator[Batch]:
        for number, batch in request.share.batches():
            numbers.append(number)
            yield batch

    with tempfile.TemporaryDirectory(dir=target, prefix=".") as own:

        def kept(samples: int) -> None:
            move_batch(Path(own), target, numbers.popleft())
            advance(samples)

        save_outputs(runner, batches(), Path(own), kept)
