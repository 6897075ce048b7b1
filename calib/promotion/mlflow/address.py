"""Where an MLflow server is, and what it may be told of that."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from calib.errors import ConfigError
from calib.promotion.passwords import without_passwords

SCHEME = "mlflow:"
_VARIABLE = "MLFLOW_TRACKING_URI"
_SERVERS = ("http", "https", "databricks", "databricks-uc")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_EXPECTED = "mlflow:http://host:5000, mlflow:sqlite:///mlflow.db, or mlflow: alone"


@dataclass(frozen=True, slots=True)
class Address:
    """A tracking URI.

    Attributes:
        uri: as MLflow takes it, with whatever password it holds.
    """

    uri: str

    def __str__(self) -> str:
        """Without a password: it stands in messages."""
        return without_passwords(self.uri)

    @property
    def is_database(self) -> bool:
        """Whether MLflow opens it here, in this process."""
        return urlsplit(self.uri).scheme.partition("+")[0] in _DATABASES

    @property
    def missing_file(self) -> Path | None:
        """SQLite: the database, if it is not there yet; opening it would make it."""
        scheme, _, rest = self.uri.partition(":///")
        if scheme.partition("+")[0] != "sqlite" or not rest:
            return None
        path = Path(rest.partition("?")[0])
        return None if path.exists() else path


def open_address(uri: str) -> Address:
    """The address that is meant by what follows `mlflow:`, or by all of it.

    Raises:
        ConfigError: if it is none.
    """
    rest = uri.removeprefix(SCHEME)
    where = "--to"
    if not rest:
        rest = os.environ.get(_VARIABLE, "")
        where = _VARIABLE
        if not rest:
            raise ConfigError(
                "--to", "names no server", got=uri, expected=f"{_EXPECTED} with {_VARIABLE} set"
            )
    address = Address(rest)
    try:
        parts = urlsplit(rest)
        known = _is_known(rest, parts.scheme.partition("+")[0], parts.hostname)
    except ValueError:  # of a port or an IPv6 address
        known = False
    if not known:
        shown = f"{SCHEME}{address}" if where == "--to" else address
        raise ConfigError(where, "is no MLflow server's URI", got=shown, expected=_EXPECTED)
    return address


def _is_known(uri: str, scheme: str, host: str | None) -> bool:
    if scheme in ("http", "https"):
        return bool(host)
    if scheme in _DATABASES:
        return "://" in uri
    return scheme in _SERVERS or uri in _SERVERS
