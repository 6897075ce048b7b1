"""Kinds whose samples have scores, not margins: the page says what the numbers are."""

import base64
import io

import pytest
import records
from html_page import Page
from PIL import Image

from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.report.html import render_html
from calib.results import ClassMetric, FlipSummary, MetricScore, TaskKind, TaskScore
from calib.results.metrics import COARSE, QUANTILES


def picture(width, height):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 60)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def metric(**changes):
    values = {
        "name": "miou_pct",
        "title": "mean IoU",
        "unit": "%",
        "higher_is_better": True,
        "value": 84.0,
        "reference": 84.5,
        "resampled_losses": tuple(0.5 + (2 * q - 1) / 10 for q in QUANTILES),
        "resamples": 1000,
    }
    return MetricScore(**{**values, **changes})


def run_of(kind, tail, **score):
    own = TaskScore(kind=kind, samples=200, metrics=(metric(),), **score)
    none = FlipSummary(samples=200, total=0, worsened=0, improved=0, sideways=0, unlabelled=0)
    candidate = records.candidate(score=own, flips=none, tail=tail)
    run = records.run(records.fp32(), candidate)
    limits = LimitsSpec(miou_drop_points_max=3.0)
    return run.model_copy(update={"verdict": evaluate(run, limits)})


def segmented():
    classes = (
        ClassMetric(
            name="text",
            value=70.0,
            reference=71.0,
            samples=200,
            resampled_losses=tuple(1 + (2 * q - 1) / 10 for q in COARSE),
        ),
    )
    tail = (
        records.sample(
            flip="",
            reference_margin=60.25,
            margin=54.0,
            margin_loss=6.25,
            text="words beside it, so many that they take more lines than the picture is high " * 5,
            thumbnail_png_base64=picture(80, 60),
        ),
    )
    return run_of(
        TaskKind.SEGMENTATION,
        tail,
        sample_score="mean IoU of the picture",
        sample_score_unit="%",
        by_class=classes,
    )


def test_scores_are_named_and_pictures_explained():
    page = Page(render_html(segmented())).plain
    assert "by what the score lost. Score: mean IoU of the picture, in %." in page
    assert "orange where int8-minmax gives a pixel another class than FP32" in page
    assert "FP32 score" in page
    assert "right in FP32 and wrong now first" not in page
    assert "FP32 margin" not in page


def test_what_is_not_counted_is_not_told_as_none():
    assert segmented().candidate("int8-minmax").tells_flips is False
    # No flips of a classification are none.
    assert records.candidate(flips=None).tells_flips is True
    page = Page(render_html(segmented())).plain
    row = page[page.index("int8-minmax 84.00 %") :][:60]
    assert row.split()[4:7] == ["—", "—", "—"]


def test_an_error_is_shown_as_it_is_and_not_below_nothing():
    tail = (records.sample(flip="", reference_margin=-50.0, margin=-75.0, margin_loss=25.0),)
    run = run_of(
        TaskKind.TEXT_RECOGNITION,
        tail,
        sample_score="characters wrong",
        sample_score_unit="%",
        sample_score_negated=True,
        reference_right=100,
    )
    page = Page(render_html(run)).plain
    assert "Score: characters wrong, in %, lower is better." in page
    assert "cat dog 50 75 25" in page


def test_bounds_beside_metrics_and_classes_leave_room_as_those_of_the_limits_do():
    page = Page(render_html(segmented())).plain
    unseen = 100 * (1 - 0.025 ** (1 / 200))
    assert f"{0.5 - unseen:.3g} to {0.5 + unseen:.3g}" in page
    assert f"{1 - unseen:.3g} to {1 + unseen:.3g}" in page


@pytest.mark.parametrize("width", [390, 1280])
def test_a_picture_keeps_its_form(tmp_path, browser, width):
    path = tmp_path / "report.html"
    path.write_text(render_html(segmented()), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(path.as_uri())
    box = page.locator("img.thumb:visible").first
    box.wait_for()
    sides = box.evaluate("e => [e.clientWidth, e.clientHeight]")
    page.close()
    assert sides[0] / sides[1] == pytest.approx(80 / 60, rel=0.03)
