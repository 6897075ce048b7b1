"""Work that several workers share, on this machine or on a cluster: one protocol, two kinds."""

from calib.execution.choose import open_executor
from calib.execution.spec import ExecutionSpec, LocalSpec, RaySpec
from calib.execution.work import Executor, Take, Work

__all__ = [
    "ExecutionSpec",
    "Executor",
    "LocalSpec",
    "RaySpec",
    "Take",
    "Work",
    "open_executor",
]
