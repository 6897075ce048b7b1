"""Where samples come from. This package knows nothing of quantization."""

from data_loaders.base import resolve_entry
from data_loaders.batching import batches, stack
from data_loaders.errors import DataError, InputError
from data_loaders.load import DataSpec, data_set_from_spec
from data_loaders.scanning import Reading, Scan, read, scan
from data_loaders.split import FiniteSamples, refuse_not_finite, refuse_overlap
from data_loaders.types import Batch, DataSet, Preview, Sample

__all__ = [
    "Batch",
    "DataError",
    "DataSet",
    "DataSpec",
    "FiniteSamples",
    "InputError",
    "Preview",
    "Reading",
    "Sample",
    "Scan",
    "batches",
    "data_set_from_spec",
    "read",
    "refuse_not_finite",
    "refuse_overlap",
    "resolve_entry",
    "scan",
    "stack",
]
