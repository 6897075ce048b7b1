"""An MLflow model's folder around the very bytes that were judged."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from calib.deployment import SETTINGS_NAME
from calib.errors import StoreError
from calib.graph.interface import Interface, read_interface
from calib.promotion.bundle import copy_checked
from calib.promotion.mlflow.connection import load
from calib.promotion.package import MODEL_NAME, REPORT_NAME, WARMUP_NAME, Package, PackedFile
from calib.results import TensorSpec

_OPTIMIZATION = {
    "ORT_DISABLE_ALL": 0,
    "ORT_ENABLE_BASIC": 1,
    "ORT_ENABLE_EXTENDED": 2,
    "ORT_ENABLE_ALL": 99,
}
_REQUIRED = ("onnx", "onnxruntime")


def write_model_folder(
    package: Package, folder: Path, *, run_id: str, model_id: str, location: str
) -> None:
    """Write what `mlflow.onnx.log_model` would upload, with our file as it is.

    MLflow writes a model anew, with its weights outside: another file, with another digest, than
    the one that was judged. So its own file is replaced by ours, with the weights, scales,
    settings, engines and evidence that belong to it. Weights beside the file are never read,
    whatever their size.

    Args:
        package: what is promoted.
        folder: that does not exist yet.
        run_id: MLflow's, of the run that it comes from.
        model_id: of the logged model.
        location: of the logged model's artifacts.

    Raises:
        StoreError: if a file is not what it was when it was packed, or bears a name of MLflow's.
        ModelError: if the model is no ONNX file.
    """
    onnx_flavor, models = load("mlflow.onnx"), load("mlflow.models")
    interface = read_interface(_source(package.model, folder))
    described = models.Model(
        artifact_path=location, run_id=run_id, model_uuid=model_id, model_id=model_id
    )
    providers, options = _session(package)
    onnx_flavor.save_model(
        interface.proto,
        str(folder),
        mlflow_model=described,
        signature=_signature(interface),
        pip_requirements=_requirements(package),
        onnx_execution_providers=providers,
        onnx_session_options=options,
        metadata={"calib.model_sha256": package.candidate.model_sha256},
        save_as_external_data=False,
    )
    for file in model_files(package):
        place_checked(file, folder)
    described.model_size_bytes = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    described.save(str(folder / "MLmodel"))


def _source(file: PackedFile, folder: Path) -> Path:
    if isinstance(file.source, Path):
        return file.source
    path = folder.with_name(f"{folder.name}-{MODEL_NAME}")
    path.write_bytes(file.source)
    return path


def model_files(package: Package) -> tuple[PackedFile, ...]:
    """What belongs to the model itself; not what holds samples: the report, a batch to warm up."""
    return tuple(file for file in package.files if file.name not in (REPORT_NAME, WARMUP_NAME))


def place_checked(file: PackedFile, folder: Path) -> None:
    """Write a file of the package into a folder; what lies there stays, but for the model.

    Raises:
        StoreError: if it is not what it was when it was packed, or bears a name of MLflow's.
    """
    target = folder / file.name
    if target.exists() and file.name != MODEL_NAME:
        raise StoreError(file.name, "bears the name of a file that MLflow writes")
    with target.open("wb") as sink:
        copy_checked(file, sink)


def _signature(interface: Interface) -> Any:
    """MLflow's signature; None where a type is none of NumPy's own, such as bfloat16."""
    models, types = load("mlflow.models"), load("mlflow.types")
    ends = []
    for specs in (interface.inputs, interface.outputs):
        if any(not _is_numpys(spec) for spec in specs):
            return None
        ends.append(
            types.Schema([types.TensorSpec(np.dtype(s.dtype), _shape(s), s.name) for s in specs])
        )
    return models.ModelSignature(inputs=ends[0], outputs=ends[1])


def _is_numpys(spec: TensorSpec) -> bool:
    try:
        return np.dtype(spec.dtype).isbuiltin == 1
    except TypeError:
        return False


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(axis if isinstance(axis, int) else -1 for axis in spec.shape)


def _requirements(package: Package) -> list[str]:
    """With which it was measured; MLflow adds itself."""
    packages = package.result.environment.packages
    return [f"{name}=={packages[name]}" if name in packages else name for name in _REQUIRED]


def _session(package: Package) -> tuple[list[str] | None, dict[str, Any] | None]:
    """Providers and options of the session that it was measured with, where there was one.

    Threads only where the experiment asks for a number: all of one machine are few of another.
    """
    file = next((file for file in package.files if file.name == SETTINGS_NAME), None)
    if file is None:
        return None, None
    given = json.loads(file.read())
    options = {
        "graph_optimization_level": _OPTIMIZATION[given["optimization"]],
        "extra_session_config": given["entries"],
    }
    if package.result.config.get("backend", {}).get("threads"):
        options["intra_op_num_threads"] = given["threads"]
    return given["providers"], options
