"""What can go wrong, as the user sees it: every error names its place and its remedy."""

from data_loaders.errors import DataError, InputError

__all__ = ["BackendError", "ConfigError", "DataError", "InputError", "ModelError", "StoreError"]


class ConfigError(InputError):
    """The experiment's YAML, or an override of it, is wrong."""


class ModelError(InputError):
    """The ONNX model cannot be read, or cannot be calibrated."""


class BackendError(InputError):
    """An inference runtime refused a model or an input."""


class StoreError(InputError):
    """A run's directory or the stage cache cannot be read or written."""
