"""Waivers: a limit that somebody answers for, signed, for a time."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from securesystemslib.signer import Key

from calib.errors import StoreError
from calib.evidence.bundle import read_bundle
from calib.evidence.statements import STATEMENT, rfc3339
from calib.results import Waiver

__all__ = ["WAIVER", "Waiver", "read_waivers", "waiver_statement"]

WAIVER = "https://calib.dev/attestation/waiver/v1"


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
