"""The kinds of places by what stands before the colon of `--to`."""

import importlib

from calib.errors import ConfigError
from calib.promotion.passwords import without_passwords
from calib.promotion.target import Target, TargetOptions

_MODULES = {
    "directory": "calib.promotion.directory",
    "tar": "calib.promotion.tar",
    "triton": "calib.promotion.triton",
    "mlflow": "calib.promotion.mlflow",
    "kubernetes": "calib.promotion.kubernetes",
}
SCHEMES = tuple(_MODULES)
_ELSEWHERE = ("mlflow",)
"""Where no place is needed: the environment names it."""
_FORMS = "directory:PATH, tar:PATH.tar, triton:REPOSITORY, mlflow:TRACKING_URI or kubernetes:PATH"


def open_target(text: str, options: TargetOptions) -> Target:
    """The place that a text names, e.g. `triton:/models`.

    Args:
        text: kind and place, with a colon between them.
        options: for all kinds.

    Raises:
        ConfigError: if it names none, or the packages that its kind needs are not installed.
    """
    scheme, colon, place = text.partition(":")
    shown = without_passwords(text)
    if scheme not in _MODULES or not colon or (not place and scheme not in _ELSEWHERE):
        raise ConfigError(f"--to {shown}", "names no place", expected=_FORMS)
    try:
        module = importlib.import_module(_MODULES[scheme])
    except ImportError as error:
        raise ConfigError(
            f"--to {shown}",
            f"needs packages that are not installed: {error}",
            fix=f'pip install "calib[{scheme}]"',
        ) from error
    target: Target = module.open_target(place, options)
    return target
