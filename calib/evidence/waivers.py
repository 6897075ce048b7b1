"""Waivers: a limit that somebody answers for, signed, for a time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError
from securesystemslib.signer import Key

from calib.errors import StoreError
from calib.evidence.bundle import read_bundle
from calib.evidence.statements import STATEMENT, rfc3339
from calib.record import Record

WAIVER = "https://calib.dev/attestation/waiver/v1"


class Waiver(Record):
    """One limit of one model, let pass by somebody who answers for it."""

    limit: str = Field(description="The limit's name, e.g. worst_class_drop_points_max.")
    model_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="The INT8 model it is for.")
    owner: str = Field(min_length=3, description="Who answers for it.")
    reason: str = Field(min_length=10, description="Why.")
    expires: datetime = Field(description="When it ends, with time zone.")


def waiver_statement(waiver: Waiver) -> dict[str, object]:
    """The waiver as a statement about its model."""
    content = waiver.model_dump(mode="json") | {"expires": rfc3339(waiver.expires)}
    return {
        "_type": STATEMENT,
        "subject": [{"name": "model", "digest": {"sha256": waiver.model_sha256}}],
        "predicateType": WAIVER,
        "predicate": content,
    }


def read_waivers(path: Path, keys: Sequence[Key], threshold: int) -> tuple[Waiver, ...]:
    """The waivers of a signed file, expired ones too.

    Raises:
        StoreError: if the file was changed, is signed by others, or holds something else.
    """
    found = []
    for signed in read_bundle(path, keys, threshold):
        if signed.statement.get("predicateType") != WAIVER:
            raise StoreError(str(path), "holds something else than waivers")
        try:
            found.append(Waiver.model_validate(signed.statement["predicate"]))
        except (KeyError, ValidationError) as error:
            raise StoreError(str(path), f"holds no waiver: {error}") from error
    return tuple(found)


def holds(waiver: Waiver, limit: str, model_sha256: str, now: datetime | None = None) -> bool:
    """Whether it lets this limit of this model pass now."""
    moment = now or datetime.now(UTC)
    return waiver.limit == limit and waiver.model_sha256 == model_sha256 and waiver.expires > moment
