"""The FP32 model's own outputs must be numbers."""

from collections.abc import Mapping

import numpy as np

from calib.calibrators.not_finite import IDS_KEPT, broken_samples
from calib.errors import DataError
from data_loaders.types import Array, Batch


def refuse_not_finite(outputs: Mapping[str, Array], scored: str, batch: Batch) -> None:
    """Refuse what is no number in what the FP32 model says of a batch, but for its padding.

    Infinity is refused in the output that is scored alone: in others it may be meant, as of a
    logarithm, or as a mask; their errors are those of the other values.

    Raises:
        DataError: naming the output and the samples.
    """
    for name, array in outputs.items():
        if array.dtype.kind != "f" or np.isfinite(array).all():
            continue
        bad = ~np.isfinite(array) if name == scored else np.isnan(array)
        if batch.real is not None and array.shape[:2] == batch.real.shape:
            bad &= batch.real.reshape(*batch.real.shape, *[1] * (array.ndim - 2))
        broken = [batch.ids[index] for index in broken_samples(bad, len(batch))]
        if broken:
            more = "" if len(broken) <= IDS_KEPT else f" and {len(broken) - IDS_KEPT} more"
            raise DataError(
                f"output {name}",
                "the FP32 model makes a value that is not finite: there is nothing to hold INT8 to",
                got=f"{array[bad].ravel()[0]} in samples {', '.join(broken[:IDS_KEPT])}{more}",
                fix="Run the FP32 model on this sample alone; repair it, or leave the sample out.",
            )
