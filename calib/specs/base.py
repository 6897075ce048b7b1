"""What the parts of a config have in common."""

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A strict, frozen part of the config: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
