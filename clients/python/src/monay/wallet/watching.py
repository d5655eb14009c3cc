"""What both faces of the client do with watched streams: what is news, and which end of a stream is final."""

from __future__ import annotations

from collections.abc import Iterator

from monay.wallet.errors import WalletError
from monay.wallet.v1.money_pb2 import Balance, WatchBalancesResponse


class Newest:
    """The version of each asset that was handed over last, over all connections of one watch."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}

    def among(self, message: WatchBalancesResponse) -> Iterator[Balance]:
        """The balances of a message that say something new.

        A snapshot is the truth whatever was known, so in it any other version is news, also a lower one: that is a
        wallet which was restored.
        """
        if message.WhichOneof("event") == "snapshot":
            for balance in message.snapshot.balances:
                if self._versions.get(balance.asset) != balance.version:
                    yield self._noted(balance)
        elif message.WhichOneof("event") == "update" and message.update.version > self._versions[message.update.asset]:
            yield self._noted(message.update)

    def _noted(self, balance: Balance) -> Balance:
        self._versions[balance.asset] = balance.version
        return balance


def final(error: WalletError, *, token: str, expired: str) -> bool:
    """Whether connecting anew is of no use. A token that has expired twice in a row is not going to be replaced."""
    if error.token_expired:
        return token == expired
    return not error.passing
