"""What may be promoted of a run, and what refuses."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from promotable_runs import (
    ASKS_NOTHING,
    CANNOT_TELL,
    FAILS,
    attested,
    copied,
    key_pair,
    snapshot,
    waived,
)

from calib.errors import ConfigError, StoreError
from calib.promotion.package import Package
from calib.promotion.promotable import Request, promotable
from calib.promotion.target import TargetOptions
from calib.promotion.targets import open_target
from calib.results import Verdict
from calib.rundir import load_result
from calib.store import sha256_from_file

INT8 = "models/int8-minmax"


@pytest.fixture
def key(tmp_path):
    return key_pair(tmp_path)


@pytest.fixture
def public(key):
    return key.with_name("key.pub")


def test_a_pass_is_packed_with_all_that_lies_beside_the_model(passed_run):
    found = promotable(Request(run=passed_run))
    assert isinstance(found, Package)
    assert found.name == "small"
    assert found.model.name == "model.onnx"
    assert found.model.sha256 == sha256_from_file(passed_run / INT8 / "model.onnx")
    names = [file.name for file in found.files]
    assert {p.name for p in (passed_run / INT8).iterdir()} <= set(names)
    assert {"scales.json", "session.json", "verdict.json", "model_card.md"} <= set(names)
    assert len(names) == len(set(names))
    assert "report.html" not in names


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        (FAILS, Verdict.FAIL),
        (CANNOT_TELL, Verdict.INCONCLUSIVE),
        (ASKS_NOTHING, Verdict.NO_EVIDENCE),
    ],
)
def test_the_verdict_refuses_what_did_not_pass(passed_run, tmp_path, limits, verdict):
    run = copied(passed_run, tmp_path / "run", **limits)
    assert promotable(Request(run=run)).verdict is verdict


def test_a_candidate_is_judged_by_its_own_limits(passed_run):
    found = promotable(Request(run=passed_run, candidate="int8-minmax", name="other"))
    assert (found.candidate.name, found.name) == ("int8-minmax", "other")
    with pytest.raises(ConfigError, match="names no candidate"):
        promotable(Request(run=passed_run, candidate="fp32"))
    with pytest.raises(ConfigError, match="cannot name a model"):
        promotable(Request(run=passed_run, name="../up"))


def test_a_waiver_for_each_open_limit_lets_it_go(passed_run, tmp_path, key, public):
    run = copied(passed_run, tmp_path / "run", **FAILS, **CANNOT_TELL)
    attested(run, key)
    one = waived(run, key, tmp_path / "one.jsonl")
    two = waived(run, key, tmp_path / "two.jsonl", "accuracy_drop_points_max", owner="Eve <b>")
    with_key = {"run": run, "keys": (public,)}
    assert promotable(Request(**with_key, waivers=(one,))).verdict is Verdict.FAIL
    found = promotable(Request(**with_key, waivers=(one, two)))
    assert set(found.waived) == {"samples_min", "accuracy_drop_points_max"}
    assert "Waived by Ada Lovelace, Eve" in found.verdict.reason
    files = {file.name: file.read().decode(errors="replace") for file in found.files}
    assert len(files["waivers.intoto.jsonl"].splitlines()) == 2
    assert "May ship with waivers until" in files["report.html"]
    assert "✗ Fail" in files["report.html"]
    assert "| samples_min | Ada Lovelace |" in files["model_card.md"]
    assert "Eve \\<b\\>" in files["model_card.md"]
    again = promotable(Request(**with_key, waivers=(two, one, one)))
    assert [f.sha256 for f in again.files] == [f.sha256 for f in found.files]


@pytest.mark.parametrize(
    "changes",
    [
        {"expires": datetime.now(UTC) - timedelta(seconds=1)},
        {"limit": "flips_pct_max"},
        {"model_sha256": "0" * 64},
    ],
)
def test_a_waiver_that_does_not_hold_does_nothing(passed_run, tmp_path, key, public, changes):
    run = copied(passed_run, tmp_path / "run", **FAILS)
    attested(run, key)
    waiver = waived(run, key, tmp_path / "w.jsonl", **changes)
    found = promotable(Request(run=run, keys=(public,), waivers=(waiver,)))
    assert found.verdict is Verdict.FAIL


def test_a_waiver_counts_only_with_its_signers_key(passed_run, tmp_path, key, public):
    run = copied(passed_run, tmp_path / "run", **FAILS)
    waiver = waived(run, key_pair(tmp_path, "stranger"), tmp_path / "w.jsonl")
    with pytest.raises(StoreError, match="not signed by enough"):
        promotable(Request(run=run, keys=(public,), waivers=(waiver,)))
    with pytest.raises(ConfigError, match="counts only if it is signed"):
        promotable(Request(run=run, waivers=(waiver,)))


def test_with_a_key_the_run_must_have_been_signed_by_it(passed_run, tmp_path, key, public):
    run = copied(passed_run, tmp_path / "run")
    with pytest.raises(StoreError, match="there is no such bundle"):
        promotable(Request(run=run, keys=(public,)))
    attested(run, key, datetime.now(UTC) - timedelta(days=40))
    found = promotable(Request(run=run, keys=(public,)))
    assert "run.intoto.jsonl" in [file.name for file in found.files]
    with pytest.raises(StoreError, match="too old"):
        promotable(Request(run=run, keys=(public,), age_max=timedelta(days=30)))
    with pytest.raises(ConfigError, match="more keys than are given"):
        promotable(Request(run=run, keys=(public,), threshold=2))
    attested(run, key_pair(tmp_path, "stranger"))
    with pytest.raises(StoreError, match="not signed by enough"):
        promotable(Request(run=run, keys=(public,)))


def flip_a_byte(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def other_figure(run):
    result = load_result(run)
    made = result.model_copy(update={"seconds": result.seconds + 1})
    (run / "result.json").write_text(made.model_dump_json(), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: flip_a_byte(run / INT8 / "model.onnx", 100), "not the model that was judged"),
        (lambda run: flip_a_byte(run / INT8 / "scales.json", 20), "none of the files"),
        (lambda run: (run / INT8 / "8.9.plan").write_bytes(b"plan"), "no engine that was judged"),
        (lambda run: flip_a_byte(run / "run.intoto.jsonl", 200), "was changed|no signed statement"),
        (other_figure, "something else than the run's result"),
    ],
)
def test_what_was_touched_after_it_was_signed_is_refused(
    passed_run, tmp_path, key, public, change, words
):
    run = copied(passed_run, tmp_path / "run")
    attested(run, key)
    assert isinstance(promotable(Request(run=run, keys=(public,))), Package)
    change(run)
    with pytest.raises(StoreError, match=words):
        promotable(Request(run=run, keys=(public,)))


@pytest.mark.parametrize("asked", [{"threshold": 2}, {"age_max": timedelta(days=1)}])
def test_what_is_asked_of_signatures_needs_a_key(passed_run, asked):
    with pytest.raises(ConfigError, match="are for signed evidence"):
        promotable(Request(run=passed_run, **asked))


def test_the_statements_of_another_run_do_not_do(passed_run, tmp_path, key, public):
    run, other = copied(passed_run, tmp_path / "run"), copied(passed_run, tmp_path / "other")
    content = json.loads((other / "result.json").read_bytes())
    content["run_id"] = "20250101-000000-000-abcdef"
    (other / "result.json").write_text(json.dumps(content), encoding="utf-8")
    attested(other, key)
    bundle = other / "run.intoto.jsonl"
    with pytest.raises(StoreError, match="about another run"):
        promotable(Request(run=run, keys=(public,), bundle=bundle))
    assert isinstance(promotable(Request(run=other, keys=(public,), bundle=bundle)), Package)


def test_nothing_is_written_by_asking(passed_run):
    before = snapshot(passed_run)
    promotable(Request(run=passed_run))
    assert snapshot(passed_run) == before


@pytest.mark.parametrize("text", ["directory", "directory:", "ftp:x", "/a/path", ""])
def test_a_place_needs_a_kind_that_is_known(text):
    with pytest.raises(ConfigError, match="names no place"):
        open_target(text, TargetOptions())
