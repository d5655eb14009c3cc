"""Handles: the names by which consumers are paid. One form for each, and some that nobody may have."""

from __future__ import annotations

from datetime import timedelta

PROTECTED_FOR = timedelta(days=90)
"""How long a handle that was given up is kept from others, so that money meant for its owner reaches no stranger."""

# Names under which somebody could pass for the wallet, its people, or its money.
_NAMES = """
    abuse account accounts admin administrator alerts api bank billing cashier circle compliance contact deposit
    deposits eurc everyone faucet finance fraud help helpdesk info kyc legal moderator nobody noreply null official
    operator operations ops owner payment payments payout postmaster privacy pyusd refund refunds root sales security
    service staff support sysadmin system team tempo transfer treasury trust undefined usdb usdc usdt verification
    verified verify wallet wallets webmaster withdrawal withdrawals
"""
_RESERVED = frozenset(_NAMES.split())
_BRAND = "monay"


def normalised(text: str) -> str:
    """The one form of a handle: without the @, in lower case."""
    return text.removeprefix("@").lower()


def is_reserved(handle: str) -> bool:
    """Whether nobody may have it. Underscores do not make another name of it."""
    plain = handle.replace("_", "")
    return plain in _RESERVED or plain.startswith(_BRAND)
