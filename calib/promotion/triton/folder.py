"""All of a model's folder in a Triton repository, made from a package."""

from pathlib import Path

from calib.backends.served import ServedModel
from calib.errors import BackendError, StoreError
from calib.graph.signature import Signature, read_signature
from calib.promotion.bundle import copy_checked
from calib.promotion.package import Package
from calib.promotion.target import TargetOptions
from calib.promotion.triton.batching import batching, profile_limit
from calib.promotion.triton.check import WARMUP_FOLDER
from calib.promotion.triton.config import Facts, config_of, verdict_text
from calib.promotion.triton.schema import CONFIG_NAME, config_text
from calib.promotion.triton.served import ONNXRUNTIME, Served, what_is_served
from calib.promotion.triton.version import RECORD_NAME, VersionRecord
from calib.promotion.triton.warmup import WarmUp, kept_samples, warm_up
from calib.store import write_atomically


def facts_of(package: Package, digest: str, number: int, options: TargetOptions) -> Facts:
    """What the folder and the configuration of a new version are made of.

    The served model is opened, to see what ONNX Runtime makes of it.

    Args:
        package: what is promoted.
        digest: of its files.
        number: of the version.
        options: whether it is warmed up.

    Raises:
        InputError: if Triton cannot serve it.
    """
    served = what_is_served(package)
    samples = kept_samples(package)
    ends, model = _ends(served)
    found = batching(package, served, ends, samples, model)
    warmup = warm_up(package, ends, found, samples) if options.warmup else WarmUp()
    facts = Facts(package, digest, number, served, ends, found, warmup)
    config_of(facts)  # refuses what Triton cannot serve
    return facts


def _ends(served: Served) -> tuple[Signature, ServedModel | None]:
    """Inputs and outputs as the server's runtime sees them, and a session to see the batch.

    An engine's are taken to be those of the ONNX file that it was built from, as ONNX Runtime
    infers them; as the file says them, where ONNX Runtime does not take it.
    """
    if not isinstance(served.source.source, Path):
        raise StoreError(served.source.name, "must be a file of the run")
    declared = read_signature(served.source.source)
    try:
        model = ServedModel(served.source.source, served.session)
    except BackendError:
        if served.backend == ONNXRUNTIME:
            raise
        return declared, None
    return Signature(model.inputs, model.outputs, declared.shapeless), model


def fill(folder: Path, facts: Facts) -> None:
    """Write all of a model's folder with one version in it.

    Raises:
        StoreError: if a file is not what it was when it was packed.
    """
    number = facts.version
    version = folder / str(number)
    version.mkdir(parents=True)
    for path in (folder, version):
        path.chmod(0o755)
    for name, file in facts.served.files.items():
        with (version / name).open("wb") as out:
            copy_checked(file, out)
    text = config_text(config_of(facts))
    record = _record(facts)
    write_atomically(version / RECORD_NAME, record.model_dump_json(indent=1) + "\n")
    for path in (version / CONFIG_NAME, folder / CONFIG_NAME):
        write_atomically(path, text)
    for name, content in (facts.warmup.files or {}).items():
        write_atomically(folder / WARMUP_FOLDER / str(number) / name, content)


def _record(facts: Facts) -> VersionRecord:
    package, served = facts.package, facts.served
    limit = profile_limit(served, facts.batching.axes)
    return VersionRecord(
        package_sha256=facts.digest,
        experiment=package.result.experiment,
        run_id=package.result.run_id,
        candidate=package.candidate.name,
        verdict=verdict_text(package),
        files={name: file.sha256 for name, file in sorted(served.files.items())},
        inputs=facts.ends.inputs,
        outputs=facts.ends.outputs,
        profile_limit=int(limit) if served.engines and limit != float("inf") else None,
    )
