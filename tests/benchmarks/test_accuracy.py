"""What the accuracy benchmark concludes from its rows."""

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks.accuracy_scores import SQNR_MAX, Scores, rows_of, sample_count
from benchmarks.accuracy_targets import missed
from benchmarks.models import MODELS

GOOD = {
    "sqnr_db": 36.0,
    "flips_pct": 0.2,
    "alike_pct": 99.0,
    "drop_points": 0.1,
    "drop_low": 0.05,
    "int8_macs_pct": 98.0,
    "passes": 12.0,
    "peak_mb": 900.0,
    "inference_peak_mb": 400.0,
}


def _rows(**changes):
    ours = {"tool": "calib", "method": "auto", **GOOD, **changes}
    peer = {"tool": "nncf", "method": "performance", **GOOD, "sqnr_db": 30.0, "flips_pct": 0.5}
    other = {"tool": "modelopt", "method": "max", "error": "out of memory"}
    return [peer, other, ours]


@pytest.mark.parametrize("name", MODELS)
def test_a_row_that_keeps_every_target_misses_none(name):
    assert missed(MODELS[name], _rows()) == []


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("minilm_text2", {"sqnr_db": 33.9}, ["SQNR 33.90, wanted at least 34.00"]),
        ("preln_encoder", {"flips_pct": 0.26}, ["flips % 0.26, wanted at most 0.25"]),
        ("minilm_text2", {"drop_points": 0.4}, ["drop 0.40 points"]),
        ("preln_encoder", {"int8_macs_pct": 94.0}, ["INT8 MACs % 94.00, wanted at least 95.00"]),
        ("mobile_conv", {"sqnr_db": 31.0}, ["at least 32.00: nncf performance and 2 dB"]),
        ("mobile_conv", {"sqnr_db": 29.0}, ["at least 30.00", "at least 30.00", "at least 32.00"]),
        ("mobile_conv", {"flips_pct": 0.7}, ["at most 0.50", "at most 0.60"]),
        ("ocr_recognizer", {"alike_pct": 94.9}, ["alike % 94.90, wanted at least 95.00"]),
        ("ocr_detector", {"alike_pct": 97.9}, ["alike % 97.90, wanted at least 98.00"]),
        ("textline", {"int8_macs_pct": 79.0}, ["INT8 MACs % 79.00, wanted at least 80.00"]),
        ("textline", {"sqnr_db": 29.9}, ["SQNR 29.90, wanted at least 30.00: nncf performance"]),
        ("textline", {"passes": 15.5}, ["passes 15.50"]),
        ("textline", {"peak_mb": 1001.0}, ["peak MB 1001.00, wanted at most 1000.00"]),
        ("textline", {"sqnr_db": float("nan")}, ["SQNR nan"]),
    ],
)
def test_what_is_missed_is_said(name, changes, words):
    found = missed(MODELS[name], _rows(**changes))
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


def test_a_drop_that_may_be_chance_is_none():
    rows = _rows(drop_points=0.5, drop_low=-0.1)
    assert missed(MODELS["minilm_text2"], rows) == []


@pytest.mark.parametrize("rows", [[], _rows()[:2], [{**_rows()[2], "error": "failed"}]])
def test_without_figures_of_our_own_nothing_is_met(rows):
    assert missed(MODELS["textline"], rows) == ["textline: no figures of calib auto"]


def test_without_a_peer_nothing_is_beaten():
    found = missed(MODELS["minilm_text2"], _rows()[2:])
    assert found == [
        "minilm_text2: no peer to compare with",
        "minilm_text2: no figures of nncf performance",
    ]


def test_a_row_takes_the_place_of_the_one_it_supersedes(tmp_path):
    kept = accuracy.Rows(tmp_path / "rows.json")
    row = {"model": "m", "tool": "nncf", "method": "mixed", "samples": 5, "made_from": "a"}
    kept.put({**row, "sqnr_db": 1.0})
    kept.put({**row, "samples": 9})
    kept.put({**row, "sqnr_db": 2.0})
    assert [found["sqnr_db"] for found in kept.of("m", 5, "a")] == [2.0]
    assert len(kept.all()) == 2
    assert kept.of("m", 5, "made from other data") == []


def test_a_table_says_what_failed():
    row = {"tool": "nncf", "method": "mixed", "samples": 5, "error": "no such node"}
    text = accuracy.table(MODELS["textline"], [row])
    assert "| nncf | mixed | failed: no such node |" in text
    assert accuracy.compact([row]) == {"nncf-mixed": "no such node"}


def test_an_array_is_read_by_batches(tmp_path):
    x = np.arange(42, dtype=np.float32).reshape(7, 3, 2)
    np.savez(tmp_path / "a.npz", label=np.arange(7), x=x)
    parts = list(rows_of(tmp_path / "a.npz", "x", 3))
    assert [len(part) for part in parts] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(parts), x)
    assert sample_count(tmp_path / "a.npz") == 7


def test_scores_of_a_classifier():
    expected = np.array([[3.0, 0.0], [0.0, 1.0], [2.0, 1.0]], np.float32)
    found = np.array([[3.0, 0.0], [2.0, 1.0], [2.0, 1.0]], np.float32)
    scores = Scores("classification")
    scores.add(expected[:2], found[:2], np.array([0, 1]))
    scores.add(expected[2:], found[2:], np.array([1]))
    figures = scores.figures()
    assert figures["fp32_pct"] == pytest.approx(200 / 3)
    assert figures["drop_points"] == figures["flips_pct"] == pytest.approx(100 / 3)
    assert figures["sqnr_db"] == pytest.approx(10 * np.log10(15 / 4))


def test_scores_of_equal_masks():
    scores = Scores("mask")
    mask = np.array([[[[0.9, 0.1]]], [[[0.2, 0.8]]]], np.float32)
    scores.add(mask, mask, None)
    assert scores.figures() == {
        "fp32_pct": 100.0,
        "int8_pct": 100.0,
        "drop_points": 0.0,
        "drop_low": 0.0,
        "drop_high": 0.0,
        "flips_pct": 0.0,
        "alike_pct": 100.0,
        "sqnr_db": SQNR_MAX,
    }


def test_lines_are_alike_where_they_are_read_alike():
    expected = np.zeros((2, 40, 4), np.float32)
    expected[:, :, 0] = 0.5
    expected[:, 3, 2] = 0.9
    found = expected.copy()
    found[1, 7, 1] = 0.8
    labels = np.zeros((2, 40), np.int64)
    labels[:, 0] = 2
    scores = Scores("ctc")
    scores.add(expected, found, labels)
    figures = scores.figures()
    assert (figures["fp32_pct"], figures["int8_pct"], figures["alike_pct"]) == (100, 50, 50)
    assert figures["flips_pct"] == pytest.approx(100 / 80)
