"""The three keys that sign on Tempo, sealed in a file: what a backup or a look at the disk gives away is worth nothing.

The seal is the one of personal data (AES-GCM under a ring of keys, bound to the name), with a ring of its own, which a
deployment keeps in another store. To seal the keys of the environment into a file:

    TEMPO_PRIVATE_KEY=… TEMPO_FEE_PAYER_KEY=… TEMPO_SEED=… python -m server.signing_keys RING_FILE > keys.json

A ring is made by `python -m storage.rotation new-ring NAME`.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from domain.clock import SystemClock, SystemEntropy
from storage.sealing import KeyFileUnusable, KeyRing, SealBroken

_NAMES = {"operator": "TEMPO_PRIVATE_KEY", "fee_payer": "TEMPO_FEE_PAYER_KEY", "seed": "TEMPO_SEED"}


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The operator's key, the fee payer's, and the seed of the consumers'."""

    operator: bytes = field(repr=False)
    fee_payer: bytes = field(repr=False)
    seed: bytes = field(repr=False)

    @classmethod
    def read(cls, sealed: Path, ring: Path | None) -> SigningKeys:
        """Open a file of sealed keys, or raise `KeyFileUnusable`."""
        if ring is None:
            raise KeyFileUnusable("one without the other is of no use")
        try:
            document = json.loads(sealed.read_text())
            values = {name: base64.b64decode(document[name], validate=True) for name in _NAMES}
        except (OSError, ValueError, KeyError, TypeError) as error:
            # Never the error's own text: it may quote the file.
            raise KeyFileUnusable(f"{sealed} holds no sealed keys ({type(error).__name__})") from None
        return cls._opened(values, KeyRing.read(ring, entropy=SystemEntropy(SystemClock())))

    @classmethod
    def _opened(cls, values: dict[str, bytes], ring: KeyRing) -> SigningKeys:
        try:
            texts = {name: ring.open(value, **_place(name)) for name, value in values.items()}
            return cls(**{name: bytes.fromhex(text.removeprefix("0x")) for name, text in texts.items()})
        except (SealBroken, ValueError):
            raise KeyFileUnusable("the sealed keys do not open with this ring") from None


def _place(name: str) -> dict[str, Any]:
    return {"table": "signing_keys", "column": name, "row": UUID(int=0)}


def sealed(texts: dict[str, str], ring: KeyRing) -> str:
    """Keys as hexadecimal digits, as the text of a file."""
    values = {name: ring.seal(text, **_place(name)) for name, text in texts.items()}
    return json.dumps({name: base64.b64encode(value).decode() for name, value in values.items()}, indent=2)


def main() -> int:
    """Seal the keys of the environment; the exit code."""
    missing = [variable for variable in _NAMES.values() if not os.environ.get(variable)]
    if len(sys.argv) != 2 or missing:
        sys.stderr.write(f"{__doc__}\nMissing: {', '.join(missing) or 'the ring file'}\n")
        return 2
    try:
        ring = KeyRing.read(Path(sys.argv[1]), entropy=SystemEntropy(SystemClock()))
    except KeyFileUnusable as fault:
        sys.stderr.write(f"{fault}\n")
        return 2
    texts = {name: os.environ[variable].strip() for name, variable in _NAMES.items()}
    sys.stdout.write(sealed(texts, ring) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
