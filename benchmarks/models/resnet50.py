"""ResNet-50 with drawn weights, on CIFAR-10's pictures: its speed is that of any weights.

The logits of drawn weights mean nothing, so FP32's own largest is the label.
Data: CIFAR-10, see `benchmarks.models.cifar`.
"""

from pathlib import Path

from benchmarks import resnet
from benchmarks.models import cifar, common

CALIBRATION, VALIDATION = 64, 128
PIXELS = cifar.Pixels(side=resnet.SIZE, mean=(125.3, 123.0, 113.9), spread=(63.0, 62.1, 66.7))

_NAME = "resnet50"


def build() -> Path:
    """The folder with the model and its data."""
    return common.built(_NAME, (__file__, cifar.__file__, resnet.__file__), _make)


def _make(folder: Path) -> None:
    resnet.build(folder).replace(folder / "model.onnx")
    calibration = {"image": cifar.images("calibration", CALIBRATION, PIXELS)["image"]}
    validation = cifar.images("validation", VALIDATION, PIXELS)
    scores = common.outputs(folder / "model.onnx", validation, batch=16)
    common.save(folder, None, calibration, {**validation, "label": scores.argmax(axis=-1)})
