"""Values for fields: plausible ones, so that calls get deep, and those that systems choke on."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from google.protobuf.descriptor import FieldDescriptor

HOSTILE_TEXTS = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "\u202e\u2066\ufeff",
    "𝕬" * 300,
    "x" * 70_000,
    "'; DROP TABLE wallets; --",
    "%s%n{0}${jndi:ldap://x}",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "\r\nset-cookie: a=b",
    "-1",
    "1e309",
    "NaN",
    "null",
    "USDC\n",
    "00000000-0000-0000-0000-000000000000",
    "00000000-0000-0000-0000-000000000001",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    "0x" + "0" * 40,
    "0x" + "f" * 40,
    "WyIwIiwiIl0",
    "W1tbW1tbW1tbW1tbXV1dXV1dXV1dXQ",
    "ann@exam\u200bple.com",
    "@",
    "+",
    "+1415555010²",
)
NUMBERS = (0, 1, -1, 2, 31, 32, 33, 99, 100, 101, 999_999, 1_000_000, 2**31 - 1, 2**53 + 1, 2**62, 2**63 - 1)
ASSETS = ("USDC", "USDT", "PYUSD", "EURC", "USDB", "usdc", "BTC")
SPANS = (0, 1, -1, 999_999_999, 1_000_000_000, -2_000_000_000)
SECONDS = (0, 1, -1, 1_764_000_000, 253_402_300_799, 253_402_300_800, -62_135_596_801, 2**62, -(2**62))

_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}


@dataclass
class Values:
    """Chooses values, and remembers ids that answers named: a made-up id seldom leads anywhere."""

    random: Random
    known: list[str]
    seen: list[str] = field(default_factory=list)
    seen_ids: dict[str, list[str]] = field(default_factory=dict)
    """By what they are ids of, as a request names it: `transactionid`."""

    def text(self, name: str) -> str:
        """For a field of that name: mostly what belongs there."""
        chance = self.random.random()
        if chance < 0.05:
            return self.random.choice(HOSTILE_TEXTS)
        if chance < 0.07:
            return "".join(chr(self.random.choice((0, 9, 32, 65, 0x7F, 0x20AC, 0x1F600))) for _ in range(12))
        return self._plausible(name)

    def _plausible(self, name: str) -> str:
        makers: Sequence[tuple[str, Callable[[], str]]] = (
            ("request_id", lambda: str(uuid.UUID(int=self.random.getrandbits(128), version=4))),
            ("asset", lambda: self.random.choice(ASSETS if self.random.random() < 0.2 else ASSETS[:5])),
            ("email", lambda: f"fuzz{self.random.randrange(50)}@example.com"),
            ("phone", lambda: f"+1415555{self.random.randrange(10_000):04}"),
            ("handle", lambda: f"fuzz_{self.random.randrange(50)}"),
            ("address", lambda: f"0x{self.random.getrandbits(160):040x}"),
            ("provider", lambda: self.random.choice(("tempo", "circle", "mint", "simulated"))),
            ("token", lambda: self.random.choice(["", "", *self.seen[-5:]])),
            ("cursor", lambda: self.random.choice(["", "", *self.seen[-5:]])),
            ("country", lambda: "US"),
            ("routing", lambda: "121000248"),
            ("account_number", lambda: "12340010"),
            (
                "recurrence",
                lambda: self.random.choice(("", "FREQ=DAILY", "FREQ=MONTHLY;BYMONTHDAY=31", "FREQ=SECONDLY")),
            ),
            ("system", lambda: self.random.choice(("treasury", "fees", "losses", "suspense", "network_fees"))),
            ("base_currency", lambda: "EUR"),
            ("quote_currency", lambda: "USD"),
            ("id", lambda: self._id(name)),
        )
        for part, make in makers:
            if part in name:
                return make()
        return self.random.choice(("rent", "because", "Ann Lee", "US", "idv_7001", "123456789"))

    def _id(self, name: str) -> str:
        """Mostly of the kind that is asked for, else anybody's."""
        fitting = self.seen_ids.get(name.replace("_", ""), self.known)
        return self.random.choice(fitting if self.random.random() < 0.9 else self.known)

    def number(self, kind: int) -> int:
        least, most = _RANGES[kind]
        chance = self.random.random()
        if chance < 0.04:
            return self.random.choice((least, most))
        chosen = self.random.choice(NUMBERS) if chance < 0.3 else self.random.randrange(1, 4)
        if chance > 0.6:
            chosen = self.random.randrange(1, 2_000_000)
        return min(max(chosen, least), most)

    def count(self) -> int:
        """Of a repeated field."""
        return self.random.choices((0, 1, 2, 5, 101, 1_500), (20, 45, 25, 7, 2, 1))[0]

    def remember(self, message: str, name: str, text: str) -> None:
        """A text of an answer: that field of that message."""
        kept = self.seen
        if _ID.fullmatch(text):
            kept = self.seen_ids.setdefault(f"{message.lower() if name == 'id' else ''}{name.replace('_', '')}", [])
        if text:
            kept.append(text)
            del kept[:-20]
