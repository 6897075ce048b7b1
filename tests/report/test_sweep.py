"""The page of a sweep: made by hand, with every verdict and names that mean harm."""

import csv
import io
import re
import xml.etree.ElementTree as ET

import pytest
from html_page import Page
from records import NASTY

from calib.report.sweep import pareto_plot, sweep_csv, sweep_page
from calib.results import SweepRecord, TrialRecord, Verdict
from calib.terminal import SafeConsole
from calib.terminal.sweep import print_sweep

VERDICTS = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.NO_EVIDENCE, Verdict.FAIL)


def trial(number, accuracy, cost, **changes):
    values = {
        "number": number,
        "settings": {"calibration.calibrators": "=cmd()", "a.b": NASTY},
        "label": f"{NASTY} {number}",
        "run_id": f"20260101-000000-000-00000{number}",
        "candidate": "int8-minmax",
        "verdict": Verdict.PASS,
        "verdict_alone": Verdict.PASS,
        "accuracy": accuracy,
        "cost": cost,
        "loss_bound": accuracy,
        "speedup": 1 / cost if cost else None,
        "seconds": 60.0,
    }
    return TrialRecord(**{**values, **changes})


def sweep(*trials, **changes):
    values = {
        "experiment": NASTY,
        "started_at": "2026-01-01T00:00:00+00:00",
        "space": {"calibration.calibrators": NASTY, "a.b": NASTY},
        "size": 4,
        "sampler": "grid",
        "seed": 0,
        "trials": trials,
        "accuracy_title": "upper bound of accuracy lost, points",
        "accuracy_words": "Accuracy is a bound.",
        "cost_title": "latency over FP32's",
        "cost_words": "Speed is a ratio.",
        "limit": 1.0,
        "alpha": 0.0125,
        "choices": 4,
        "selection": "The best of 4.",
        "notes": (NASTY,),
        "verdict": Verdict.PASS,
        "winner": 1,
        "reason": NASTY,
        "next_step": f"Take these settings: {NASTY}",
    }
    return SweepRecord(**{**values, **changes})


@pytest.fixture(scope="module")
def found():
    points = [(0.5, 0.9), (0.8, 0.6), (2.0, 0.7), (3.0, 1.1)]
    trials = [
        trial(n, *point, verdict=verdict, on_front=n < 3)
        for n, (point, verdict) in enumerate(zip(points, VERDICTS, strict=True), 1)
    ]
    refused = trial(5, None, None, run_id=None, verdict=None, verdict_alone=None, problem=NASTY)
    return sweep(*trials, refused)


def test_the_page_escapes_what_it_is_given_and_loads_nothing(found):
    text = sweep_page(found)
    page = Page(text)
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"?https?:", text)
    assert "alert('1')" in page.plain
    assert not page.open
    links = [a["href"] for tag, a in page.tags if tag == "a"]
    assert links == [f"../20260101-000000-000-00000{n}/report.html" for n in (2, 1, 3, 4)]
    svgs = [a for tag, a in page.tags if tag == "svg"]
    assert len(svgs) == 2  # a wide one and one for phones
    assert all(a["role"] == "img" and a["aria-label"] for a in svgs)


def test_each_verdict_has_a_shape_and_a_colour_of_its_own(found):
    wide = str(pareto_plot(found)).split('<div class="plot narrow">')[0]
    root = ET.fromstring(wide.removeprefix('<div class="plot wide">').removesuffix("</div>"))
    shapes = {}
    for group in root.iter("g"):
        for path in group.iter("path"):
            stroke = path.attrib.get("stroke", "")
            if stroke.startswith("var(--c") and "z" in path.attrib.get("d", "").lower():
                shapes.setdefault(path.attrib["d"].split("z")[0][:60], set()).add(stroke)
    texts = {element.text for element in root.iter("text")}
    assert {v.value.replace("_", " ") for v in VERDICTS} | {"front", "limit"} <= texts
    assert any(str(t).startswith("2: ") for t in texts)
    assert len({s for strokes in shapes.values() for s in strokes}) >= 4
    assert all(len(strokes) == 1 for strokes in shapes.values())


def test_a_sweep_in_which_nothing_can_be_compared_has_a_page_without_a_plot():
    bare = trial(1, None, None, verdict=Verdict.NO_EVIDENCE, loss_bound=None)
    text = sweep_page(sweep(bare, verdict=Verdict.NO_EVIDENCE, winner=None, size=None))
    assert "<svg" not in text
    assert "A range without steps" in Page(text).plain


def test_the_table_has_a_column_for_each_setting_and_no_formula(found):
    rows = list(csv.DictReader(io.StringIO(sweep_csv(found))))
    assert len(rows) == 5
    assert rows[0]["calibration.calibrators"] == "'=cmd()"
    assert float(rows[1]["accuracy"]) == 0.8
    assert not any(value.startswith(("=", "@")) for row in rows for value in row.values())


def test_the_terminal_shows_the_front_and_obeys_no_control_characters(found):
    console = SafeConsole(width=160, file=io.StringIO(), emoji=False)
    print_sweep(console, found)
    shown = console.file.getvalue()
    assert "\x1b" not in shown
    assert "2 of 4 trials" in shown
    assert shown.index("INCONCLUSIVE") < shown.index("The best of 4.")
    assert "not run: trial 5" in shown
