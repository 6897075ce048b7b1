"""How far a candidate's tensors are from FP32's, added up batch by batch."""

import math

from calib.analysis.error_sums import error_sums
from calib.results import TensorError
from data_loaders.types import Array

_CHUNK_VALUES = 1 << 20


class TensorErrorAccumulator:
    """Sums over the values of one tensor, in float64; memory does not grow with the samples.

    Not safe for two threads at once.

    Where the reference is not finite, or a mask, there is nothing to compare: only the other values
    count.
    """

    def __init__(self, name: str, node: str = "", op_type: str = "", *, quantized: bool = False):
        self._name = name
        self._node = node
        self._op_type = op_type
        self._quantized = quantized
        self._samples = self._left_out = self._compared = self._unlike = 0
        self._signal = self._other = self._cross = self._noise = 0.0
        self._max_abs = 0.0

    def add(self, reference: Array, candidate: Array) -> None:
        """Compare one batch; where the shapes differ, it is only counted.

        A net that finds things finds as many as it finds: no value has its like then.

        Args:
            reference: FP32's values, first axis = batch.
            candidate: the candidate's.
        """
        if reference.shape != candidate.shape:
            self._unlike += 1
            self._left_out += reference.size
            return
        self._samples += len(reference) if reference.ndim else 1
        flat_reference, flat_candidate = reference.ravel(), candidate.ravel()
        for start in range(0, flat_reference.size, _CHUNK_VALUES):
            piece = slice(start, start + _CHUNK_VALUES)
            self._add_chunk(flat_reference[piece], flat_candidate[piece])

    def _add_chunk(self, reference: Array, candidate: Array) -> None:
        compared, signal, other, cross, noise, largest = error_sums(reference, candidate)
        self._left_out += reference.size - compared
        self._compared += compared
        self._signal += signal
        self._other += other
        self._cross += cross
        self._noise += noise
        self._max_abs = max(self._max_abs, largest)

    def result(self) -> TensorError:
        """The errors so far.

        A candidate with NaN or infinity where the reference has a number has an SQNR of -inf and a
        cosine of -1: whatever the limit is, it fails. Where no value was left to compare there are
        no samples. SQNR = 10·log10(Σ ref² / Σ (ref - cand)²).
        """
        finite = math.isfinite(self._noise) and math.isfinite(self._other)
        return TensorError(
            tensor=self._name,
            node=self._node,
            op_type=self._op_type,
            samples=self._samples if self._compared or not self._left_out else 0,
            left_out=self._left_out,
            unlike_batches=self._unlike,
            sqnr_db=self._sqnr_db() if finite else -math.inf,
            cosine=self._cosine() if finite else -1.0,
            max_abs=self._max_abs if finite else math.inf,
            relative_l2=self._relative_l2() if finite else math.inf,
            quantized=self._quantized,
        )

    def _sqnr_db(self) -> float | None:
        if self._noise == 0:
            return None
        return 10 * math.log10(self._signal / self._noise) if self._signal > 0 else -math.inf

    def _cosine(self) -> float | None:
        length = math.sqrt(self._signal) * math.sqrt(self._other)
        if length == 0:
            return None
        return max(-1.0, min(1.0, self._cross / length))

    def _relative_l2(self) -> float | None:
        return math.sqrt(self._noise / self._signal) if self._signal > 0 else None
