"""Domain to proto, for the types that many nouns share."""

from __future__ import annotations

from datetime import datetime

from eth_utils.address import to_checksum_address
from google.protobuf.timestamp_pb2 import Timestamp

from domain.money import Money
from monay.wallet.v1 import money_pb2


def timestamp(value: datetime) -> Timestamp:
    """An instant."""
    proto = Timestamp()
    proto.FromDatetime(value)
    return proto


def money(value: Money) -> money_pb2.Money:
    """An amount."""
    return money_pb2.Money(asset=value.asset, micros=value.micros)


def checksummed(address: str) -> str:
    """An address as people are shown it: with the checksum of EIP-55 in its capitals. We keep it in lower case."""
    return str(to_checksum_address(address))
