"""Whole runs of tasks on text and numbers: their figures recomputed from samples.csv by others."""

import csv
import itertools
import json
import re
import string
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2
from sklearn.metrics import mean_absolute_error, r2_score
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from calib.config import load_experiment
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.results import Verdict

WORDS = [f"w{k}" for k in range(600)]
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
WIDTH, HIDDEN = 16, 32


class Net:
    """Two layers over each token's vector, or over numbers: the same by numpy and as ONNX."""

    def __init__(self, outputs, inputs=WIDTH, seed=0):
        rng = np.random.default_rng(seed)
        self.table = rng.normal(size=(len(SPECIAL) + len(WORDS), WIDTH)).astype("f4")
        self.first = rng.normal(size=(inputs, HIDDEN)).astype("f4") / 4
        self.second = rng.normal(size=(HIDDEN, outputs)).astype("f4")

    def on(self, rows):
        """float64 (…, outputs)."""
        rows, first, second = (v.astype(float) for v in (rows, self.first, self.second))
        return np.maximum(rows @ first, 0) @ second

    def tokens(self, words):
        numbers = [SPECIAL.index("[CLS]"), *(len(SPECIAL) + WORDS.index(w) for w in words)]
        return self.on(self.table[[*numbers, SPECIAL.index("[SEP]")]])

    def save(self, path, *, reads, last):
        """The ONNX file.

        Args:
            path: of it.
            reads: "input_ids" of tokens, else numbers.
            last: further nodes behind "scores", and the outputs with their shapes.
        """
        more, outputs, constants = last
        shape, kind = (["N", "L"], TensorProto.INT64)
        nodes = [node("Gather", ["table", reads], "rows")]
        if reads != "input_ids":
            shape, kind, nodes = ["N", self.first.shape[0]], TensorProto.FLOAT, []
        nodes += [
            node("MatMul", ["rows" if nodes else reads, "first"], "h"),
            node("Relu", ["h"], "r"),
            node("MatMul", ["r", "second"], "scores"),
            *more,
        ]
        values = {"table": self.table, "first": self.first, "second": self.second, **constants}
        used = {name for n in nodes for name in n.input}
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info(reads, kind, shape)],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
            [numpy_helper.from_array(v, n) for n, v in values.items() if n in used],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(proto, full_check=True)
        onnx.save(proto, path)


def node(op, inputs, *outputs, **attributes):
    return helper.make_node(op, inputs, list(outputs), name=f"{outputs[0]}_node", **attributes)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vocabulary = {word: k for k, word in enumerate([*SPECIAL, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    made.save("tokenizer.json")
    return tmp_path


def run(calibration, task, limits, **changes):
    """A run, what it found of INT8, and the rows of samples.csv by id."""
    split = {"calibration": calibration, "validation": {**calibration, **changes}}
    config = {
        "name": "small",
        "model": {"kind": "onnx", "path": "model.onnx"},
        "data": {"batch_size": 8, "calibration_samples_min": 1, **split},
        "task": task,
        "calibration": {"calibrators": [{"kind": "minmax"}]},
        "quantization": {"min_channels": 1},
        "throughput": {"batch_sizes": []},
        "engines": {"fp16": False},
        "limits": limits,
    }
    Path("config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    done = run_experiment(load_experiment(Path("config.yaml")), Silent())
    with (done.directory / "samples.csv").open(encoding="utf-8", newline="") as file:
        rows = {r["id"]: r for r in csv.DictReader(file) if r["candidate"] == "int8-minmax"}
    (verdict,) = (c for c in done.result.verdict.candidates if c.candidate == "int8-minmax")
    return done.result.candidate("int8-minmax"), verdict, rows


def figures(candidate):
    return {m.name: (m.value, m.reference) for m in candidate.score.metrics}


def rule_of(verdict, name):
    return next(r for r in verdict.rules if r.rule == name)


def tags_of(words, length):
    """Tags of the entities that a cell of samples.csv tells."""
    tags = ["O"] * length
    for kind, begin, last in re.findall(r"(\w+) (\d+)-(\d+)", words):
        tags[int(begin)] = f"B-{kind}"
        for place in range(int(begin) + 1, int(last) + 1):
            tags[place] = f"I-{kind}"
    return tags


def test_entity_f1_of_a_run_is_seqevals(here):
    net, rng = Net(len(TAGS)), np.random.default_rng(1)
    net.save(
        "model.onnx",
        reads="input_ids",
        last=([node("Identity", ["scores"], "logits")], {"logits": ["N", "L", len(TAGS)]}, {}),
    )
    truth, expected = [], []
    for name, count in (("train.txt", 32), ("dev.txt", 80)):
        with Path(name).open("w", encoding="utf-8") as file:
            for _ in range(count):
                # Of an answer with over six entities samples.csv shows six.
                words = rng.choice(WORDS, int(rng.integers(3, 7))).tolist()
                said = [TAGS[k] for k in net.tokens(words)[1:-1].argmax(axis=-1)]
                right = [t if rng.random() < 0.9 else str(rng.choice(TAGS)) for t in said]
                file.writelines(f"{w} {t}\n" for w, t in zip(words, right, strict=True))
                file.write("\n")
                if name == "dev.txt":
                    truth.append(right)
                    expected.append(said)
    data = {"kind": "conll", "path": "train.txt", "tokenizer": "tokenizer.json"}
    candidate, verdict, rows = run(
        {**data, "classes": TAGS, "inputs": ["input_ids"]},
        {"kind": "token_classification", "output": "logits"},
        {"entity_f1_drop_points_max": 40.0},
        path="dev.txt",
    )
    said = [
        tags_of(rows[f"row-{k:06d}"]["prediction"], len(right)) for k, right in enumerate(truth)
    ]
    found = figures(candidate)
    for name, metric in (
        ("entity_f1_pct", f1_score),
        ("entity_precision_pct", precision_score),
        ("entity_recall_pct", recall_score),
    ):
        own, reference = (
            100 * metric(truth, tags, mode="strict", scheme=IOB2) for tags in (said, expected)
        )
        assert found[name] == pytest.approx((own, reference), abs=1e-9)
    assert found["entity_f1_pct"][0] != found["entity_f1_pct"][1]
    rule = rule_of(verdict, "entity_f1_drop_points_max")
    assert rule.found == pytest.approx(np.subtract(*found["entity_f1_pct"][::-1]))
    assert (rule.verdict, rule.samples) == (Verdict.PASS, 80)
    assert rule.low < rule.found < rule.high < 40


def squad_words(text):
    """SQuAD's normalization, as its evaluation script has it."""
    kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def squad_f1(said, true):
    one, other = squad_words(said), squad_words(true)
    same = sum((Counter(one) & Counter(other)).values())
    if not one or not other:
        return float(one == other)
    if not same:
        return 0.0
    precision, recall = same / len(one), same / len(other)
    return 2 * precision * recall / (precision + recall)


def test_answers_of_a_run_are_scored_as_squad_scores_them(here):
    net, rng = Net(2, seed=3), np.random.default_rng(2)
    split = [
        node("Split", ["scores", "parts"], "a", "b", axis=2),
        node("Squeeze", ["a", "axis"], "start_logits"),
        node("Squeeze", ["b", "axis"], "end_logits"),
    ]
    net.save(
        "model.onnx",
        reads="input_ids",
        last=(
            split,
            {"start_logits": ["N", "L"], "end_logits": ["N", "L"]},
            {"parts": np.array([1, 1]), "axis": np.array([2])},
        ),
    )
    truth, expected = [], []
    for name, count in (("train.json", 32), ("dev.json", 240)):
        rows = []
        for k in range(count):
            # Words that differ, so that no two spans are as good as each other.
            words = rng.permutation(WORDS)[:15].tolist()
            question, context = words[:3], words[3:]
            start, end = net.tokens(context)[1:-1].T
            spans = [(i, j) for i, j in itertools.product(range(12), repeat=2) if 0 <= j - i < 5]
            i, j = max(spans, key=lambda s: start[s[0]] + end[s[1]])
            answer = context[i : j + 1] if rng.random() < 0.7 else context[2:5]
            # A second answer that is accepted, and articles that count for nothing.
            answers = [f"The {' '.join(answer)}!", context[0]]
            rows.append(
                {
                    "id": f"q{k}",
                    "question": " ".join(question),
                    "context": " ".join(context),
                    "answers": [{"text": text} for text in answers],
                }
            )
            if name == "dev.json":
                truth.append(answers)
                expected.append(" ".join(context[i : j + 1]))
        Path(name).write_text(json.dumps(rows), encoding="utf-8")
    data = {"kind": "squad", "path": "train.json", "tokenizer": "tokenizer.json"}
    candidate, verdict, rows = run(
        {**data, "inputs": ["input_ids"]},
        {"kind": "question_answering", "tokens_max": 5},
        {"answer_f1_drop_points_max": 40.0, "exact_match_drop_points_max": 60.0},
        path="dev.json",
    )
    said = [rows[f"q{k}"]["prediction"] for k in range(240)]
    found = figures(candidate)
    f1, exact = (
        [
            100 * np.mean([max(score(a, t) for t in ts) for a, ts in zip(s, truth, strict=True)])
            for s in (said, expected)
        ]
        for score in (squad_f1, lambda a, t: squad_words(a) == squad_words(t))
    )
    assert found["answer_f1_pct"] == pytest.approx(f1, abs=1e-9)
    assert found["exact_match_pct"] == pytest.approx(exact, abs=1e-9)
    assert f1[0] != f1[1]
    rule = rule_of(verdict, "answer_f1_drop_points_max")
    assert rule.found == pytest.approx(f1[1] - f1[0])
    assert rule.verdict is Verdict.PASS


def test_r2_of_a_run_is_scikit_learns(here):
    net, rng = Net(1, inputs=6, seed=4), np.random.default_rng(3)
    net.save(
        "model.onnx",
        reads="x",
        last=([node("Identity", ["scores"], "forecast")], {"forecast": ["N", 1]}, {}),
    )
    made = {}
    for name, count in (("calibration", 64), ("validation", 150)):
        x = rng.normal(size=(count, 6)).astype("f4")
        said = net.on(x)[:, 0]
        y = said + rng.normal(0, 0.3 * said.std(), count)
        np.savez(f"{name}.npz", x=x, y=y)
        made[name] = said, y
    candidate, verdict, rows = run(
        {"kind": "arrays", "path": "calibration.npz", "inputs": {"x": "x"}, "label": "y"},
        {"kind": "regression", "output": "forecast"},
        {"r2_drop_max": 0.2, "mean_abs_error_increase_pct_max": 30.0},
        path="validation.npz",
    )
    reference, truth = made["validation"]
    # A margin is the error with a minus; which way it went is nothing to a square.
    errors = -np.array([float(rows[f"row-{k:06d}"]["margin"]) for k in range(150)])
    found = figures(candidate)
    assert found["r2"][1] == pytest.approx(r2_score(truth, reference), abs=1e-5)
    assert found["r2"][0] == pytest.approx(r2_score(truth, truth + errors), abs=1e-9)
    assert found["mean_abs_error"][0] == pytest.approx(
        mean_absolute_error(truth, truth + errors), abs=1e-9
    )
    rule = rule_of(verdict, "r2_drop_max")
    assert rule.found == pytest.approx(found["r2"][1] - found["r2"][0])
    assert 0 < abs(rule.found) < 0.1
    assert rule.verdict is Verdict.PASS
    # The shown numbers are those that were judged.
    shown = np.array([float(rows[f"row-{k:06d}"]["prediction"]) for k in range(150)])
    np.testing.assert_allclose(np.abs(shown - truth), errors, atol=1e-3)
