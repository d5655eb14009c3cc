"""The Monay consumer wallet, for Python: this is the client for asyncio, `monay.wallet.sync` the one for threads.

Messages are in `monay.wallet.v1.messages`.
"""

from monay.wallet.amounts import decimal, micros, money
from monay.wallet.client import WalletClient, connect
from monay.wallet.connection import VERSION, Options
from monay.wallet.errors import Violation, WalletError
from monay.wallet.retries import RetryPolicy
from monay.wallet.rpc import new_request_id
from monay.wallet.v1.error_reason_pb2 import ErrorReason

__all__ = [
    "VERSION",
    "ErrorReason",
    "Options",
    "RetryPolicy",
    "Violation",
    "WalletClient",
    "WalletError",
    "connect",
    "decimal",
    "micros",
    "money",
    "new_request_id",
]
