"""Where a model goes: each kind of place says first what it would do."""

from dataclasses import dataclass
from typing import Protocol

from calib.promotion.package import Package


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What is asked of every place alike; each takes what it knows.

    Attributes:
        alias: MLflow: what the promoted version is called from now on.
        version: Triton: the version's number; the next free one if None.
        warmup: Triton: whether the model is warmed up with the batch that the run kept.
    """

    alias: str = "champion"
    version: int | None = None
    warmup: bool = True


class Target(Protocol):
    """A place that models are served from."""

    def plan(self, package: Package) -> tuple[str, ...]:
        """What `promote` would do, a line each; empty if it is all done already.

        Nothing is changed, here or there.

        Raises:
            InputError: if it cannot be done.
        """

    def promote(self, package: Package) -> tuple[str, ...]:
        """Do it, whole or not at all; once more changes nothing.

        Returns:
            what was done, a line each; empty if it was all done already.

        Raises:
            InputError: if it cannot be done; then the place is as it was.
        """
