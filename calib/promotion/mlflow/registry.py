"""MLflow's registry as a place that models are promoted to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from calib.errors import ConfigError, StoreError
from calib.promotion.bundle import megabytes_of
from calib.promotion.mlflow.address import Address
from calib.promotion.mlflow.alias import (
    Standing,
    check_alias,
    move_alias,
    previous_of,
    read_standing,
)
from calib.promotion.mlflow.connection import check_installed, connected
from calib.promotion.mlflow.model_folder import model_files
from calib.promotion.mlflow.record import PACKAGE_TAG, version_tags
from calib.promotion.mlflow.upload import Upload, find_experiment, find_run, ready_model
from calib.promotion.package import Package
from calib.promotion.target import TargetOptions
from calib.results import Verdict

_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
_DONE = {"log": "logged", "register": "registered", "move": "moved", "keep": "kept"}
_PRESENT = ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS")


@dataclass(frozen=True, slots=True)
class _Found:
    """What is there of a package.

    Attributes:
        version: that holds it.
        run: MLflow's id of the run that was made for it, whole or not.
        is_whole: whether that run's model is.
        has_model: whether there is a registered model of this name.
        standing: of its aliases.
    """

    version: int | None = None
    run: str | None = None
    is_whole: bool = False
    has_model: bool = False
    standing: Standing = field(default_factory=Standing)


class MlflowRegistry:
    """A tracking server with its model registry.

    Args:
        address: of the server.
        options: of which `alias` is taken; MLflow numbers versions itself.

    Raises:
        ConfigError: if the alias cannot be used, or MLflow is not there.
    """

    def __init__(self, address: Address, options: TargetOptions) -> None:
        check_alias(options.alias)
        check_installed(address)
        self._address = address
        self._alias = options.alias

    def plan(self, package: Package) -> tuple[str, ...]:
        """See `calib.promotion.target.Target`."""
        self._check(package)
        if self._address.missing_file is not None:
            return (f"make {self._address}", *_said(self._steps(package, _Found())))
        with connected(self._address) as client:
            found = self._look(client, package)
        return _said(self._steps(package, found))

    def promote(self, package: Package) -> tuple[str, ...]:
        """See `calib.promotion.target.Target`.

        What was uploaded before an error stays and is taken up by the next try; until all of it is
        there no version is made, and no alias moves before the version is there.
        """
        self._check(package)
        made = self._address.missing_file is not None
        with connected(self._address) as client:
            found = self._look(client, package)
            version = found.version or self._register(client, package)
            if found.standing.current != version:
                move_alias(client, package.name, self._alias, version, found.standing)
        done = _said(self._steps(package, found, version), _DONE)
        return (f"made {self._address}", *done) if made else done

    def _check(self, package: Package) -> None:
        """Refuse what was not let go, and what MLflow would not call by its name."""
        if package.verdict.verdict is not Verdict.PASS:
            raise StoreError(
                package.name,
                "is not promoted",
                got=package.verdict.verdict.value,
                expected="PASS, by the limits or with waivers",
            )
        name = package.name
        if not name.strip() or name != name.strip() or set(name) & set("/:") or name in (".", ".."):
            raise ConfigError(
                "--name", "is no name for MLflow", got=repr(name), expected="no / and no :"
            )

    def _look(self, client: Any, package: Package) -> _Found:
        standing, has_model = Standing(), True
        try:
            standing = read_standing(client, package.name, self._alias)
        except Exception as error:  # whatever the kind of store raises; MLflow's have a code
            if getattr(error, "error_code", "") not in _ABSENT:
                raise
            has_model = False
        version = _find_version(client, package) if has_model else None
        if version is not None:
            return _Found(version, has_model=True, standing=standing)
        experiment = find_experiment(client, package.result.experiment)
        run = find_run(client, experiment, package) if experiment is not None else None
        is_whole = run is not None and ready_model(client, run) is not None
        return _Found(None, run.info.run_id if run else None, is_whole, has_model, standing)

    def _steps(
        self, package: Package, found: _Found, version: int | None = None
    ) -> Iterator[tuple[str, str]]:
        """What is to be done, or was: a verb, and the rest.

        Args:
            package: what is promoted.
            found: what was there before.
            version: that holds it, if it is known.
        """
        result = package.result
        if found.version is None:
            if not found.is_whole:
                files = model_files(package)
                begun = f" (begun before, as {found.run})" if found.run else ""
                yield (
                    "log",
                    f"run {result.run_id} in experiment {result.experiment}{begun}: "
                    f"{len(files)} files with the model, {megabytes_of(files)}",
                )
            new = f"version {version}" if version is not None else "a new version"
            yield "register", f"{package.candidate.name} as {new} of {package.name}"
        goal, now = found.version or version, found.standing
        if goal is not None and goal == now.current:
            return
        came = "" if now.current is None else f" from version {now.current}"
        to = "that version" if goal is None else f"version {goal}"
        is_back = found.version is not None and found.version < (now.current or 0)
        back = ", an earlier one: this rolls back" if is_back else ""
        yield "move", f"alias {self._alias}{came} to {to}{back}"
        if now.current is not None and now.previous != now.current:
            yield "keep", f"version {now.current} as alias {previous_of(self._alias)}"

    def _register(self, client: Any, package: Package) -> int:
        """Upload what is missing and make a version of it."""
        run_id, model_id = Upload(client, package).complete()
        try:
            client.create_registered_model(package.name)
        except Exception as error:
            if getattr(error, "error_code", "") not in _PRESENT:
                raise
        made = client.create_model_version(
            name=package.name,
            source=f"models:/{model_id}",
            run_id=run_id,
            model_id=model_id,
            tags=version_tags(package),
            description=package.verdict.reason,
        )
        first = _find_version(client, package) or int(made.version)
        if first != int(made.version):  # somebody else promoted the same at once
            client.delete_model_version(package.name, made.version)
        return first


def _said(
    steps: Iterator[tuple[str, str]], verbs: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    return tuple(f"{(verbs or {}).get(verb, verb)} {rest}" for verb, rest in steps)


def _find_version(client: Any, package: Package) -> int | None:
    """The first finished version that holds the package.

    Tags are compared here: not every kind of registry searches by them.
    """
    wanted = package.sha256
    quoted = package.name.replace("'", "''")
    found, token = [], None
    while True:
        page = client.search_model_versions(f"name='{quoted}'", page_token=token)
        found += [
            int(version.version)
            for version in page
            if version.tags.get(PACKAGE_TAG) == wanted and version.status == "READY"
        ]
        token = page.token
        if not token:
            return min(found, default=None)
