"""Speaking to MLflow: without a word of its own on our terminal, and with one message if it fails.

Every MLflow module is imported here and only when it is needed: it takes over a second, and is an
extra.
"""

import importlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any

from calib.errors import ConfigError, InputError, StoreError
from calib.promotion.mlflow.address import Address
from calib.promotion.passwords import without_passwords

_PIP = 'pip install "calib[mlflow]"'
_PIP_STORE = 'pip install "mlflow>=3.1,<4", and the driver of a database other than SQLite'
_OURS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    # MLflow's own seven tries take four minutes to say that a server is gone.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""What we set where the user has not."""
_FIRST = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""For the first question, in seconds: an upload may take longer, a live server's first word not."""
_LOGGERS = ("mlflow", "alembic", "urllib3", "git")
_LONGEST = 300
_DENIED = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")


def check_installed(address: Address) -> None:
    """Refuse before anything else is done.

    Raises:
        ConfigError: if MLflow, or what it needs for a database without a server, is not there.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError("mlflow", "is not installed", fix=_PIP)
    if address.is_database and importlib.util.find_spec("sqlalchemy") is None:
        raise ConfigError(f"mlflow:{address}", "needs more than MLflow's client", fix=_PIP_STORE)


@contextmanager
def mlflow_quiet() -> Iterator[ModuleType]:
    """MLflow, with our settings and without its output while we use it.

    Raises:
        ConfigError: if it is not installed.
    """
    # Its threads and its imports read this one at any time, so it stays.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", _OURS["MLFLOW_DISABLE_TELEMETRY"])
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with _defaults(_OURS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = load("mlflow")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield module
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def load(name: str) -> ModuleType:
    """A module of MLflow.

    Raises:
        ConfigError: if it, or what it needs, is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError("mlflow", f"cannot be used here: {error}", fix=_PIP) from error


@contextmanager
def connected(address: Address) -> Iterator[Any]:
    """An `MlflowClient` that has been answered once.

    Raises:
        StoreError: if the server cannot be reached, or refuses anything that is asked of it inside.
        ConfigError: if MLflow, or what this kind of store needs, is not installed.
    """
    with _environment({"MLFLOW_TRACKING_URI": address.uri}), mlflow_quiet() as mlflow:
        # The variable, because a registry in a database asks for the run behind a version there.
        try:
            with _defaults(_FIRST):
                client = mlflow.MlflowClient(tracking_uri=address.uri)
                client.search_experiments(max_results=1)
            yield client
        except InputError:
            raise
        except ImportError as error:
            raise ConfigError(
                f"mlflow:{address}", f"needs more than the client: {error}", fix=_PIP_STORE
            ) from error
        except Exception as error:  # of MLflow, requests, SQLAlchemy, or a disk
            raise _refused(address, error) from error


def _defaults(values: dict[str, str]) -> AbstractContextManager[None]:
    """Environment variables where the user has not set them, for a while."""
    return _environment({n: v for n, v in values.items() if n not in os.environ})


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _refused(address: Address, error: Exception) -> StoreError:
    """One line about whatever went wrong."""
    where = f"mlflow:{address}"
    chain = list(_chain(error))
    deepest = chain[-1]
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    text = _short(str(error))
    code = str(getattr(error, "error_code", ""))
    if names & {"ConnectionError", "Timeout", "NewConnectionError", "gaierror"}:
        return StoreError(
            where,
            "cannot be reached",
            got=_short(str(deepest)) or type(deepest).__name__,
            fix="Check the URI, and that the server runs.",
        )
    if code in _DENIED or "error code 401" in text or "error code 403" in text:
        return StoreError(
            where,
            "does not let you",
            got=text,
            fix="Check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN, and what that user may do.",
        )
    if "error code 404" in text or "valid JSON" in text:
        return StoreError(
            where,
            "answers, but not as an MLflow 3 server does",
            got=text,
            fix="Check the URI and the server's version.",
        )
    return StoreError(where, "refused", got=text or type(error).__name__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, urllib3's reasons too."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        reason = getattr(link, "reason", None)
        inner = reason if isinstance(reason, BaseException) else None
        link = link.__cause__ or link.__context__ or inner


def _short(text: str) -> str:
    said = text.partition(". Response body:")[0]  # a page of HTML
    first = next((line.strip() for line in said.splitlines() if line.strip()), "")
    shown = without_passwords(first)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
