"""The admin port: time, faults, and what only Circle, a bank or a person in Circle's console can do.

GET  /state                          what a client needs to know, the clock, all balances
POST /reset                          everything as at the first start, but the keys
POST /clock                          {"mode": "frozen" | "real", "advance_seconds": 60}
POST /faults, GET, DELETE [/{id}]    {"kind": "latency | error | reset | silence | rate_limit", "when": "before |
                                     after", "method", "path", "skip", "times", "status", "code", "seconds", …}
POST /webhooks/faults, DELETE        {"fault": "lose | duplicate | reorder | delay", "times": 1, "seconds": 0}
GET  /webhooks                       every delivery and its state; POST /webhooks/deliver waits until none is due
POST /webhooks/{number}/again        as the button in Circle's console
POST /outcomes, DELETE               {"kind": "wire | deposit | payout | transaction | transfer", "outcome",
                                     "error", "times"}: what the next ones come to
POST /settings                       {"rate_limits": false, "payout_fee": "0.50", "sns_signature_version": "2",
                                     "pace": {"payout": 2}}
POST /wires/incoming                 {"wire_id" or "tracking_ref", "amount": "10.00", "currency": "USD"}
POST /payouts/{id}/return            {"fee": "0.00", "reason": "payout_returned"}
POST /recipients/{id}/approve
POST /wallets/{id}/freeze, /thaw
POST /tokens/incoming                {"address", "blockchain", "symbol", "amount"}: tokens from outside
GET  /requests, DELETE               what came in, what was answered, what went wrong on purpose
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.circle import arrivals, mint, mint_transfers, payouts, wallets
from sandbox.circle.call import Model
from sandbox.circle.faults import Fault, FaultKind, When
from sandbox.circle.money import micros, token_amount
from sandbox.circle.network import FaultyNetwork
from sandbox.circle.outcomes import POSSIBLE, Kind, Outcome
from sandbox.circle.refusals import Refusal, invalid_fields, not_found
from sandbox.circle.seeds import OPERATOR_REF_ID, WALLET_SET_ID, Seeds, sow
from sandbox.circle.simulator import Simulator
from sandbox.circle.store import Body, public
from sandbox.circle.tokens import TOKEN_BY_ID, token_named
from sandbox.circle.webhook_faults import WebhookFault


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClockOrder(Order):
    mode: Literal["frozen", "real"] | None = None
    advance_seconds: float = Field(0, ge=0)


class FaultOrder(Order):
    kind: FaultKind
    when: When = "before"
    method: str = ""
    path: str = ""
    skip: int = 0
    times: int | None = 1
    status: int = 503
    code: int = -1
    message: str = "Something went wrong"
    seconds: float = 0
    retry_after: int = 1


class WebhookOrder(Order):
    fault: WebhookFault
    times: int | None = 1
    seconds: float = 0


class OutcomeOrder(Order):
    kind: Kind
    outcome: str
    error: str | None = None
    times: int | None = 1


class SettingsOrder(Order):
    rate_limits: bool | None = None
    payout_fee: str | None = None
    sns_signature_version: Literal["1", "2"] | None = None
    pace: dict[str, float] = {}


class WireOrder(Order):
    wire_id: str = ""
    tracking_ref: str = ""
    amount: str
    currency: Literal["USD", "EUR"] = "USD"


class ReturnOrder(Order):
    fee: str = "0"
    reason: str = "payout_returned"


class TokensOrder(Order):
    address: str
    blockchain: Literal["ARC-TESTNET", "BASE-SEPOLIA"]
    symbol: Literal["USDC", "EURC"] = "USDC"
    amount: str


class Admin:
    """Small handlers, one per order; each returns what it answers."""

    def __init__(self, simulator: Simulator, network: FaultyNetwork, seeds: Seeds) -> None:
        self._simulator = simulator
        self._network = network
        self._seeds = seeds
        self.app = Starlette(
            routes=[
                self._route("GET", "/state", self._state),
                self._route("POST", "/reset", self._reset),
                self._route("POST", "/clock", self._clock),
                self._route("GET", "/faults", self._list_faults),
                self._route("POST", "/faults", self._arm),
                self._route("DELETE", "/faults", self._disarm),
                self._route("DELETE", "/faults/{id:int}", self._disarm),
                self._route("GET", "/webhooks", self._list_webhooks),
                self._route("POST", "/webhooks/faults", self._arm_webhooks),
                self._route("DELETE", "/webhooks/faults", self._disarm_webhooks),
                self._route("POST", "/webhooks/deliver", self._deliver),
                self._route("POST", "/webhooks/{number:int}/again", self._send_again),
                self._route("POST", "/outcomes", self._plan),
                self._route("DELETE", "/outcomes", self._forget_plans),
                self._route("POST", "/settings", self._set),
                self._route("POST", "/wires/incoming", self._wire),
                self._route("POST", "/payouts/{id}/return", self._return),
                self._route("POST", "/recipients/{id}/approve", self._approve),
                self._route("POST", "/wallets/{id}/freeze", self._freeze),
                self._route("POST", "/wallets/{id}/thaw", self._freeze),
                self._route("POST", "/tokens/incoming", self._tokens),
                self._route("GET", "/requests", self._requests),
                self._route("DELETE", "/requests", self._forget_requests),
            ]
        )

    @staticmethod
    def _route(method: str, path: str, handler: Callable[[Request], Awaitable[Any]]) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return JSONResponse(await handler(request))
            except ValidationError as error:
                return JSONResponse(invalid_fields(error.errors()).body, 400)
            except Refusal as refusal:
                return JSONResponse(refusal.body, refusal.status)

        return Route(path, endpoint, methods=[method])

    # Time.

    async def _state(self, _request: Request) -> Body:
        simulator = self._simulator
        held = simulator.store.execute("SELECT * FROM balances ORDER BY holder, token").fetchall()
        return {
            "wallet_set_id": WALLET_SET_ID,
            "operator_wallets": {
                wallet["blockchain"]: public(wallet)
                for wallet in simulator.store.all("wallet")
                if wallet.get("refId") == OPERATOR_REF_ID
            },
            "tokens": [token.body() for token in TOKEN_BY_ID.values()],
            "clock": {"now": simulator.clock.timestamp(), "frozen": simulator.clock.frozen},
            "balances": [
                {"holder": row["holder"], "symbol": _symbol(row["token"]), "amount": token_amount(row["micros"])}
                for row in held
            ],
        }

    async def _reset(self, _request: Request) -> Body:
        await self._simulator.webhooks.finish()
        self._simulator.reset()
        sow(self._simulator, self._seeds)
        self._network.seen.clear()
        return {}

    async def _clock(self, request: Request) -> Body:
        order, clock = await _order(ClockOrder, request), self._simulator.clock
        if order.mode == "frozen":
            clock.freeze()
        elif order.mode == "real":
            clock.run()
        clock.advance(int(order.advance_seconds * 1000))
        self._simulator.schedule.run_due()
        await self._simulator.webhooks.deliver_due()
        self._simulator.schedule.clock_changed()
        self._simulator.webhooks.clock_changed()
        return {"now": clock.timestamp(), "frozen": clock.frozen}

    # Faults.

    async def _list_faults(self, _request: Request) -> list[Body]:
        return self._simulator.faults.armed()

    async def _arm(self, request: Request) -> Body:
        order = await _order(FaultOrder, request)
        return asdict(self._simulator.faults.arm(Fault(**order.model_dump())))

    async def _disarm(self, request: Request) -> Body:
        self._simulator.faults.clear(request.path_params.get("id"))
        return {}

    async def _arm_webhooks(self, request: Request) -> Body:
        order = await _order(WebhookOrder, request)
        self._simulator.webhooks.faults.arm(order.fault, times=order.times, seconds=order.seconds)
        return {}

    async def _disarm_webhooks(self, _request: Request) -> Body:
        self._simulator.webhooks.faults.clear()
        self._simulator.webhooks.clock_changed()
        return {}

    # Webhooks.

    async def _list_webhooks(self, _request: Request) -> list[Body]:
        return self._simulator.webhooks.deliveries()

    async def _deliver(self, _request: Request) -> Body:
        await self._simulator.webhooks.deliver_due()
        return {}

    async def _send_again(self, request: Request) -> Body:
        if not self._simulator.webhooks.send_again(request.path_params["number"]):
            raise not_found()
        return {}

    # What others do.

    async def _plan(self, request: Request) -> Body:
        order = await _order(OutcomeOrder, request)
        if order.outcome not in POSSIBLE[order.kind]:
            raise Refusal(400, 2, f"A {order.kind} comes to one of {', '.join(POSSIBLE[order.kind])}")
        self._simulator.outcomes.plan(Outcome(order.kind, order.outcome, order.error, order.times))
        return {}

    async def _forget_plans(self, _request: Request) -> Body:
        self._simulator.outcomes.clear()
        return {}

    async def _set(self, request: Request) -> Body:
        order, simulator = await _order(SettingsOrder, request), self._simulator
        if unknown := order.pace.keys() - asdict(simulator.pace).keys():
            raise Refusal(400, 2, f"There is no pace of {', '.join(sorted(unknown))}")
        for name, seconds in order.pace.items():
            setattr(simulator.pace, name, seconds)
        if order.rate_limits is not None:
            simulator.limits.enabled = order.rate_limits
        if order.sns_signature_version is not None:
            simulator.sns.signature_version = order.sns_signature_version
        if order.payout_fee is not None:
            simulator.payout_fee_micros = _micros(order.payout_fee)
        return {"pace": asdict(simulator.pace)}

    async def _wire(self, request: Request) -> Body:
        order = await _order(WireOrder, request)
        for wire in self._simulator.store.all(mint.WIRE):
            if order.wire_id.lower() == wire["id"] or order.tracking_ref == wire["trackingRef"]:
                with self._simulator.store.transaction():
                    mint.send_wire(self._simulator, wire, order.amount, order.currency)
                return {"wire_id": wire["id"]}
        raise not_found(message="No such bank account")

    async def _return(self, request: Request) -> Body:
        order, payout_id = await _order(ReturnOrder, request), str(request.path_params["id"])
        with self._simulator.store.transaction():
            payouts.give_back(self._simulator, payout_id=payout_id, fee=_micros(order.fee), reason=order.reason)
        return public(payouts.get(self._simulator, payout_id))

    async def _approve(self, request: Request) -> Body:
        with self._simulator.store.transaction():
            return public(mint_transfers.approve_recipient(self._simulator, request.path_params["id"]))

    async def _freeze(self, request: Request) -> Body:
        frozen = request.url.path.endswith("/freeze")
        with self._simulator.store.transaction():
            return public(wallets.freeze(self._simulator, request.path_params["id"], frozen=frozen))

    async def _tokens(self, request: Request) -> Body:
        order = await _order(TokensOrder, request)
        token = token_named(order.blockchain, order.symbol)
        with self._simulator.store.transaction():
            arrived = arrivals.from_outside(self._simulator, order.address.lower(), token, _micros(order.amount))
        if arrived is None:
            raise not_found(message="The address is nobody's here")
        return public(arrived)

    # What came in.

    async def _requests(self, _request: Request) -> list[Body]:
        return [asdict(seen) for seen in self._network.seen]

    async def _forget_requests(self, _request: Request) -> Body:
        self._network.seen.clear()
        return {}


async def _order(model: type[Model], request: Request) -> Model:
    return model.model_validate_json(await request.body() or b"{}")


def _micros(amount: str) -> int:
    found = micros(amount)
    if found is None:
        raise Refusal(400, 2, f"{amount} is not an amount")
    return found


def _symbol(token: str) -> str:
    """Mint's balances are in currencies, a wallet's in tokens."""
    return TOKEN_BY_ID[token].symbol if token in TOKEN_BY_ID else token
