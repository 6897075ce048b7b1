"""What the tests of MLflow do again and again."""

from dataclasses import replace

import mlflow

from calib.promotion.mlflow import open_target
from calib.promotion.target import TargetOptions

CLIENT = mlflow.MlflowClient


def target(server, alias="champion"):
    return open_target(f"mlflow:{server}", TargetOptions(alias=alias))


def another(package, *waived):
    """The same model, let go by a waiver, of a run with fewer files: another package."""
    return replace(package, waived=waived, folder=package.folder / "models")


def aliases(client, package):
    found = client.get_registered_model(package.name).aliases
    return {alias: int(version) for alias, version in found.items()}


def versions(client, package):
    return client.search_model_versions(f"name='{package.name}'")


def uploaded(client, package):
    """The package's run, and its logged models."""
    (version, *_) = versions(client, package)
    run = client.get_run(version.run_id)
    filter_string = f"source_run_id = '{run.info.run_id}'"
    found = client.search_logged_models([run.info.experiment_id], filter_string=filter_string)
    return run, found


def interposed(monkeypatch, method, before=None, after=None):
    """Do something once, just before or after a real call of MLflow's client."""
    real = getattr(CLIENT, method)

    def call(self, *args, **kwargs):
        monkeypatch.setattr(CLIENT, method, real)
        if before is not None:
            before()
        found = real(self, *args, **kwargs)
        if after is not None:
            after()
        return found

    monkeypatch.setattr(CLIENT, method, call)


def interrupt():
    raise KeyboardInterrupt
