"""Further heads of a model on the page."""

import records

from calib.report import render_html
from calib.results import HeadRecord, MetricScore, TaskKind, TaskScore


def test_each_head_has_a_line_a_metric_and_no_section_stands_empty():
    metric = MetricScore(
        name="r2", title="R²", unit="", higher_is_better=True, value=0.9, reference=0.95
    )
    score = TaskScore(kind=TaskKind.REGRESSION, samples=9, metrics=(metric,))
    head = HeadRecord(name="size<b>", score=score, flips=records.candidate().flips)
    page = render_html(records.run(records.fp32(), records.candidate(heads=(head,))))
    assert 'id="heads"' in page
    assert "size&lt;b&gt;" in page
    assert "0.95" in page
    assert 'id="heads"' not in render_html(records.run(records.fp32(), records.candidate()))
