"""The compiled loop of coordinate descent."""

import numpy as np
from numpy.typing import NDArray

from calib.compiling import compiled


@compiled()
def descend(
    rows: NDArray[np.float64],
    slope: NDArray[np.float64],
    gram: NDArray[np.float64],
    limit: float,
) -> None:
    """Move the codes of a few inputs in place, one input after another, and the slope with them.

    Outputs are apart from one another, and most codes stay: only what moves costs more than a look.

    Args:
        rows: float64 (outputs, inputs), the codes.
        slope: float64 (outputs, inputs), G d.
        gram: float64 (inputs, inputs): row k is what moving input k by 1 adds to the slope.
        limit: the largest code.
    """
    for output in range(rows.shape[0]):
        codes, own = rows[output], slope[output]
        for index in range(codes.size):
            energy = gram[index, index]
            if energy > 0.0:
                best = np.rint(codes[index] - own[index] / energy)
                best = min(max(best, -limit), limit)
                step = best - codes[index]
                if step != 0.0:
                    for other in range(codes.size):
                        own[other] += gram[index, other] * step
                    codes[index] = best
