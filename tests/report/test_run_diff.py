"""A comparison and a history as pages."""

import re

import records

from calib.report.run_diff import trend_plot, write_comparison, write_history
from calib.results import MetricChange, Outcome, RunComparison, RunVerdict, TailChange, Verdict
from calib.run_diff import history, summarise


def comparison():
    summary = summarise([records.run()])[0]
    return RunComparison(
        outcome=Outcome.WORSE,
        reason="accuracy fell",
        first=summary,
        second=summary,
        unlike=(records.NASTY,),
        not_compared=("speed: another machine",),
        metrics=(
            MetricChange(
                name="accuracy", unit="points", first=90, second=85, difference=-5, low=-7, high=-3
            ),
        ),
        tail=(
            TailChange(
                id=records.NASTY,
                label=None,
                first_prediction="cat",
                second_prediction=records.NASTY,
                first_loss=0.1,
                second_loss=float("inf"),
                first_rank=70,
                second_rank=1,
                worsened=True,
            ),
        ),
        tail_count=1,
        scales=(),
        precisions=(),
    )


def test_the_comparison_shows_everything_and_runs_nothing_of_it(tmp_path):
    write_comparison(comparison(), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for text in ("Worse", "accuracy fell", "Not compared: speed: another machine", "-7 to -3"):
        assert text in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    # Every cell of a table says which column it is of, for narrow screens.
    body = re.sub(r"<th scope=\"row\">.*?</th>", "", page)
    assert len(re.findall(r"<td", body)) == len(re.findall(r"<td[^>]* data-label=\"[^\"]+\"", body))


def test_runs_of_another_machine_have_a_line_of_their_own(tmp_path):
    verdict = RunVerdict(verdict=Verdict.PASS, chosen="int8-minmax", reason="", candidates=())
    runs = []
    for day, gpu in enumerate(["", "", "new", "new"], start=1):
        run = records.run(verdict=verdict, started_at=f"2026-01-0{day}T00:00:00+00:00")
        environment = run.environment.model_copy(update={"gpu": gpu})
        runs.append(run.model_copy(update={"environment": environment}))
    found = history("small", runs, ["broken"])
    svg = trend_plot(found)
    assert svg.count("machine A") == svg.count("machine B") == 1
    assert "model A, data A" in svg
    assert "model B" not in svg
    write_history(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<tr><td") == 4
    assert "broken: no result" in page


def test_runs_without_figures_have_no_plot():
    bare = records.candidate(score=None, flips=None, latency=())
    found = history("small", [records.run(records.fp32(), bare)])
    assert trend_plot(found) == ""
