"""A run and its logged model on an MLflow server: made, or made whole if a try was cut short."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from calib.errors import StoreError
from calib.promotion.mlflow.connection import load
from calib.promotion.mlflow.model_folder import place_checked, write_model_folder
from calib.promotion.mlflow.record import (
    PACKAGE_TAG,
    metrics,
    parameters,
    run_tags,
)
from calib.promotion.package import BUNDLE_NAME, CARD_NAME, REPORT_NAME, WAIVERS_NAME, Package
from calib.store import place

MODEL_TYPE = "onnx"
_ADDED = (BUNDLE_NAME, CARD_NAME, REPORT_NAME, WAIVERS_NAME)
_BATCH = 100
_PRESENT = ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS")


def find_experiment(client: Any, name: str) -> str | None:
    """The id of the experiment; None where there is none.

    Raises:
        StoreError: if it was deleted: MLflow keeps its name.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        return None
    if found.lifecycle_stage != "active":
        raise StoreError(
            f"experiment {name}",
            "was deleted in MLflow, which keeps its name",
            fix=f"Restore it: mlflow experiments restore -x {found.experiment_id}",
        )
    return str(found.experiment_id)


def find_run(client: Any, experiment_id: str, package: Package) -> Any | None:
    """The first run that was made for this package, whole or not."""
    found = client.search_runs(
        [experiment_id],
        filter_string=f"tags.`{PACKAGE_TAG}` = '{package.sha256}'",
        order_by=["attributes.created ASC"],
        max_results=1,
    )
    return found[0] if found else None


def ready_model(client: Any, run: Any) -> Any | None:
    """The run's logged model, if it is whole."""
    return next((model for model in _models(client, run) if model.status == "READY"), None)


def _models(client: Any, run: Any) -> list[Any]:
    return list(
        client.search_logged_models(
            [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
        )
    )


class Upload:
    """What a package needs on a server before a version can be made of it.

    Each step gives the same when it is done again, so that a try that was cut short is gone on
    with: the run is found by its tag, figures have the run's own time, files replace themselves.

    Args:
        client: an `MlflowClient`.
        package: what is promoted.
    """

    def __init__(self, client: Any, package: Package) -> None:
        self._client = client
        self._package = package

    def complete(self) -> tuple[str, str]:
        """Upload what is missing.

        Returns:
            the ids of the run and of the logged model.
        """
        run = self._run()
        run_id = run.info.run_id
        model = ready_model(self._client, run)
        if model is None:
            try:
                model = self._fill(run)
            except BaseException:  # an interruption too
                with suppress(Exception):  # the server may be what failed
                    self._client.set_terminated(run_id, "FAILED")
                raise
        self._client.set_terminated(run_id, "FINISHED", end_time=self._end())
        return run_id, model.model_id

    def _run(self) -> Any:
        result = self._package.result
        experiment = find_experiment(self._client, result.experiment)
        if experiment is None:
            experiment = self._new_experiment(result.experiment)
        found = find_run(self._client, experiment, self._package)
        if found is not None:
            return found
        return self._client.create_run(
            experiment,
            start_time=self._start(),
            tags=run_tags(self._package),
            run_name=result.run_id,
        )

    def _new_experiment(self, name: str) -> str:
        try:
            return str(self._client.create_experiment(name))
        except Exception as error:
            if getattr(error, "error_code", "") not in _PRESENT:
                raise
            return str(self._client.get_experiment_by_name(name).experiment_id)

    def _fill(self, run: Any) -> Any:
        """The run's figures and files, then its model; it is READY when all of it has arrived."""
        client, run_id = self._client, run.info.run_id
        client.update_run(run_id, status="RUNNING")
        model = next(iter(_models(client, run)), None) or client.create_logged_model(
            experiment_id=run.info.experiment_id,
            name=self._package.candidate.name,
            source_run_id=run_id,
            tags={PACKAGE_TAG: self._package.sha256},
            model_type=MODEL_TYPE,
        )
        self._log_figures(run_id, model.model_id)
        self._log_files(run_id)
        self._link(run_id, model.model_id)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "model")
            write_model_folder(
                self._package,
                folder,
                run_id=run_id,
                model_id=model.model_id,
                location=model.artifact_location,
            )
            client.log_model_artifacts(model.model_id, str(folder))
            self._check_arrived(model.model_id, folder)
        return client.finalize_logged_model(model.model_id, "READY")

    def _log_figures(self, run_id: str, model_id: str) -> None:
        entities = load("mlflow.entities")
        figures = [
            entities.Metric(key, value, self._start(), 0, model_id=model_id, run_id=run_id)
            for key, value in metrics(self._package).items()
        ]
        settings = [entities.Param(key, value) for key, value in parameters(self._package).items()]
        for part in _parts(settings):
            self._client.log_batch(run_id, params=part)
        for part in _parts(figures):
            self._client.log_batch(run_id, metrics=part)

    def _log_files(self, run_id: str) -> None:
        """What lies in the run's folder itself, and what the package adds to it.

        That is report, results and tables; model card, statements and waivers. Where something is
        waived, the report that says so stands for the run's own.
        """
        added = [file for file in self._package.files if file.name in _ADDED]
        names = {file.name for file in added}
        with tempfile.TemporaryDirectory() as scratch:
            for path in self._package.folder.iterdir():
                if path.is_file() and not path.name.startswith(".") and path.name not in names:
                    place(path, Path(scratch, path.name))
            for file in added:
                place_checked(file, Path(scratch))
            self._client.log_artifacts(run_id, scratch)

    def _link(self, run_id: str, model_id: str) -> None:
        """Tell the run that the model is its own; MLflow refuses to be told twice."""
        outputs = self._client.get_run(run_id).outputs
        if outputs is None or model_id not in {o.model_id for o in outputs.model_outputs}:
            output = load("mlflow.entities").LoggedModelOutput(model_id, step=0)
            self._client.log_outputs(run_id, [output])

    def _check_arrived(self, model_id: str, folder: Path) -> None:
        """Hold what the server lists against what was sent, by name and size."""
        there = dict(_listed(self._client, model_id, None))
        for path in folder.rglob("*"):
            if not path.is_file():
                continue
            name = path.relative_to(folder).as_posix()
            if name not in there or there[name] not in (None, path.stat().st_size):
                raise StoreError(
                    name,
                    "did not arrive whole",
                    got=f"{there[name]} bytes" if name in there else "nothing",
                    expected=f"{path.stat().st_size} bytes",
                    fix="Promote again.",
                )

    def _start(self) -> int:
        """When the run began, in ms since 1970."""
        return int(datetime.fromisoformat(self._package.result.started_at).timestamp() * 1000)

    def _end(self) -> int:
        return self._start() + int(self._package.result.seconds * 1000)


def _listed(client: Any, model_id: str, path: str | None) -> Iterator[tuple[str, int | None]]:
    for item in client.list_logged_model_artifacts(model_id, path):
        if item.is_dir:
            yield from _listed(client, model_id, item.path)
        else:
            yield item.path, item.file_size


def _parts(items: list[Any]) -> Iterator[list[Any]]:
    """As many at a time as MLflow takes."""
    rest = iter(items)
    while part := list(islice(rest, _BATCH)):
        yield part
