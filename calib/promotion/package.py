"""What is promoted: a model that was judged, and everything that goes with it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from calib.errors import StoreError
from calib.results import CandidateRecord, RunResult, RunVerdict, Waiver
from calib.store import digest_from_key, sha256_from_file

MODEL_NAME = "model.onnx"
BUNDLE_NAME = "run.intoto.jsonl"
WAIVERS_NAME = "waivers.intoto.jsonl"
CARD_NAME = "model_card.md"
REPORT_NAME = "report.html"
WARMUP_NAME = "warmup.npz"
PLAN = ".plan"
_DRAWN = (CARD_NAME, REPORT_NAME)


@dataclass(frozen=True, slots=True)
class PackedFile:
    """One file of a package.

    Attributes:
        name: its path within the package, with `/`.
        source: the file, or its content.
        sha256: of the content, in hex.
    """

    name: str
    source: Path | bytes
    sha256: str

    @classmethod
    def of(cls, name: str, source: Path | bytes) -> "PackedFile":
        """With the digest of what it is now."""
        if isinstance(source, bytes):
            return cls(name, source, hashlib.sha256(source).hexdigest())
        return cls(name, source, sha256_from_file(source))

    def read(self) -> bytes:
        """The content.

        Raises:
            OSError: if the file is gone.
        """
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


@dataclass(frozen=True, slots=True)
class Package:
    """A judged candidate and what goes with it, with the verdict that lets it go.

    Attributes:
        name: of the model where it is served.
        result: of the run.
        candidate: what is promoted.
        verdict: PASS, by the run's limits or with waivers.
        waived: limits that somebody answers for.
        folder: the run's directory.
        files: the model first, then its weights, scales, session, engines and evidence.
        waivers: those that let the waived limits pass.
    """

    name: str
    result: RunResult
    candidate: CandidateRecord
    verdict: RunVerdict
    waived: tuple[str, ...]
    folder: Path
    files: tuple[PackedFile, ...]
    waivers: tuple[Waiver, ...] = ()

    @property
    def model(self) -> PackedFile:
        """The candidate's ONNX file; weights outside it lie beside it."""
        return self.files[0]

    @property
    def sha256(self) -> str:
        """What makes two packages the same: files, run and waivers; not the name they go by.

        Pages for people are left out: another version of this program draws them anew.
        """
        files = {file.name: file.sha256 for file in self.files if file.name not in _DRAWN}
        waived = sorted(self.waived)
        return digest_from_key({"files": files, "run": self.result.run_id, "waived": waived})

    @property
    def engines(self) -> tuple[PackedFile, ...]:
        """Built engines, one for each target; none where ONNX Runtime is the backend."""
        return tuple(file for file in self.files if file.name.endswith(PLAN))


def files_of(candidate: CandidateRecord, folder: Path) -> Iterator[PackedFile]:
    """The files of one candidate, the model first.

    Args:
        candidate: which.
        folder: the run's directory.

    Raises:
        StoreError: if the model is gone, or it or an engine is not what was judged.
    """
    model = folder / candidate.model_path
    if not model.is_file():
        raise StoreError(str(model), "is gone: there is nothing to promote", fix="Run it again.")
    packed = PackedFile.of(MODEL_NAME, model)
    if packed.sha256 != candidate.model_sha256:
        raise StoreError(
            str(model),
            "is not the model that was judged",
            got=f"SHA-256 {packed.sha256[:16]}…",
            expected=f"{candidate.model_sha256[:16]}…",
            fix="Run it again.",
        )
    yield packed
    judged = {engine.plan_sha256 for engine in candidate.engines}
    for file in sorted(model.parent.iterdir()):
        if file.is_file() and file != model:
            packed = PackedFile.of(file.name, file)
            if file.suffix == PLAN and packed.sha256 not in judged:
                raise StoreError(
                    str(file),
                    "is no engine that was judged",
                    got=f"SHA-256 {packed.sha256[:16]}…",
                    fix="Take it out of the run's folder, or run again.",
                )
            yield packed
    for name in (BUNDLE_NAME, "quantization.yaml", "verdict.json"):
        if (folder / name).is_file():
            yield PackedFile.of(name, folder / name)
