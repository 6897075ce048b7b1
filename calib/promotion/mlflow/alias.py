"""The alias that servers follow, and what became of it while we moved it."""

import re
import uuid
from dataclasses import dataclass
from typing import Any

from calib.errors import ConfigError, StoreError

CHAMPION = "champion"
PREVIOUS = "previous"

_ALPHABET = re.compile(r"[A-Za-z0-9_-]{1,255}")
_VERSION_LIKE = re.compile(r"[vV]\d+")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the aliases of a registered model stand.

    Attributes:
        current: the version that the alias names; None where there is none.
        previous: likewise, of the alias that keeps the former one.
        ticket: who was the last to begin to move the alias, of all who use this program.
    """

    current: int | None = None
    previous: int | None = None
    ticket: str = ""


def check_alias(alias: str) -> None:
    """Refuse what MLflow, or we, keep for something else.

    Raises:
        ConfigError: if it is such a name.
    """
    if not _ALPHABET.fullmatch(alias):
        raise ConfigError(
            "--alias", "is no alias", got=repr(alias), expected="letters, digits, - and _"
        )
    kept = alias.lower() == "latest" or _VERSION_LIKE.fullmatch(alias)
    if kept or alias == PREVIOUS or alias.startswith(f"{PREVIOUS}-"):
        owner = "MLflow" if kept else "the version before"
        raise ConfigError(
            "--alias", f"is kept for {owner}", got=alias, expected=f"another, e.g. {CHAMPION}"
        )


def previous_of(alias: str) -> str:
    """The alias that keeps the version before: one of each, so that none undoes another's."""
    return PREVIOUS if alias == CHAMPION else f"{PREVIOUS}-{alias}"


def _ticket_tag(alias: str) -> str:
    return f"calib.promotion.{alias}"


def read_standing(client: Any, name: str, alias: str) -> Standing:
    """Where the aliases stand now, in one question.

    Args:
        client: an `MlflowClient`.
        name: of a registered model that is there.
        alias: that is to move.
    """
    model = client.get_registered_model(name)

    def version(key: str) -> int | None:
        found = model.aliases.get(key)
        return None if found is None else int(found)

    return Standing(
        version(alias), version(previous_of(alias)), model.tags.get(_ticket_tag(alias), "")
    )


def move_alias(client: Any, name: str, alias: str, version: int, before: Standing) -> None:
    """Move the alias to a finished version and keep the former one.

    MLflow knows no compare-and-swap. So whoever moves an alias first leaves a ticket, and looks
    before and after: if the alias is not where it was when the promotion began, nothing is moved;
    if it is not ours afterwards, or another ticket lies there, somebody else moves it too. Of two
    that move it at once the last one to write prevails, and at least one of them says so here. In
    all cases the alias names a version that is whole and was let go. Nothing is put back: that
    could undo what the other one did.

    Args:
        client: an `MlflowClient`.
        name: of the registered model.
        alias: that is to move.
        version: to which.
        before: where the aliases stood when the promotion began.

    Raises:
        StoreError: if somebody else moves it.
    """
    ticket = f"{version} {uuid.uuid4().hex}"
    client.set_registered_model_tag(name, _ticket_tag(alias), ticket)
    now = read_standing(client, name, alias)
    if now.current == version:
        return  # somebody else promoted the same
    if now.current != before.current:
        raise _raced(name, alias, version, now, "moved while this was promoted; it is left there")
    if now.ticket != ticket:
        raise _raced(name, alias, version, now, "is being moved by somebody else; it is left there")
    if now.current is not None:
        # First, so that there is a way back at each moment.
        client.set_registered_model_alias(name, previous_of(alias), str(now.current))
    client.set_registered_model_alias(name, alias, str(version))
    after = read_standing(client, name, alias)
    if after.current != version:
        raise _raced(name, alias, version, after, "was moved on right away; it is left there")
    if after.ticket != ticket and not after.ticket.startswith(f"{version} "):
        raise _raced(name, alias, version, after, "is being moved by somebody else as well")


def _raced(name: str, alias: str, version: int, now: Standing, problem: str) -> StoreError:
    return StoreError(
        f"alias {alias} of {name}",
        problem,
        got="no version" if now.current is None else f"version {now.current}",
        expected=f"version {version}",
        fix=f"Version {version} is registered. Promote it again to move the alias to it.",
    )
