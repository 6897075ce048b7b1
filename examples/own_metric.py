"""A metric of one's own: see docs/tasks/python.md."""

from collections.abc import Mapping
from typing import Any

from data_loaders.types import Array


class TopTwo:
    """Is the label among the two best classes?"""

    def sample(self, outputs: Mapping[str, Array], label: Any) -> tuple[float, list[float]]:
        """One sample: its score, and numbers that are added up over all samples."""
        (scores,) = outputs.values()
        if isinstance(label, dict):  # no label: FP32's outputs stand in for it
            label = next(iter(label.values())).argmax()
        hit = float(label in scores.argsort()[-2:])
        return hit, [hit, 1.0]

    def total(self, sums: Array) -> float:
        """The metric, of those sums."""
        return float(100 * sums[0] / sums[1])
