"""The query parameters of each request. An unknown one is refused: a misspelt filter would list everything."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from sandbox.circle.bodies import BLOCKCHAIN, UUID_PATTERN

# Of RFC 3339, with its zone: pydantic alone would take a number for a time, too.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d([.]\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _written_time(given: object) -> object:
    if not isinstance(given, str) or not _TIME.fullmatch(given):
        raise ValueError("not a time of RFC 3339")
    return given


Time = Annotated[datetime, BeforeValidator(_written_time)]
Cursor = Annotated[str, Field(pattern=UUID_PATTERN)]


class Query(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class PageQuery(Query):
    from_: Time | None = Field(None, alias="from")
    to: Time | None = None
    page_before: Cursor | None = None
    page_after: Cursor | None = None
    page_size: Annotated[int, Field(ge=1, le=50)] | None = None

    @property
    def ascending(self) -> bool:
        return False


class OrderedQuery(PageQuery):
    order: Literal["ASC", "DESC"] = "DESC"

    @property
    def ascending(self) -> bool:
        return self.order == "ASC"


class WalletQuery(OrderedQuery):
    address: str | None = None
    blockchain: BLOCKCHAIN | None = None
    wallet_set_id: Cursor | None = None
    ref_id: str | None = None


class BalanceQuery(Query):
    token_address: str | None = None


class TransactionQuery(OrderedQuery):
    blockchain: BLOCKCHAIN | None = None
    destination_address: str | None = None
    state: (
        Literal[
            "INITIATED", "CLEARED", "QUEUED", "SENT", "STUCK", "CONFIRMED", "COMPLETE", "FAILED", "DENIED", "CANCELLED"
        ]
        | None
    ) = None
    tx_hash: str | None = None
    tx_type: Literal["INBOUND", "OUTBOUND"] | None = None
    wallet_ids: str | None = None


class InstructionsQuery(Query):
    currency: Literal["USD", "EUR"] | None = None


class DepositQuery(PageQuery):
    type: Literal["wire"] | None = None


class PayoutQuery(PageQuery):
    destination: Cursor | None = None
    type: Literal["wire"] | None = None
    status: list[Literal["pending", "complete", "failed"]] | None = None
