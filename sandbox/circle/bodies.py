"""The body of each request. Closed and strict: what Circle would not understand is refused here, too."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

UUID_PATTERN = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
UUID4_PATTERN = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$"

BLOCKCHAIN = Literal["ARC-TESTNET", "BASE-SEPOLIA", "ARC", "BASE"]
CHAIN = Literal["ARC", "BASE"]
Currency = Literal["USD", "EUR"]
Uuid = Annotated[str, Field(pattern=UUID_PATTERN)]
EvmAddress = Annotated[str, Field(pattern="^0x[0-9a-fA-F]{40}$")]
Decimal = Annotated[str, Field(pattern="^[0-9]{1,15}([.][0-9]{1,18})?$")]
Ciphertext = Annotated[str, Field(pattern="^[A-Za-z0-9+/]{683}=$")]
Endpoint = Annotated[str, Field(pattern="^https?://[!-~]+$")]


class Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _no_nulls(cls, given: Any) -> Any:
        """Absent is absent; null is no value of anything here."""
        if isinstance(given, dict) and None in given.values():
            raise ValueError("null is no value")
        return given

    def given(self) -> dict[str, Any]:
        """What was said, by its names outside."""
        return self.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)


class Keyed(Body):
    """A request that is carried out once for its key."""

    idempotency_key: Annotated[str, Field(pattern=UUID4_PATTERN)]

    def compared(self) -> dict[str, Any]:
        """What a second request under the same key must agree in: all but the key and the fresh ciphertext."""
        return self.model_dump(exclude={"idempotency_key", "entity_secret_ciphertext"})


class Signed(Keyed):
    """A request that only the holder of the entity secret can make."""

    entity_secret_ciphertext: Ciphertext


class CreateWalletSet(Signed):
    name: Annotated[str, Field(max_length=50)] | None = None


class WalletMetadata(Body):
    name: Annotated[str, Field(max_length=50)] | None = None
    ref_id: Annotated[str, Field(max_length=100)] | None = None


class UpdateWallet(WalletMetadata):
    pass


class CreateWallets(Signed):
    wallet_set_id: Uuid
    blockchains: Annotated[list[BLOCKCHAIN], Field(min_length=1, max_length=4)]
    account_type: Literal["EOA", "SCA"] = "EOA"
    count: Annotated[int, Field(ge=1, le=200)] = 1
    metadata: Annotated[list[WalletMetadata], Field(max_length=200)] = []

    @model_validator(mode="after")
    def _distinct_chains(self) -> Self:
        if len(set(self.blockchains)) != len(self.blockchains):
            raise ValueError("each chain only once")
        return self


class CreateWalletTransfer(Signed):
    wallet_id: Uuid
    token_id: Uuid | None = None
    token_address: EvmAddress | None = None
    blockchain: BLOCKCHAIN | None = None
    destination_address: EvmAddress
    amounts: Annotated[list[Decimal], Field(min_length=1, max_length=1)]
    fee_level: Literal["LOW", "MEDIUM", "HIGH"]
    ref_id: Annotated[str, Field(max_length=100)] | None = None

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        by_id, by_address = self.token_id is not None, self.token_address is not None and self.blockchain is not None
        if by_id == by_address or (by_id and (self.token_address is not None or self.blockchain is not None)):
            raise ValueError("either tokenId, or tokenAddress and blockchain")
        return self


class AlterTransaction(Signed):
    pass


class RequestTestnetTokens(Body):
    address: EvmAddress
    blockchain: BLOCKCHAIN
    native: bool = False
    usdc: bool = False
    eurc: bool = False


class CreateWalletsSubscription(Body):
    endpoint: Endpoint
    notification_types: Annotated[list[str], Field(min_length=1)] = ["*"]


class UpdateWalletsSubscription(Body):
    name: str | None = None
    enabled: bool | None = None


class Money(Body):
    amount: Annotated[str, Field(pattern="^[0-9]{1,12}([.][0-9]{1,6})?$")]
    currency: Currency


class FiatMoney(Body):
    amount: Annotated[str, Field(pattern="^[0-9]{1,12}([.][0-9]{1,2})?$")]
    currency: Currency


class UsdMoney(FiatMoney):
    currency: Literal["USD"]


_Text = Annotated[str, Field(min_length=1, max_length=1024)]
_Line = Annotated[str, Field(max_length=35)]
_Country = Annotated[str, Field(min_length=2, max_length=2)]
_District = Annotated[str, Field(max_length=16)]


class BillingDetails(Body):
    name: _Text
    city: _Text
    country: _Country
    line1: _Text
    line2: Annotated[str, Field(max_length=1024)] | None = None
    district: _District | None = None
    postal_code: Annotated[str, Field(min_length=1, max_length=16)]


class BankAddress(Body):
    bank_name: _Line | None = None
    city: _Line | None = None
    country: _Country
    line1: _Line | None = None
    line2: _Line | None = None
    district: _District | None = None


class CreateWireAccount(Keyed):
    account_number: Annotated[str, Field(min_length=6, max_length=35)] | None = None
    routing_number: Annotated[str, Field(min_length=8, max_length=11)] | None = None
    iban: Annotated[str, Field(min_length=15, max_length=34)] | None = None
    billing_details: BillingDetails
    bank_address: BankAddress

    @model_validator(mode="after")
    def _one_account(self) -> Self:
        numbers = (self.account_number, self.routing_number)
        if (self.iban is None and None in numbers) or (self.iban is not None and numbers != (None, None)):
            raise ValueError("either accountNumber and routingNumber, or iban")
        return self

    @property
    def number(self) -> str:
        return self.iban or self.account_number or ""


class MockWireBank(Body):
    account_number: str


class CreateMockWire(Body):
    tracking_ref: str
    amount: UsdMoney
    beneficiary_bank: MockWireBank


class WalletLocation(Body):
    type: Literal["wallet"]
    id: str


class BankLocation(Body):
    type: Literal["wire"]
    id: Uuid


class CreatePayout(Keyed):
    destination: BankLocation
    amount: FiatMoney
    source: WalletLocation | None = None


class CreateDepositAddress(Keyed):
    currency: Currency
    chain: CHAIN


class CreateRecipientAddress(Keyed):
    address: EvmAddress
    chain: CHAIN
    currency: Currency | None = None
    description: str


class VerifiedAddress(Body):
    type: Literal["verified_blockchain"]
    address_id: Uuid


class CreateMintTransfer(Keyed):
    destination: VerifiedAddress
    amount: Money
    source: WalletLocation | None = None


class CreateMintSubscription(Body):
    endpoint: Endpoint
