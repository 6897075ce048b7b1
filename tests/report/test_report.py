"""What a reader of a report, a spreadsheet or a CI server sees."""

import json
import re
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
import records
from html_page import Page

from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.report import render_html, write_report
from calib.report.junit import render_junit
from calib.report.tables import safe_text
from calib.report.words import number
from calib.results import RunResult


def judged(run, **limits):
    return run.model_copy(update={"verdict": evaluate(run, LimitsSpec(**limits))})


def test_the_verdict_comes_first_and_the_page_needs_nothing_else():
    page = Page(render_html(judged(records.run(), accuracy_drop_points_max=6)))
    assert page.open == []
    assert page.headings == [
        "✓ Pass int8-minmax",
        "Why",
        "int8-minmax against FP32",
        "What to do next",
        *("Limits", "Accuracy", "Slices", "Tail", "Layers", "Remedies", "Calibration"),
        *("Audit of the calibration data", "Speed", "Environment", "Config"),
    ]
    assert "88.00 %" in page.plain
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "base", "form")
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))


@pytest.mark.parametrize(("limit", "shown"), [(9, "✓ Pass"), (5, "≈ Inconclusive"), (2, "✗ Fail")])
def test_the_verdict_is_told_by_more_than_a_colour(limit, shown):
    assert shown in render_html(judged(records.run(), flips_pct_max=limit))


def test_no_evidence_is_said_as_such():
    html = render_html(judged(records.run()))
    assert "? No evidence" in html
    assert "nothing to pass" in html


def nasty_run():
    bad = records.NASTY
    candidate = records.candidate(
        tail=(
            records.sample(
                id=bad, text=bad, prediction=bad, reference_prediction=bad, metadata={bad: bad}
            ),
        ),
        layers=(records.error(tensor=bad, node=bad, op_type=bad),),
        score=records.score(
            classes=(records.score().classes[0].model_copy(update={"name": bad}),),
        ),
        warnings=(bad,),
    )
    run = records.run(records.fp32(), candidate, experiment="nasty", config={**CONFIG, "name": bad})
    return judged(run, output_sqnr_db_min=1)


CONFIG = {"description": records.NASTY, "throughput": {"warmup_runs": 1}}


def test_whatever_a_run_carries_is_escaped():
    html = render_html(nasty_run())
    assert html.count("<script") == html.count("</script>") == 4  # data, two libraries, our own
    assert "<script>alert" not in html
    assert Page(html).open == []
    assert html.count("&lt;script&gt;") >= 8


def test_a_run_with_nothing_measured_still_has_a_page():
    bare = {
        "engines": (),
        "score": None,
        "flips": None,
        "layers": (),
        "outputs": (),
        "tail": (),
        "latency": (),
    }
    run = records.run(
        records.candidate("fp32", peak_memory_bytes=None, **bare),
        records.candidate(peak_memory_bytes=None, **bare),
    )
    html = render_html(judged(run, accuracy_drop_points_max=1))
    assert Page(html).open == []
    assert "? No evidence" in html


def test_files_are_complete_and_the_result_reads_back(tmp_path):
    run = judged(records.run(), accuracy_drop_points_max=5)
    write_report(run, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "junit.xml",
        "layers.csv",
        "ran.csv",
        "report.html",
        "result.json",
        "speed.csv",
        "summary.md",
        "thresholds.csv",
        "throughput.csv",
        "verdict.json",
    ]
    assert RunResult.model_validate_json((tmp_path / "result.json").read_bytes()) == run
    layers = pd.read_csv(tmp_path / "layers.csv")
    assert set(layers["candidate"]) == {"fp16", "int8-minmax"}
    assert layers.loc[layers["tensor"] == "h", "sqnr_db"].tolist() == [10.0, 10.0]
    times = pd.read_csv(tmp_path / "throughput.csv")
    assert times.groupby("candidate")["latency_ms"].count().to_dict() == {
        "fp16": 100,
        "fp32": 100,
        "int8-minmax": 100,
    }


def test_engines_show_what_was_asked_for_in_int8_and_ran_in_something_else():
    html = render_html(judged(records.run(), int8_macs_pct_min=1))
    text = Page(html).plain
    assert "asked for INT8, ran in something else" in text
    assert "fc2 MatMul fp16" in text
    assert "no kernel" in text


def test_what_onnxruntime_ran_is_told_by_layer_with_the_reason(tmp_path):
    run = judged(records.run(records.fp32(), records.candidate(engines=(), ran=records.ran())))
    write_report(run, tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    text = page.plain
    assert "1 of 75 % of the MACs, because its output is not quantized" in text
    assert "fc2 Conv int8 ⚠ fp32 FusedConv 75 its output is not quantized" in text
    assert "Also multiply, and are in no share: 2 LSTM" in text
    table = pd.read_csv(tmp_path / "ran.csv").query("candidate == 'int8-minmax'")
    assert table["macs_pct"].tolist() == [25.0, 75.0]
    assert table["ran"].tolist() == ["int8", "fp32"]


def test_a_view_that_could_not_be_had_says_why_and_is_escaped():
    lost = records.ran(nodes=(), operators={}, kernels={}, int8_macs_pct=None)
    lost = lost.model_copy(update={"problem": records.NASTY})
    html = render_html(judged(records.run(records.fp32(), records.candidate(engines=(), ran=lost))))
    assert Page(html).open == []
    assert "not known: <script>" in Page(html).plain


def test_infinite_errors_survive_the_json(tmp_path):
    broken = records.error(sqnr_db=float("-inf"), cosine=-1.0, max_abs=float("inf"))
    run = judged(
        records.run(records.fp32(), records.candidate(outputs=(broken,))), output_sqnr_db_min=1
    )
    write_report(run, tmp_path)
    again = RunResult.model_validate_json((tmp_path / "result.json").read_bytes())
    assert again.candidate("int8-minmax").outputs[0] == broken
    assert "−∞" in render_html(again)  # noqa: RUF001


def test_plots_of_the_same_result_are_the_same_bytes():
    run = judged(records.run(), accuracy_drop_points_max=5)
    assert render_html(run) == render_html(run)


def test_junit_counts_failures_and_calls_missing_evidence_an_error():
    run = records.run(records.fp32(), records.candidate(latency=(), engines=()))
    run = judged(run, worsened_pct_max=1, flips_pct_max=50, latency_p50_ms_max=1)
    suite = ET.fromstring(render_junit(run)).find("testsuite")
    assert suite.attrib == {
        "name": "int8-minmax",
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "skipped": "0",
    }
    kinds = {case.get("name"): [child.tag for child in case] for case in suite}
    assert sorted(map(tuple, kinds.values())) == [(), ("error",), ("failure",)]
    empty = ET.fromstring(render_junit(judged(records.run()))).find("testsuite")
    assert empty.get("errors") == "1"
    ET.fromstring(render_junit(nasty_run()))


@pytest.mark.parametrize("kind", ["failure", "skipped"])
def test_what_cannot_be_told_is_a_failure_in_junit_or_skipped_by_config(kind):
    run = judged(records.run(records.fp32(), records.candidate()), accuracy_drop_points_max=3)
    run = run.model_copy(update={"config": {"limits": {"inconclusive": kind}}})
    suite = ET.fromstring(render_junit(run)).find("testsuite")
    (found,) = [child for case in suite for child in case]
    assert found.tag == kind
    assert "bounds -0.689 to 5.14" in found.get("message")
    assert "add about 2,800 validation samples" in found.get("message")
    assert suite.get("failures") == str(int(kind == "failure"))
    assert suite.get("skipped") == str(int(kind == "skipped"))


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "\tx"])
def test_text_that_a_spreadsheet_would_run_is_quoted(text):
    assert safe_text(text) == f"'{text}"
    assert safe_text("-1.5e3") == "-1.5e3"
    assert safe_text("plain") == "plain"


def test_numbers_are_short_and_missing_ones_are_dashes():
    assert [number(v) for v in (None, 0.0, 12.3456789, 1234567.0, float("inf"))] == [
        "—",
        "0",
        "12.35",
        "1,234,567",
        "∞",
    ]


def test_the_result_has_a_schema_version_and_refuses_another():
    content = json.loads(records.run().model_dump_json())
    assert content["schema_version"] == 1
    content["schema_version"] = 2
    with pytest.raises(ValueError, match="schema_version"):
        RunResult.model_validate(content)
    assert re.fullmatch(r"[0-9-]+-[0-9a-f]{6}", content["run_id"])


def test_a_name_with_dollar_signs_is_no_formula():
    plain = records.candidate()
    classes = tuple(
        c.model_copy(update={"name": f"$\\frac{{{k}$ & <i>"})
        for k, c in enumerate(plain.score.classes)
    )
    assert classes
    score = plain.score.model_copy(update={"classes": classes})
    run = records.run(records.fp32(), plain.model_copy(update={"score": score}))
    html = render_html(judged(run))
    assert "<i>" not in html
    assert html.count("&amp; &lt;i&gt;") >= 2 * len(classes)  # in the plots and in the table
