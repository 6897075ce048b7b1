"""Waivers: a limit that somebody answers for, for a time."""

from datetime import UTC, datetime

from pydantic import AwareDatetime, Field

from calib.record import Record


class Waiver(Record):
    """One limit of one model, let pass by somebody who answers for it."""

    limit: str = Field(description="The limit's name, e.g. worst_class_drop_points_max.")
    model_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="The INT8 model it is for.")
    owner: str = Field(min_length=3, description="Who answers for it.")
    reason: str = Field(min_length=10, description="Why.")
    expires: AwareDatetime = Field(description="When it ends, with time zone.")


def holds(waiver: Waiver, limit: str, model_sha256: str, now: datetime | None = None) -> bool:
    """Whether it lets this limit of this model pass now."""
    moment = now or datetime.now(UTC)
    return waiver.limit == limit and waiver.model_sha256 == model_sha256 and waiver.expires > moment
