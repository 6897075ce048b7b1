"""One version's folder: what was put there, so that it can be found and checked again."""

from pathlib import Path

from pydantic import Field, ValidationError

from calib.errors import StoreError
from calib.graph.signature import Signature
from calib.record import Record
from calib.results import TensorSpec
from calib.store import sha256_from_file

RECORD_NAME = "calib.json"


class VersionRecord(Record):
    """`calib.json` in a version's folder."""

    package_sha256: str = Field(description="Over the names and digests of the package's files.")
    experiment: str
    run_id: str
    candidate: str
    verdict: str
    files: dict[str, str] = Field(description="SHA-256 by name, of what Triton reads and beside.")
    inputs: tuple[TensorSpec, ...] = Field(description="As the server's runtime sees them.")
    outputs: tuple[TensorSpec, ...]
    profile_limit: int | None = Field(
        default=None, description="The largest batch of the engine's profile."
    )

    @property
    def signature(self) -> Signature:
        """Inputs and outputs."""
        return Signature(self.inputs, self.outputs)

    def problems(self, folder: Path) -> list[str]:
        """Files that are gone or are not what was promoted."""
        found = []
        for name, digest in self.files.items():
            path = folder / name
            if not path.is_file():
                found.append(f"{name} is gone")
            elif sha256_from_file(path) != digest:
                found.append(f"{name} is not what was promoted")
        return found


def read_version(folder: Path) -> VersionRecord:
    """What was put into a version's folder.

    Raises:
        StoreError: if calib did not make it, or its record cannot be read.
    """
    path = folder / RECORD_NAME
    try:
        return VersionRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise StoreError(
            str(folder),
            "is a version that calib did not put there",
            fix="Give the model another name, or move it away.",
        ) from error
    except (OSError, ValidationError) as error:
        raise StoreError(str(path), f"cannot be read: {error}") from error
