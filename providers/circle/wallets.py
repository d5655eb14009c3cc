"""Developer-Controlled Wallets: stablecoins between wallets that Circle keeps for us.

The operator's own wallets are EOAs, which pay their network fees and may have many transfers under way; consumers' are
SCAs, whose fees Gas Station sponsors and which do one transfer at a time. A transfer carries `refId`, by which it is
found when its answer was lost: the item, and the key, because an item may be ordered again after an order failed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from domain.identity import OPERATOR, HolderId
from domain.money import Asset, Money
from providers.base import Accepted, Outcome, ProviderUnavailable, Retryable
from providers.circle.amounts import UnreadableAnswer, decimal_of, micros_of, micros_taken
from providers.circle.chains import CircleChain
from providers.circle.ciphertext import EntitySecret
from providers.circle.client import CircleClient, CircleFault, NoAnswer, Refused
from providers.circle.outcomes import WRONG_ENTITY_SECRET, outcome_of
from providers.circle.reading import field, identifier, instant, text, time_of
from providers.custodian import (
    CustodyWallet,
    Observation,
    OrderState,
    TransferOrder,
    WalletTransfer,
)

log = structlog.get_logger()

MAX_WALLETS = 200
# Clocks differ, and an order is persisted a while before it is sent.
LOOK_BACK = timedelta(hours=1)

_STATES = {
    "INITIATED": OrderState.PENDING,
    "CLEARED": OrderState.PENDING,
    "QUEUED": OrderState.PENDING,
    "SENT": OrderState.PENDING,
    "STUCK": OrderState.PENDING,
    "CONFIRMED": OrderState.CONFIRMED,
    "COMPLETE": OrderState.COMPLETE,
    "FAILED": OrderState.FAILED,
    "DENIED": OrderState.FAILED,
    "CANCELLED": OrderState.FAILED,
}


class CircleWallets:
    """The Circle rail."""

    name = "circle"
    rail = "circle"

    def __init__(self, client: CircleClient, secret: EntitySecret, chain: CircleChain, *, wallet_set: str) -> None:
        self._client = client
        self._secret = secret
        self._chain = chain
        self._wallet_set = wallet_set
        self._assets_by_token: dict[str, Asset | None] = {}
        self.assets = frozenset(chain.tokens)

    @property
    def chain(self) -> str:
        return self._chain.name

    # --- wallets ------------------------------------------------------------------------------------------------------

    async def create_wallets(self, *, key: UUID, count: int, own: bool) -> Sequence[CustodyWallet] | Outcome:
        assert 0 < count <= MAX_WALLETS, "Circle makes no more at once"
        body = {
            "idempotencyKey": str(key),
            "walletSetId": self._wallet_set,
            "blockchains": [self._chain.name],
            "accountType": "EOA" if own else "SCA",
            "count": count,
        }
        try:
            data = await self._order("/v1/w3s/developer/wallets", body)
            return [_wallet(one) for one in field(data, "wallets", list)]
        except CircleFault as fault:
            return outcome_of(fault)
        except UnreadableAnswer as fault:
            return outcome_of(NoAnswer(str(fault)))

    async def label(self, wallet: CustodyWallet, holder: UUID) -> None:
        try:
            await self._client.put(f"/v1/w3s/wallets/{wallet.reference}", {"refId": _label(holder)})
        except CircleFault as fault:
            raise ProviderUnavailable(f"circle: {fault}") from fault

    async def labelled(self, holder: UUID) -> CustodyWallet | None:
        wanted = {"walletSetId": self._wallet_set, "blockchain": self._chain.name, "refId": _label(holder)}
        async for page in self._client.pages("/v1/w3s/wallets", {**wanted, "order": "ASC"}):
            for one in field(page, "wallets", list):
                # Who is asked for one thing may answer with more.
                if one.get("refId") == _label(holder):
                    return _wallet(one)
        return None

    async def positions(self, wallet: CustodyWallet) -> Mapping[Asset, int]:
        standing = dict.fromkeys(self.assets, 0)
        for one in await self._balances(wallet.reference):
            asset = self._asset(field(one, "token", dict))
            if asset is not None:
                standing[asset] += micros_of(one.get("amount"))
        return standing

    # --- transfers ----------------------------------------------------------------------------------------------------

    async def start(self, order: TransferOrder) -> Outcome:
        body = {
            "idempotencyKey": str(order.key),
            "walletId": order.source.reference,
            "tokenAddress": self._chain.tokens[order.amount.asset],
            "blockchain": self._chain.name,
            "destinationAddress": order.destination_address,
            "amounts": [decimal_of(order.amount.micros)],
            "feeLevel": "MEDIUM",
            "refId": _reference_id(order),
        }
        try:
            data = await self._order("/v1/w3s/developer/transactions/transfer", body)
            return Accepted(identifier(data))
        except CircleFault as fault:
            return outcome_of(fault)
        except UnreadableAnswer as fault:
            return outcome_of(NoAnswer(str(fault)))

    async def observe(self, order: TransferOrder, reference: str | None = None) -> Observation:
        found = await self._transaction(reference) if reference is not None else None
        if found is None:
            found = await self._look_up(order)
        return self._observation(order, found) if found is not None else Observation(state=OrderState.ABSENT)

    async def transfer(self, reference: str) -> WalletTransfer | None:
        found = await self._transaction(reference)
        return await self._seen(found) if found is not None else None

    async def transfers(self, *, since: datetime, until: datetime) -> Sequence[WalletTransfer]:
        window = {"from": instant(since), "to": instant(until), "blockchain": self._chain.name, "order": "ASC"}
        return [await self._seen(one) async for one in self._transactions(window)]

    async def check(self) -> timedelta | Retryable:
        return await self._client.check("/v1/w3s/config/entity")

    # --- how ----------------------------------------------------------------------------------------------------------

    async def _order(self, path: str, body: dict[str, Any]) -> Any:
        """One write with the entity secret in it."""
        ciphertext = await self._secret.ciphertext()
        try:
            return (await self._client.post(path, {**body, "entitySecretCiphertext": ciphertext})).data
        except Refused as refusal:
            if refusal.code == WRONG_ENTITY_SECRET:
                self._secret.forget_key()
            raise

    async def _transaction(self, reference: str) -> Any | None:
        data = await self._client.find(f"/v1/w3s/transactions/{reference}")
        return field(data, "transaction", dict) if data is not None else None

    async def _transactions(self, wanted: Mapping[str, str]) -> AsyncIterator[Any]:
        async for page in self._client.pages("/v1/w3s/transactions", wanted):
            for one in field(page, "transactions", list):
                yield one

    async def _look_up(self, order: TransferOrder) -> Any | None:
        wanted = {
            "walletIds": order.source.reference,
            "destinationAddress": order.destination_address,
            "txType": "OUTBOUND",
            "from": instant(order.ordered_at - LOOK_BACK),
        }
        ours = _reference_id(order)
        async for one in self._transactions(wanted):
            if one.get("refId") == ours and one.get("transactionType") == "OUTBOUND":
                return one
        return None

    def _observation(self, order: TransferOrder, found: Any) -> Observation:
        """What was found. One that does not say what we ordered is never booked, whatever its state."""
        if not _is_the_order(order, found):
            log.error("circle.order_differs", item_id=str(order.item_id), reference=found.get("id"))
            return Observation(
                state=OrderState.UNRECOGNISED, reference=identifier(found), reason="its facts are not those ordered"
            )
        state = _state(found)
        return Observation(
            state=state,
            reference=identifier(found),
            transaction_hash=text(found, "txHash") or None,
            reason=_reason(found) if state is not OrderState.COMPLETE else "",
            network_fee=self._fee(found),
        )

    def _fee(self, found: Any) -> Money | None:
        asset = self._chain.fee_asset
        if asset is None or not found.get("networkFee"):
            return None
        micros = micros_taken(found["networkFee"])
        return Money(asset, micros) if micros else None

    async def _seen(self, found: Any) -> WalletTransfer:
        return WalletTransfer(
            reference=identifier(found),
            state=_state(found),
            incoming=found.get("transactionType") == "INBOUND",
            wallet_reference=text(found, "walletId"),
            amount=await self._amount(found),
            source_address=text(found, "sourceAddress").lower(),
            destination_address=text(found, "destinationAddress").lower(),
            transaction_hash=text(found, "txHash") or None,
            item_id=_item_id(text(found, "refId")),
            created_at=time_of(found, "createDate"),
        )

    async def _amount(self, found: Any) -> Money | None:
        """The amount, if it is one of an asset of ours. A transaction names its token by Circle's own id only."""
        token = text(found, "tokenId")
        if token not in self._assets_by_token:
            await self._learn_tokens(text(found, "walletId"))
        asset = self._assets_by_token.get(token)
        amounts = found.get("amounts")
        if asset is None or not isinstance(amounts, list) or len(amounts) != 1:
            return None
        try:
            return Money(asset, micros_of(amounts[0]))
        except UnreadableAnswer:
            return None

    async def _learn_tokens(self, wallet: str) -> None:
        for one in await self._balances(wallet):
            token = field(one, "token", dict)
            self._assets_by_token[identifier(token)] = self._asset(token)

    async def _balances(self, wallet: str) -> list[Any]:
        return field(await self._client.find(f"/v1/w3s/wallets/{wallet}/balances"), "tokenBalances", list)

    def _asset(self, token: Any) -> Asset | None:
        return self._chain.asset_at(text(token, "tokenAddress"))


def _wallet(body: Any) -> CustodyWallet:
    return CustodyWallet(identifier(body), text(body, "address").lower())


def _label(holder: HolderId) -> str:
    """Under which name Circle keeps a holder's wallet. The operator's is made by people, too, so it is a word."""
    return "operator" if holder == OPERATOR else str(holder)


def _reference_id(order: TransferOrder) -> str:
    return f"{order.item_id}:{order.key}"


def _item_id(reference_id: str) -> UUID | None:
    try:
        return UUID(reference_id.partition(":")[0])
    except ValueError:
        return None


def _is_the_order(order: TransferOrder, found: Any) -> bool:
    try:
        amounts = [micros_of(one) for one in field(found, "amounts", list)]
    except UnreadableAnswer:
        return False
    return (
        found.get("refId") == _reference_id(order)
        and found.get("walletId") == order.source.reference
        and text(found, "destinationAddress").lower() == order.destination_address
        and amounts == [order.amount.micros]
    )


def _state(found: Any) -> OrderState:
    """States are added now and then; one that is new to us is not ours to interpret."""
    state = _STATES.get(text(found, "state"), OrderState.UNRECOGNISED)
    if state is OrderState.UNRECOGNISED:
        log.warning("circle.state_unrecognised", state=text(found, "state")[:40])
    return state


def _reason(found: Any) -> str:
    state, reason = text(found, "state"), text(found, "errorReason")
    return f"{state} {reason}".strip()[:200]
