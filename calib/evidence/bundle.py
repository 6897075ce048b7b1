"""Signed statements in a file: one DSSE envelope a line."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key, Signer

from calib.errors import StoreError
from calib.store import write_atomically

PAYLOAD = "application/vnd.in-toto+json"
_BYTES_MAX = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement, and the ids of the keys whose signatures hold."""

    statement: dict[str, Any]
    signers: frozenset[str]


def write_bundle(
    statements: Iterable[dict[str, Any]], signers: Sequence[Signer], path: Path
) -> None:
    """Sign each statement with each key and write them, a line each.

    Raises:
        StoreError: if the file cannot be written.
    """
    lines = []
    for statement in statements:
        payload = json.dumps(
            statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        envelope = Envelope(payload.encode(), PAYLOAD, {})
        for signer in signers:
            envelope.sign(signer)
        lines.append(json.dumps(envelope.to_dict(), sort_keys=True))
    write_atomically(path, "".join(f"{line}\n" for line in lines))


def read_bundle(path: Path, keys: Sequence[Key], threshold: int) -> tuple[Signed, ...]:
    """The statements whose signatures hold; one that does not refuses all.

    Args:
        path: the file.
        keys: that may sign.
        threshold: how many of them must have signed each statement.

    Raises:
        StoreError: if the file is none, was changed, or is signed by too few of the keys.
    """
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise StoreError(str(path), f"is larger than {_BYTES_MAX >> 20} MiB: no bundle")
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise StoreError(str(path), "there is no such bundle") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(str(path), f"cannot be read: {error}") from error
    if not lines:
        raise StoreError(str(path), "holds no statement")
    return tuple(
        _opened(line, number, path, keys, threshold) for number, line in enumerate(lines, start=1)
    )


def _opened(line: str, number: int, path: Path, keys: Sequence[Key], threshold: int) -> Signed:
    where = f"{path}:{number}"
    try:
        envelope = Envelope.from_dict(json.loads(line))
    except Exception as error:  # whatever a line that is no envelope makes the parsers raise
        raise StoreError(where, f"is no signed statement: {error}") from error
    try:
        accepted = envelope.verify(list(keys), threshold)
    except (VerificationError, ValueError) as error:
        raise StoreError(
            where,
            "is not signed by enough of the keys, or was changed",
            expected=f"{threshold} of {len(keys)} keys",
        ) from error
    if envelope.payload_type != PAYLOAD:
        raise StoreError(where, "is signed, but no in-toto statement", got=envelope.payload_type)
    try:
        statement = json.loads(envelope.payload)
    except ValueError as error:
        raise StoreError(where, f"is signed, but no JSON: {error}") from error
    return Signed(statement, frozenset(accepted))
