"""Loses the device by reading an address that is not there; prints what calib makes of it."""

import sys

import numpy as np
from gpu.gemm import INT8, Astray, opened

from calib.backends.cuda_timing import Timing
from calib.errors import BackendError


def main():
    """Run astray, plainly or as a graph, and leave by the ordinary way."""
    timing = Timing(cuda_graph=sys.argv[1] == "graph", transfers=True, spin_wait=True)
    try:
        with opened(INT8, np.ones((64, 64)), timing, kind=Astray) as engine:
            engine.timed_infer({"x": np.ones((64, 64), np.int8)})
    except BackendError as error:
        sys.stdout.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
