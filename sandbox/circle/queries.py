"""The query parameters of each request. An unknown one is refused: a misspelt filter would list everything."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from sandbox.circle.bodies import BLOCKCHAIN, UUID_PATTERN

Cursor = Annotated[str, Field(pattern=UUID_PATTERN)]


class Query(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class PageQuery(Query):
    from_: datetime | None = Field(None, alias="from")
    to: datetime | None = None
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
