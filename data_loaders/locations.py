"""Where files are: what a spec says of it, and the refusal of secrets in it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Location = Annotated[str, BeforeValidator(lambda v: str(v) if isinstance(v, Path) else v)]
"""A path, a pattern of paths, or a URL."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")
_SECRET = re.compile(
    r"secret|passw|passphrase|token|credential|signature|sas\b|^sig$|^sas|auth|cookie|header"
    r"|connection_string|private|access_?key|account_?key|api_?key|^key$|^pwd$",
    re.IGNORECASE,
)
_NO_SECRETS = ("anon", "cloud", "google_default", "cache")
"""What gcsfs takes for a token and is the name of a way to get one."""


class StoredSpec(BaseModel):
    """What reads files that may be remote."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    storage: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of fsspec for a URL, e.g. `{anon: true}` or `{endpoint_url: …}`. "
        "Secrets are refused: they belong into the environment.",
    )

    @model_validator(mode="after")
    def _holds_no_secret(self) -> "StoredSpec":
        # Of the whole model, so that the message does not show the value.
        for name, value in self:
            if name == "storage":
                _refuse_secret_options(value, name)
            elif isinstance(value, str) and is_remote(value):
                _refuse_secret_url(value, name)
        return self


def _refuse_secret_options(options: Mapping[str, Any], where: str) -> None:
    for key, value in options.items():
        place = f"{where}.{key}"
        if _SECRET.search(str(key)) and not (key == "token" and value in _NO_SECRETS):
            raise ValueError(
                f"{place} looks like a secret, which a run would keep with its results: give it "
                "in the environment, or where the service's own tools look for it"
            )
        if isinstance(value, Mapping):
            _refuse_secret_options(value, place)
        elif isinstance(value, str) and is_remote(value):
            _refuse_secret_url(value, place)


def _refuse_secret_url(url: str, where: str) -> None:
    parts = urlsplit(url.rpartition("::")[2])
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    found = next((n for n in names if _SECRET.search(n.rpartition("-")[2])), None)
    if parts.password or (parts.username and parts.scheme.startswith("http")):
        found = "a password"
    if found:
        raise ValueError(
            f"{where} holds {found} in its URL, which a run would keep with its results: give "
            "credentials in the environment, or fetch what a signed URL leads to first"
        )


def is_remote(location: str) -> bool:
    """Whether it is a URL."""
    return _URL.match(location) is not None and not location.startswith("file://")


def local_path(location: str) -> Path:
    """The path of a location that is no URL; `file://` is one of this machine."""
    return Path(location.removeprefix("file://"))
