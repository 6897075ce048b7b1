"""The part on speed: which figures stand where, what is marked, what is left out."""

import re

import pandas as pd
import pytest
import records

from calib.analysis.conditions import speed_warnings
from calib.report import render_html
from calib.report.speed import frontier_points, speed_section, write_speed_csv
from calib.results import LoadRecord, PointRecord, SpeedRecord


def at(p50, batch_size, threads, **changes):
    update = {"batch_size": batch_size, "threads": threads, **changes}
    update["samples_per_second"] = 1e3 * batch_size / p50
    return records.latency(p50).model_copy(update=update)


def swept(name, factor, **changes):
    """Latency 1 ms + 1 ms a sample, divided by the threads, times a factor."""
    latency = tuple(
        at(factor * (1 + size) / threads, size, threads) for threads in (1, 2) for size in (1, 8)
    )
    return records.candidate(name, latency=latency, load_seconds=0.25, **changes)


def run(**changes):
    load = LoadRecord(
        seconds=5.0,
        cores=2,
        own_cores=1.5,
        other_cores=0.5,
        stolen_cores=None,
        preemptions=3,
        throttled_seconds=None,
        heat_events=None,
        clock_mhz=None,
    )
    points = (PointRecord(batch_size=8, threads=2, load=load),)
    speed = SpeedRecord(points=points, warnings=speed_warnings(points, {}))
    return records.run(
        swept("fp32", 1.0),
        swept("fp16", 0.1, emulated=True),
        swept("int8-minmax", 0.5),
        speed=speed,
        **changes,
    )


def test_no_emulated_point_is_the_best_and_none_is_held_against_it():
    assert frontier_points(run()) == {("int8-minmax", 1, 2), ("int8-minmax", 8, 2)}
    rows = speed_section(run())["engines"]
    assert [row["emulated"] for row in rows] == [False, True, False]
    fp32, fp16, int8 = rows
    assert fp32["fp32"] is fp32["fp16"] is fp16["fp32"] is int8["fp16"] is None
    assert int8["fp32"].ratio == pytest.approx(2.0)


def test_the_headline_is_a_named_point_with_size_load_and_memory():
    text = " ".join(re.sub("<[^>]*>", " ", render_html(run())).split())
    assert "At batch 8, 2 threads" in text
    assert "other processes used 0.5 of 2 processors while batch 8 on 2 threads" in text
    assert "int8-minmax 2.25 3,556 2.00" in text
    assert "0.0004 250 5" in text  # MB, ms, MB
    assert "fp16 emulated" in text


def test_points_of_few_runs_have_dashes_for_percentiles(tmp_path):
    few = at(2.0, 8, None, runs=5, p90_ms=None, p99_ms=None, steady=None)
    result = records.run(
        records.candidate("fp32", latency=(few,)), records.candidate(latency=(few,))
    )
    html = render_html(result)
    cells = re.sub(r"<[^>]*>", "|", html[html.index('id="points-table"') :])
    assert "|5||2||—||—|" in re.sub(r"\s+", "", cells)
    assert "too few runs" in html
    assert "whiskers p10 and p90" in render_html(run())
    write_speed_csv(result, tmp_path / "speed.csv")
    table = pd.read_csv(tmp_path / "speed.csv")
    assert table["p90_ms"].isna().all()
    assert table["p50_ms"].tolist() == [2.0, 2.0]
    bare = records.run(records.candidate("fp32", latency=()))
    write_speed_csv(bare, tmp_path / "none.csv")
    assert pd.read_csv(tmp_path / "none.csv").empty


def test_a_single_point_has_no_plot_of_throughput_and_several_have_one():
    assert "Latency against throughput" not in render_html(records.run())
    html = render_html(run())
    assert html.count('aria-label="Latency against throughput') == 2  # for wide and narrow screens
    assert "fp16 (emulated)" in html
    assert "1 thread<" in html
    assert render_html(run()) == html
