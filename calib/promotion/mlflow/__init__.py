"""MLflow: a run with everything that was found, and a version of a registered model."""

from calib.promotion.mlflow.address import Address, open_address
from calib.promotion.mlflow.registry import MlflowRegistry
from calib.promotion.target import Target, TargetOptions

__all__ = ["Address", "MlflowRegistry", "open_target"]


def open_target(uri: str, options: TargetOptions) -> Target:
    """The MLflow server, or store, behind a URI; nothing is asked of it yet.

    Args:
        uri: `http://host:5000`, `sqlite:///mlflow.db`, or nothing for MLFLOW_TRACKING_URI; with or
            without `mlflow:` before it.
        options: of which `alias` is taken.

    Raises:
        ConfigError: if the URI or the alias cannot be used, or MLflow is not installed.
    """
    return MlflowRegistry(open_address(uri), options)
