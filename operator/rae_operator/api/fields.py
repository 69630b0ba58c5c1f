"""Building blocks of the models: one base class and the bounded types that several fields share.

Every text and list has an upper bound: the API server estimates the cost of each CEL rule from them, and a custom resource
must stay small in etcd.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

UUID_PATTERN = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
REASON_PATTERN = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
LABEL_PATTERN = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
#: Hours or days, as the reflection task reads them.
SINCE_PATTERN = r"^[1-9][0-9]{0,3}[hd]$"

MAX_MESSAGE = 1024
MAX_REASON = 64


class ApiModel(BaseModel):
    """A part of a custom resource; Python names in snake_case, the resource's in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


Reason = Annotated[str, Field(max_length=MAX_REASON, pattern=REASON_PATTERN)]
Message = Annotated[str, Field(max_length=MAX_MESSAGE)]
ObjectName = Annotated[str, Field(max_length=253)]
Timestamp = Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
