"""Circle: stablecoins between Developer-Controlled Wallets, and the operator's bank through Circle Mint.

Both halves are custodians; `providers/custodian.py` says how they are used. `connect` builds them from a
`CircleConfig`.
"""

from providers.circle.budget import Rates
from providers.circle.chains import known_tokens
from providers.circle.events import EventRules
from providers.circle.rail import CircleConfig, CircleRail, connect

__all__ = ["CircleConfig", "CircleRail", "EventRules", "Rates", "connect", "known_tokens"]
