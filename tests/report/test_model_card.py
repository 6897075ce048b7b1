"""The model card: what it says, that it says it again, and that names in it are inert."""

from datetime import UTC, datetime

import pytest
import records
import yaml

from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.gate.waiving import with_waivers
from calib.report import render_model_card
from calib.report.markdown import inert_words
from calib.results import Precision, Waiver

HEADINGS = [
    "Model details",
    "Intended use",
    "Data",
    "Metrics",
    "Limits and verdict",
    "Waivers",
    "Slices and warnings",
    "Speed and memory",
    "How it was quantized",
    "Digests",
    "Caveats",
]


def card(candidate=None, waivers=(), limits=None, **changes):
    own = candidate or records.candidate()
    result = records.run(records.fp32(), records.fp16(), own, **changes)
    verdict = evaluate(result, LimitsSpec(**(limits or {"flips_pct_max": 9})))
    result = result.model_copy(update={"verdict": verdict})
    answered = with_waivers(result, verdict, waivers, datetime(2026, 5, 1, tzinfo=UTC))
    return render_model_card(result, own, answered, "served")


def cells(text, first):
    """The cells of the table's row that begins so."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {first}"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_card_has_its_parts_in_order_and_a_head_that_is_yaml():
    text = card()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["tags"] == ["int8", "quantized"]
    assert [line[3:] for line in body.splitlines() if line.startswith("## ")] == HEADINGS
    assert text.count("**TODO**") == 3
    assert text == card()
    half = card(records.candidate("fp16-x", precision=Precision.FP16))
    assert yaml.safe_load(half.split("---\n", 2)[1])["tags"] == ["fp16"]


def test_the_figures_are_the_records():
    text = card(audit=records.audit())
    assert cells(text, "accuracy, %")[1:4] == ["90", "88", "2"]
    assert cells(text, "accuracy, %")[4].startswith("95 % bounds")
    assert cells(text, "predictions unlike")[1:] == [
        "5 % (95 % bounds 2.74 to 8.33)",
        "200",
        "PASS",
    ]
    assert "10 of 200 predictions are unlike FP32's: 6 became wrong, 2 right, 2 differently" in text
    assert cells(text, "source: forum") == ["source: forum", "120", "5", "1", "+3.33"]
    assert "calibration lacks class rare" in text
    assert cells(text, "int8-minmax |")[1] == "2"
    assert cells(text, "int8-minmax |")[3].startswith("2.00x")
    assert f"| the FP32 model | {'2' * 64} |" in text
    assert f"SHA-256 {'3' * 64}" in text


def test_waivers_stand_with_owner_end_and_reason():
    waiver = Waiver(
        limit="flips_pct_max",
        model_sha256="0" * 64,
        owner="Ada | Lovelace",
        reason="a pilot of ten",
        expires=datetime(2026, 6, 1, tzinfo=UTC),
    )
    text = card(waivers=[waiver], limits={"flips_pct_max": 2})
    row = "| flips_pct_max | Ada \\| Lovelace | 2026-06-01T00:00:00+00:00 | a pilot of ten |"
    assert row in text
    assert "**PASS** with waivers for flips_pct_max" in text
    assert "| FAIL |" in text
    assert "None: every limit is kept." not in text


def test_what_the_run_carries_is_inert():
    tail = records.candidate(warnings=("# <script>x</script> [a](b) `c` |d", "- e __init__"))
    text = card(tail, experiment="x|y", config={"description": "<b>{{ 7*7 }}</b>"})
    assert "- \\# \\<script\\>x\\</script\\> \\[a\\](b) \\`c\\` \\|d" in text
    assert "- \\- e \\_\\_init\\_\\_" in text
    assert "\\<b\\>\\{\\{ 7\\*7 \\}\\}\\</b\\>" in text
    assert "<script" not in text.replace("\\<script", "")


def test_a_run_without_labels_audit_or_speed_still_has_a_card():
    bare = records.candidate(score=None, flips=None, slices=(), latency=(), engines=(), tail=())
    text = card(bare, limits={"output_sqnr_db_min": 5})
    assert "Nothing was scored." in text
    assert "No slices were looked at." in text
    assert "Without labels nothing is known of accuracy" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("int8-entropy_99", "int8-entropy_99"),
        ("_a_ *b*", "\\_a\\_ \\*b\\*"),
        ("- x", "\\- x"),
        ("-0.5", "-0.5"),
        ("1. x", "1\\. x"),
        ("a\nb \x1b[31m", "a b \\\\x1b\\[31m"),
        ("&amp; ~~s~~ @you $x$", "\\&amp; \\~\\~s\\~\\~ \\@you \\$x\\$"),
    ],
)
def test_only_what_would_be_markup_is_escaped(text, shown):
    assert inert_words(text) == shown
