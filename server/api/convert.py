"""Domain to proto, for the types that many nouns share."""

from __future__ import annotations

from datetime import UTC, datetime

from eth_utils.address import to_checksum_address
from google.protobuf.timestamp_pb2 import Timestamp

from domain.errors import FieldViolation, ValidationFailed
from domain.money import Money
from monay.wallet.v1 import consumer_pb2, money_pb2
from storage.consumers import Consumer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# What our clocks and calculations are good for, and nobody means anything beyond.
_FIRST_SECOND = 0
_LAST_SECOND = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp())


def instant(value: Timestamp, *, field: str) -> datetime:
    """A time that a caller sent in the named field."""
    if not (_FIRST_SECOND <= value.seconds < _LAST_SECOND and 0 <= value.nanos < 1_000_000_000):
        text = "must be a time between 1970 and 9000"
        raise ValidationFailed((FieldViolation(field, "timestamp.range", text),))
    return value.ToDatetime(UTC)


def timestamp(value: datetime) -> Timestamp:
    """An instant. protobuf's own FromDatetime goes through the calendar, which takes four times as long."""
    since = value - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def money(value: Money) -> money_pb2.Money:
    """An amount."""
    return money_pb2.Money(asset=value.asset, micros=value.micros)


def checksummed(address: str) -> str:
    """An address as people are shown it: with the checksum of EIP-55 in its capitals. We keep it in lower case."""
    return str(to_checksum_address(address))


def consumer(value: Consumer, *, tempo_chain_id: int) -> consumer_pb2.Consumer:
    """A person with a wallet, or what is left of an erased one."""
    state = consumer_pb2.CONSUMER_STATE_FROZEN if value.frozen else consumer_pb2.CONSUMER_STATE_ACTIVE
    address = consumer_pb2.WalletAddress(
        rail="tempo", chain_id=tempo_chain_id, address=checksummed(value.tempo_address)
    )
    return consumer_pb2.Consumer(
        id=str(value.id),
        email=value.contact.email,
        phone=value.contact.phone,
        full_name=value.contact.full_name,
        handle=value.handle,
        kyc_level=value.kyc_level,
        state=consumer_pb2.CONSUMER_STATE_ERASED if value.erased_at else state,
        addresses=[address],
        create_time=timestamp(value.created_at),
    )
