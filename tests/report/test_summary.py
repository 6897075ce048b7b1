"""What a pipeline reads: Markdown that stays inert, and JSON that keeps its schema."""

import json

import pytest
import records
from small import ROOT

from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.report.summary import render_summary, verdict_file
from calib.results import FoundSlice, PairedScore, VerdictFile


def judged(run=None, **limits):
    run = run or records.run()
    return run.model_copy(update={"verdict": evaluate(run, LimitsSpec(**limits))})


@pytest.mark.parametrize(
    ("limit", "mark", "code"), [(9, "✅ PASS", 0), (2, "❌ FAIL", 1), (5, "❔ INCONCLUSIVE", 4)]
)
def test_the_verdict_comes_first_with_its_figure_and_its_bounds(limit, mark, code):
    run = judged(flips_pct_max=limit)
    text = render_summary(run)
    assert text.startswith(f"## {mark}: small")
    assert "found 5 % \\(95 % bounds 2.74 to 8.33\\)" in text or code == 0
    assert "| 5 % \\(95 % bounds 2.74 to 8.33\\) | 200 |" in text
    assert "McNemar p = 0.29" in text
    assert verdict_file(run).exit_code == code


def test_what_decides_and_what_a_search_found_are_said():
    fp16 = PairedScore(rival="fp16", samples=200, right=170, worsened=9, improved=1)
    found = FoundSlice(
        condition="source is mail",
        samples=40,
        worsened=9,
        improved=1,
        rest_samples=60,
        rest_worsened=0,
        rest_improved=1,
        p_value=0.012,
    )
    run = records.run(records.fp32(), records.candidate(paired=(fp16,), found_slices=(found,)))
    text = render_summary(judged(run, accuracy_drop_points_max=3))
    assert "add about 2,800 validation samples" in text
    assert "Against fp16: 9 worsened, 1 improved of 200" in text
    assert "source is mail: 9 worsened, 1 improved of 40; elsewhere 0 and 1 of 60" in text
    assert "exploratory" in text


def test_what_the_run_carries_is_inert():
    run = records.run(records.fp32(), records.candidate(), experiment="a|b](http://x)<b>`c`\n# d")
    first = render_summary(judged(run, flips_pct_max=9)).splitlines()[0]
    assert first.endswith("a\\|b\\]\\(http://x\\)\\<b\\>\\`c\\` \\# d")


def test_verdict_json_is_read_back_and_keeps_to_the_published_schema():
    run = judged(flips_pct_max=9, accuracy_drop_points_max=3)
    text = verdict_file(run).model_dump_json()
    assert VerdictFile.model_validate_json(text) == verdict_file(run)
    schema = json.loads((ROOT / "docs" / "verdict.schema.json").read_text(encoding="utf-8"))
    content = json.loads(text)
    assert set(schema["required"]) <= set(content) <= set(schema["properties"])
    rule = content["verdict"]["candidates"][1]["rules"][0]
    assert set(rule) == set(schema["$defs"]["RuleVerdict"]["properties"])
    assert content["model_sha256"] == records.candidate().model_sha256
    assert content["exit_code"] == 4
