"""Evidence: signed, verified by others' code too, and refused when anything was touched."""

import base64
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest
import records
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import Signer

from calib.errors import ConfigError, StoreError
from calib.evidence import bundle, keys, statements, verify, waivers
from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.results import RunResult, Verdict
from calib.store import sha256_from_file

NOW = datetime.now(UTC)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def key(tmp_path):
    keys.generate(tmp_path / "key")
    return tmp_path / "key"


@pytest.fixture
def run(tmp_path):
    """A run's directory with its models, and its record."""
    folder = tmp_path / "run"
    names = ("fp16", "int8-minmax")
    for name in names:
        (folder / "models" / name).mkdir(parents=True)
        (folder / "models" / name / "model.onnx").write_bytes(name.encode())
        (folder / "models" / name / "scales.json").write_text("{}")
    made = [
        records.candidate(
            name,
            model_path=f"models/{name}/model.onnx",
            model_sha256=sha256_from_file(folder / "models" / name / "model.onnx"),
        )
        for name in names
    ]
    result = records.run(records.fp32(), *made)
    return folder, judged(result, accuracy_drop_points_max=50)


def judged(result, **limits):
    return result.model_copy(update={"verdict": evaluate(result, LimitsSpec(**limits))})


def attested(run, key, path, now=NOW):
    folder, result = run
    found = statements.statements_of(result, folder, now)
    bundle.write_bundle(found, [keys.open_signer(str(key))], path)
    return path


def public(key):
    return keys.load_public(key.with_name(key.name + ".pub"))


@pytest.fixture
def signed(run, key, tmp_path):
    return attested(run, key, tmp_path / "run.intoto.jsonl")


def test_the_evaluation_is_as_its_published_schema_says(run):
    folder, result = run
    predicate = statements.statements_of(result, folder, NOW)[2]["predicate"]
    schema = json.loads((ROOT / "docs" / "evaluation.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(predicate, schema, cls=jsonschema.Draft202012Validator)
    assert predicate["limits"], "a schema that nothing is held against proves nothing"
    with pytest.raises(jsonschema.ValidationError, match="runId"):
        jsonschema.validate({k: v for k, v in predicate.items() if k != "runId"}, schema)


def test_figures_that_are_no_numbers_are_signed_as_strict_json_and_come_back(run, key, tmp_path):
    folder, result = run
    calibration = result.calibration.model_copy(update={"seconds": math.inf})
    odd = result.model_copy(update={"calibration": calibration})
    statement = statements.statements_of(odd, folder, NOW)[2]
    json.dumps(statement, allow_nan=False)
    facts = RunResult.model_validate(statement["predicate"]["facts"])
    assert facts.calibration.seconds == math.inf


def test_a_bundle_holds_three_statements_about_the_same_files(run, key, signed):
    found = bundle.read_bundle(signed, [public(key)], 1)
    kinds = [s.statement["predicateType"].rsplit("/", 2)[-2] for s in found]
    assert kinds == ["provenance", "test-result", "evaluation"]
    subjects = [s.statement["subject"] for s in found]
    assert subjects[0] == subjects[1] == subjects[2]
    names = {s["name"] for s in subjects[0]}
    assert {"models/int8-minmax/model.onnx", "models/int8-minmax/scales.json"} <= names


def test_another_implementation_finds_the_signatures_right(key, signed):
    """DSSE's encoding written out, and the signature checked by cryptography alone."""
    verifier = load_pem_public_key(key.with_name("key.pub").read_bytes())
    for line in signed.read_text().splitlines():
        envelope = json.loads(line)
        payload = base64.b64decode(envelope["payload"])
        kind = envelope["payloadType"].encode()
        signed_bytes = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
        (signature,) = envelope["signatures"]
        verifier.verify(base64.b64decode(signature["sig"]), signed_bytes)
        with pytest.raises(InvalidSignature):
            verifier.verify(base64.b64decode(signature["sig"]), signed_bytes + b" ")


def test_what_was_found_is_read_back_and_files_are_recognised(run, key, signed):
    folder, result = run
    found = bundle.read_bundle(signed, [public(key)], 1)
    model = folder / "models/int8-minmax/model.onnx"
    checked = verify.check(found, [model], timedelta(days=1), None)
    assert checked.verdict.verdict is Verdict.PASS
    assert checked.result.run_id == result.run_id
    model.write_bytes(b"another")
    with pytest.raises(StoreError, match="none of the files"):
        verify.check(found, [model], None, None)


def test_no_byte_of_an_envelope_can_be_changed_unnoticed(key, signed):
    text = signed.read_bytes()
    step = max(1, len(text) // 60)
    for place in range(0, len(text), step):
        changed = bytearray(text)
        changed[place] ^= 1
        signed.write_bytes(bytes(changed))
        if bytes(changed) == text:
            continue
        try:
            found = bundle.read_bundle(signed, [public(key)], 1)
        except StoreError:
            continue
        # What is left are bytes that say nothing: an unknown field of the envelope's JSON.
        signed.write_bytes(text)
        assert [s.statement for s in found] == [
            s.statement for s in bundle.read_bundle(signed, [public(key)], 1)
        ]


def test_another_key_and_too_few_signers_are_refused(run, key, signed, tmp_path):
    keys.generate(tmp_path / "other")
    other = public(tmp_path / "other")
    with pytest.raises(StoreError, match="not signed by enough"):
        bundle.read_bundle(signed, [other], 1)
    with pytest.raises(StoreError, match="not signed by enough"):
        bundle.read_bundle(signed, [public(key), other], 2)
    folder, result = run
    found = statements.statements_of(result, folder, NOW)
    signers: list[Signer] = [keys.open_signer(str(k)) for k in (key, tmp_path / "other")]
    bundle.write_bundle(found, signers, signed)
    assert len(bundle.read_bundle(signed, [public(key), other], 2)) == 3


def test_a_statement_of_another_run_cannot_take_a_place(run, key, signed, tmp_path):
    folder, result = run
    other = (folder, result.model_copy(update={"run_id": "20250101-000000-000-abcdef"}))
    lines = attested(other, key, tmp_path / "other.jsonl").read_text().splitlines()
    mixed = [lines[0], *signed.read_text().splitlines()[1:]]
    signed.write_text("\n".join(mixed))
    with pytest.raises(StoreError, match="mixes two runs"):
        verify.check(bundle.read_bundle(signed, [public(key)], 1), [], None, None)
    signed.write_text("\n".join(mixed[1:]))
    with pytest.raises(StoreError, match="three statements"):
        verify.check(bundle.read_bundle(signed, [public(key)], 1), [], None, None)


def test_old_evidence_and_evidence_of_the_future_are_refused(run, key, tmp_path):
    path = tmp_path / "b.jsonl"
    attested(run, key, path, NOW - timedelta(days=40))
    found = bundle.read_bundle(path, [public(key)], 1)
    assert verify.check(found, [], timedelta(days=60), None).verdict.verdict is Verdict.PASS
    with pytest.raises(StoreError, match="too old"):
        verify.check(found, [], timedelta(days=30), None)
    attested(run, key, path, NOW + timedelta(days=1))
    with pytest.raises(StoreError, match="in the future"):
        verify.check(bundle.read_bundle(path, [public(key)], 1), [], None, None)


def test_stricter_limits_are_judged_by_the_recorded_facts(run, key, signed):
    found = bundle.read_bundle(signed, [public(key)], 1)
    strict = LimitsSpec(accuracy_drop_points_max=50, samples_min=10**6)
    assert verify.check(found, [], None, strict).verdict.verdict is Verdict.FAIL


def waiver_for(run, **changes):
    _, result = run
    values = {
        "limit": "samples_min",
        "model_sha256": result.candidate("int8-minmax").model_sha256,
        "owner": "Ada Lovelace",
        "reason": "a pilot with ten users",
        "expires": NOW + timedelta(days=7),
    }
    return waivers.Waiver(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.PASS),
        ({"expires": NOW - timedelta(seconds=1)}, Verdict.FAIL),
        ({"limit": "flips_pct_max"}, Verdict.FAIL),
        ({"model_sha256": "0" * 64}, Verdict.FAIL),
    ],
)
def test_a_waiver_counts_for_its_limit_its_model_and_its_time(run, key, signed, changes, verdict):
    found = bundle.read_bundle(signed, [public(key)], 1)
    strict = LimitsSpec(judge="int8-minmax", accuracy_drop_points_max=50, samples_min=10**6)
    checked = verify.check(found, [], None, strict, [waiver_for(run, **changes)])
    assert checked.verdict.verdict is verdict
    assert ("Waived by Ada Lovelace" in checked.verdict.reason) == (verdict is Verdict.PASS)


def test_a_waiver_that_a_stranger_signed_is_refused(run, key, tmp_path):
    keys.generate(tmp_path / "stranger")
    path = tmp_path / "w.jsonl"
    signer = keys.open_signer(str(tmp_path / "stranger"))
    bundle.write_bundle([waivers.waiver_statement(waiver_for(run))], [signer], path)
    with pytest.raises(StoreError, match="not signed by enough"):
        waivers.read_waivers(path, [public(key)], 1)
    assert len(waivers.read_waivers(path, [public(tmp_path / "stranger")], 1)) == 1


def test_a_model_that_is_not_the_one_judged_is_not_attested(run, key):
    folder, result = run
    (folder / "models/int8-minmax/model.onnx").write_bytes(b"another")
    with pytest.raises(ValueError, match="not the model that was judged"):
        statements.statements_of(result, folder, NOW)


def test_keys_are_for_their_owner_alone_and_never_overwritten(key):
    assert key.stat().st_mode & 0o077 == 0
    with pytest.raises(StoreError, match="is there already"):
        keys.generate(key)
    with pytest.raises(ConfigError, match="no such key"):
        keys.open_signer(str(key) + "-none")
    with pytest.raises(ConfigError, match="no public key"):
        keys.load_public(key)
