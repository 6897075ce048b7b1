"""Labelled models for the accuracy benchmark, built from packages of public indexes.

Each builder fills build/benchmarks/<name>/ once: model.onnx (FP32, dynamic batch),
calibration.npz (arrays by the model's inputs, first axis the samples) and validation.npz (the same,
and `label` where the task has one). No sample is in both files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.models import (
    minilm_newsgroups,
    minilm_text2,
    mobile_conv,
    ocr_detector,
    ocr_recognizer,
    preln_encoder,
    textline,
)


@dataclass(frozen=True, slots=True)
class ModelCase:
    """One labelled model.

    `task` says what the first output is: classification's logits or probabilities, CTC's
    probabilities at each step (`ocr_recognizer.decode` reads them), or a mask of probabilities,
    to be held against FP32's at `ocr_detector.THRESHOLD`.
    """

    name: str
    kind: Literal["text", "conv", "hard"]
    task: Literal["classification", "ctc", "mask"]
    build: Callable[[], Path]


MODELS: dict[str, ModelCase] = {
    case.name: case
    for case in (
        ModelCase("minilm_newsgroups", "text", "classification", minilm_newsgroups.build),
        ModelCase("minilm_text2", "text", "classification", minilm_text2.build),
        ModelCase("preln_encoder", "hard", "classification", preln_encoder.build),
        ModelCase("mobile_conv", "conv", "classification", mobile_conv.build),
        ModelCase("textline", "hard", "classification", textline.build),
        ModelCase("ocr_recognizer", "hard", "ctc", ocr_recognizer.build),
        ModelCase("ocr_detector", "hard", "mask", ocr_detector.build),
    )
}
