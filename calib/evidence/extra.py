"""The door to what needs the packages of the extra `evidence`."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calib.errors import ConfigError
from calib.results import Waiver


def evidence_module(name: str) -> Any:
    """A module of `calib.evidence`.

    Raises:
        ConfigError: if the packages of the extra are not installed.
    """
    try:
        return importlib.import_module(f"calib.evidence.{name}")
    except ImportError as error:
        raise ConfigError(
            "evidence",
            f"can be neither signed nor verified here: {error}",
            fix='pip install "calib[evidence]"',
        ) from error


def public_keys(paths: Sequence[Path], threshold: int) -> tuple[Any, ...]:
    """The public keys that may sign.

    Raises:
        ConfigError: if one is none, or there are fewer than the threshold.
    """
    if threshold > len(paths):
        raise ConfigError(
            "--threshold", "asks for more keys than are given", got=f"{threshold} of {len(paths)}"
        )
    keys = evidence_module("keys")
    return tuple(keys.load_public(path) for path in paths)


def signed_waivers(
    paths: Sequence[Path], keys: Sequence[Path], threshold: int = 1
) -> tuple[tuple[Waiver, str], ...]:
    """The waivers of signed files, and the line of each: its envelope.

    Args:
        paths: the files.
        keys: public keys that may sign.
        threshold: how many of them must have.

    Raises:
        ConfigError: if no key is given, or it is none.
        StoreError: if a file was changed, is signed by others, or holds something else.
    """
    if not paths:
        return ()
    if not keys:
        raise ConfigError(
            "--waiver", "counts only if it is signed", fix="Give the signer's --key, too."
        )
    public, waivers = public_keys(keys, threshold), evidence_module("waivers")
    found: list[tuple[Waiver, str]] = []
    for path in paths:
        read = waivers.read_waivers(path, public, threshold)
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        found += zip(read, lines, strict=True)
    return tuple(found)
