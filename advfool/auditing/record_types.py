"""The types and ranges that fields of audit.json have in common."""

from typing import Annotated

from annotated_types import Ge, Le, Len
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints


def _ascending(ends: list[float]) -> list[float]:
    if ends[0] > ends[1]:
        raise ValueError("the lower end is above the upper one")
    return ends


Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Words = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Difference = Annotated[float, Ge(-1), Le(1)]
Interval = Annotated[list[Difference], Len(2, 2), AfterValidator(_ascending)]
File = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+=,-][A-Za-z0-9_.+=,-]*$", max_length=150)]
Value = Annotated[str, StringConstraints(max_length=200)] | bool | int | float | None

Scores = Annotated[list[float], Len(0, 10_000)]


class Part(BaseModel):
    """A part of a record; keys that it does not know are allowed and left out."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, frozen=True, populate_by_name=True)
