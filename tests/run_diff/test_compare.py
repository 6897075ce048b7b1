"""Two runs side by side."""

import pytest
import records

from calib.errors import ConfigError
from calib.results import (
    LeftAloneRecord,
    MetricScore,
    Outcome,
    RunVerdict,
    TaskKind,
    TaskScore,
    Verdict,
)
from calib.run_diff import compare_runs, history, summarise

SAMPLES = 200


def table(wrong=(), lossy=(), margin=1.0):
    """Samples of one candidate, all right in FP32; `wrong` are got wrong, `lossy` lose margin."""
    rows = []
    for k in range(SAMPLES):
        loss = 3.0 if k in wrong else 0.5 if k in lossy else 0.01
        rows.append(
            {
                "id": f"s{k}",
                "label": "cat",
                "prediction": "dog" if k in wrong else "cat",
                "margin": margin - loss,
                "margin_loss": loss,
                "flip": "worsened" if k in wrong else "",
            }
        )
    rows.sort(key=lambda r: (r["flip"] != "worsened", -r["margin_loss"], r["id"]))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {"int8-minmax": {**columns, "rank": list(range(1, SAMPLES + 1))}}


def passed(**changes):
    verdict = RunVerdict(verdict=Verdict.PASS, chosen="int8-minmax", reason="", candidates=())
    return records.run(**{"verdict": verdict, **changes})


def by_name(found):
    return {metric.name: metric for metric in found.metrics}


def test_a_run_against_itself_is_no_worse_and_nothing_differs():
    found = compare_runs(passed(), passed(), (table(range(5)), table(range(5))))
    assert found.outcome is Outcome.NO_WORSE
    assert found.unlike == found.not_compared == found.tail == found.scales == ()
    assert found.precisions == ()
    assert {m.difference for m in found.metrics} == {0.0}


def test_many_more_wrong_samples_are_worse_by_more_than_chance_and_new_in_the_tail():
    found = compare_runs(passed(), passed(), (table(range(5)), table(range(40))))
    accuracy = by_name(found)["accuracy"]
    assert accuracy.difference == pytest.approx(-17.5)
    assert accuracy.high < 0
    assert accuracy.p_value == pytest.approx(2 * 0.5**35)
    assert found.outcome is Outcome.WORSE
    assert {t.id for t in found.tail} == {f"s{k}" for k in range(5, 40)}
    assert by_name(found)["worsened"].is_worse
    better = compare_runs(passed(), passed(), (table(range(40)), table(range(5))))
    assert (better.outcome, better.tail) == (Outcome.NO_WORSE, ())


def test_one_more_wrong_sample_is_within_chance_but_in_the_tail():
    found = compare_runs(passed(), passed(), (table(range(5)), table(range(6))))
    assert found.outcome is Outcome.NO_WORSE
    assert [t.id for t in found.tail] == ["s5"]
    assert found.tail[0].worsened


def test_a_task_of_another_kind_shows_its_headline_and_pairs_the_scores_of_samples():
    head = MetricScore(
        name="map_pct", title="mAP", unit="%", higher_is_better=True, value=40.0, reference=41.0
    )
    score = TaskScore(kind=TaskKind.DETECTION, samples=200, metrics=(head,))
    run = passed()
    changed = tuple(c.model_copy(update={"score": score}) for c in run.candidates)
    run = run.model_copy(update={"candidates": changed})
    found = compare_runs(run, run, (table(), table(range(40))))
    assert (by_name(found)["mAP"].first, by_name(found)["mAP"].low) == (40.0, None)
    scores = by_name(found)["mean score of a sample"]
    # 40 of 200 samples lose 2.99 more.
    assert scores.difference == pytest.approx(-40 * 2.99 / 200)
    assert scores.is_worse
    assert found.outcome is Outcome.WORSE
    assert found.first.metric == "mAP"


def test_a_lost_pass_is_worse_whatever_the_figures():
    failed = records.run(
        verdict=RunVerdict(verdict=Verdict.FAIL, chosen="int8-minmax", reason="", candidates=())
    )
    assert compare_runs(passed(), failed, (table(), table())).outcome is Outcome.WORSE


def test_other_validation_samples_are_not_compared_and_that_is_no_evidence():
    other = passed()
    validation = other.data.validation.model_copy(update={"sha256": "9" * 64})
    other = other.model_copy(
        update={"data": other.data.model_copy(update={"validation": validation})}
    )
    found = compare_runs(passed(), other, (table(), table(range(40))))
    assert found.outcome is Outcome.NO_EVIDENCE
    assert any("other validation samples" in text for text in found.not_compared)
    assert all(m.low is None for m in found.metrics)
    assert found.tail == ()
    assert any(text.startswith("validation data") for text in found.unlike)


def test_runs_without_tables_of_samples_compare_what_their_records_hold():
    for samples in ({}, {"int8-minmax": {"id": ["s0"]}}):
        found = compare_runs(passed(), passed(), (samples, table()))
        assert found.outcome is Outcome.NO_EVIDENCE
        assert by_name(found)["accuracy"].low is None
        assert by_name(found)["accuracy"].first == 88.0
        assert any("no samples.parquet" in text for text in found.not_compared)


def test_speed_is_compared_on_equal_machines_alone():
    assert "median latency at batch 8" in by_name(
        compare_runs(passed(), passed(), (table(), table()))
    )
    other = passed()
    environment = other.environment.model_copy(update={"cpu": "another"})
    other = other.model_copy(update={"environment": environment})
    found = compare_runs(passed(), other, (table(), table()))
    assert not any("latency" in name for name in by_name(found))
    assert any(text.startswith("speed:") for text in found.not_compared)
    assert any(text.startswith("processor:") for text in found.unlike)


def test_thresholds_that_moved_are_listed():
    second = passed()
    calibration = second.calibration
    activation = calibration.activations[0]
    moved = activation.model_copy(update={"amax": {"minmax": activation.amax["minmax"] * 3}})
    second = second.model_copy(
        update={"calibration": calibration.model_copy(update={"activations": (moved,)})}
    )
    found = compare_runs(passed(), second, (table(), table()))
    (scale,) = found.scales
    assert (scale.tensor, scale.second / scale.first) == ("x", 3)
    assert found.precisions == ()


def without_int8(run, **changes):
    """The run with `fc1` left in float, and other changes of its candidate."""
    weight, activation = run.calibration.weights[0], run.calibration.activations[0]
    left = tuple(
        LeftAloneRecord(tensor=t, node="fc1", op_type="MatMul", reason="excluded by the config")
        for t in (weight.tensor, activation.tensor)
    )
    calibration = run.calibration.model_copy(
        update={"weights": (), "activations": (), "left_alone": left}
    )
    candidates = tuple(c.model_copy(update=changes) for c in run.candidates)
    return run.model_copy(update={"calibration": calibration, "candidates": candidates})


def test_a_node_that_is_no_longer_asked_for_in_int8_is_listed_with_the_reason():
    found = compare_runs(passed(), without_int8(passed(), engines=()), (table(), table()))
    (node,) = found.precisions
    assert (node.node, node.first, node.second) == ("fc1", "int8", "float: excluded by the config")


def test_what_ran_counts_where_both_runs_know_it():
    engine = records.engine()
    nodes = tuple(n.model_copy(update={"ran": "fp16"}) for n in engine.nodes)
    second = passed()
    other = engine.model_copy(update={"nodes": nodes})
    candidates = tuple(c.model_copy(update={"engines": (other,)}) for c in second.candidates)
    found = compare_runs(
        passed(), second.model_copy(update={"candidates": candidates}), (table(), table())
    )
    assert [(n.node, n.first, n.second) for n in found.precisions] == [
        ("fc1", "int8, ran in int8", "int8, ran in fp16")
    ]


def test_changed_settings_are_told_by_their_path():
    second = passed()
    config = {**second.config, "data": {"batch_size": 99}}
    second = second.model_copy(update={"config": config})
    found = compare_runs(passed(), second, (table(), table()))
    assert any(t.startswith("config data.batch_size:") and "99" in t for t in found.unlike)


def test_a_candidate_that_a_run_lacks_is_refused():
    with pytest.raises(ConfigError, match="--candidate"):
        compare_runs(passed(), passed(), (table(), table()), "int8-none")


def test_runs_stand_in_order_of_time_with_letters_for_what_is_the_same():
    other = passed(run_id="20260102-000000-000-000000", started_at="2026-01-02T00:00:00+00:00")
    other = other.model_copy(
        update={"environment": other.environment.model_copy(update={"gpu": "new"})}
    )
    first = passed(started_at="2026-01-01T00:00:00+00:00")
    found = history("small", [other, first], ["broken"])
    assert [run.started_at for run in found.runs] == [first.started_at, other.started_at]
    assert [run.machine for run in found.runs] == ["A", "B"]
    assert [run.data for run in found.runs] == ["A", "A"]
    assert found.unreadable == ("broken",)
    assert summarise([first])[0].value == 88.0
