"""What is said of a run, as in-toto statements: how it was made, what was judged, what was found.

The forms are in-toto Statement v1, SLSA provenance v1, in-toto's test result v0.1 and a predicate
of our own, which docs/evidence.md describes.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from calib.evidence.evaluation import EVALUATION, evaluation_of
from calib.record import Precision
from calib.results import RunResult, Verdict
from calib.store import sha256_from_file

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
BUILD_TYPE = "https://calib.dev/build/int8/v1"

_VERSION = version("calib")

Statement = dict[str, Any]


def statements_of(result: RunResult, folder: Path, now: datetime) -> tuple[Statement, ...]:
    """Three statements about the same files.

    Args:
        result: of the run.
        folder: the run's directory, whose files are hashed anew: a file that is not what the run
            wrote would be attested as it is now.
        now: in UTC.

    Raises:
        ValueError: if a model is not the one that was judged.
    """
    subjects = tuple(_subjects(result, folder))
    return tuple(
        {"_type": STATEMENT, "subject": list(subjects), "predicateType": kind, "predicate": content}
        for kind, content in (
            (PROVENANCE, _provenance(result, now)),
            (TEST_RESULT, _test_result(result)),
            (
                EVALUATION,
                evaluation_of(result, rfc3339(now)).model_dump(mode="json", by_alias=True),
            ),
        )
    )


def _subjects(result: RunResult, folder: Path) -> Iterator[dict[str, Any]]:
    yield _subject(f"fp32/{Path(result.model.path).name}", result.model.sha256)
    for candidate in result.candidates:
        if candidate.precision is Precision.FP32:
            continue
        path = folder / candidate.model_path
        found = sha256_from_file(path)
        if found != candidate.model_sha256:
            raise ValueError(f"{path} is not the model that was judged")
        for file in sorted(path.parent.iterdir()):
            if file.is_file():
                name = file.relative_to(folder).as_posix()
                yield _subject(name, found if file == path else sha256_from_file(file))
    # FP32's model is not the run's own, but engines of it are.
    for plan in sorted((folder / "models" / Precision.FP32).glob("*.plan")):
        yield _subject(plan.relative_to(folder).as_posix(), sha256_from_file(plan))


def _subject(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}


def _provenance(result: RunResult, now: datetime) -> dict[str, Any]:
    environment = result.environment
    started = datetime.fromisoformat(result.started_at)
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"config": result.config},
            "internalParameters": {
                "packages": environment.packages,
                "python": environment.python,
                "platform": environment.platform,
                "backend": environment.backend,
                "backendDetails": environment.backend_details,
            },
            "resolvedDependencies": [
                _subject("model", result.model.sha256),
                _subject("calibrationSamples", result.data.calibration.sha256),
                _subject("validationSamples", result.data.validation.sha256),
            ],
        },
        "runDetails": {
            "builder": {
                "id": f"https://calib.dev/builder/{_VERSION}",
                "version": {"calib": _VERSION},
            },
            "metadata": {
                "invocationId": result.run_id,
                "startedOn": rfc3339(started),
                "finishedOn": rfc3339(started + timedelta(seconds=result.seconds)),
            },
            "byproducts": [{"name": "attestedOn", "content": rfc3339(now)}],
        },
    }


def _test_result(result: RunResult) -> dict[str, Any]:
    words = {Verdict.PASS: "PASSED", Verdict.FAIL: "FAILED"}
    judged = next(
        (c for c in result.verdict.candidates if c.candidate == result.verdict.chosen), None
    )
    rules = judged.rules if judged is not None else ()

    def named(*verdicts: Verdict) -> list[str]:
        return [r.rule for r in rules if r.verdict in verdicts]

    return {
        # Whoever reads only this must not take what could not be told for a pass.
        "result": words.get(result.verdict.verdict, "FAILED"),
        "configuration": [
            _subject("calibrationSamples", result.data.calibration.sha256),
            _subject("validationSamples", result.data.validation.sha256),
        ],
        "passedTests": named(Verdict.PASS),
        "failedTests": named(Verdict.FAIL, Verdict.NO_EVIDENCE, Verdict.INCONCLUSIVE),
    }


def rfc3339(moment: datetime) -> str:
    """A moment in UTC as RFC 3339 writes it, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
