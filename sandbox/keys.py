"""The secrets of one development wallet, made once and kept under .data/keys, for the eyes of their owner only.

A setting in the environment wins over the file. They are worth nothing elsewhere: the development chain has a chain id
of its own, and the server refuses development settings in production.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from domain.clock import SystemClock, SystemEntropy
from storage.sealing import new_key_file


class DevelopmentKeys:
    """Keys in a folder; each is made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)

    @property
    def operator(self) -> str:
        """The operator's private key on Tempo, as hexadecimal digits."""
        return self._kept("operator", _private_key)

    @property
    def fee_payer(self) -> str:
        """The account that pays network fees, apart from the operator's so that gas never touches the float."""
        return self._kept("fee-payer", _private_key)

    @property
    def seed(self) -> str:
        """What consumers' keys are derived from. Losing it loses their addresses, so it goes only with the database."""
        return self._kept("seed", lambda: secrets.token_hex(32))

    @property
    def circle_entity_secret(self) -> str:
        """Moves what stands in the simulator's wallets."""
        return self._kept("circle-entity-secret", lambda: secrets.token_hex(32))

    @property
    def circle_api_keys(self) -> tuple[str, str]:
        """Keys for the simulator's two products: Wallets, Mint."""
        made = self._kept("circle-api-key", lambda: f"{secrets.token_hex(16)}:{secrets.token_hex(16)}")
        return f"TEST_API_KEY:{made}", f"SAND_API_KEY:{made}"

    @property
    def jwt_private(self) -> str:
        """Signs development tokens (ES256, PEM)."""
        return self._kept("jwt-private.pem", _es256_key)

    @property
    def jwt_public(self) -> str:
        """What the server verifies tokens with (PEM)."""
        key = serialization.load_pem_private_key(self.jwt_private.encode(), password=None)
        encoding, format_ = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return key.public_key().public_bytes(encoding, format_).decode()

    @property
    def sealing_keys_file(self) -> Path:
        """The key under which personal data is sealed in the database."""
        self._kept(
            "sealing.json", lambda: new_key_file(SystemEntropy(SystemClock()), name="development", development=True)
        )
        return self.folder / "sealing.json"

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        path = self.folder / name
        if not path.exists():
            # Complete or absent: a key half written before a crash would be a wallet lost.
            unfinished = path.with_name(f".{name}.new")
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
        return path.read_text()


def _private_key() -> str:
    return f"0x{secrets.token_hex(32)}"


def _es256_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    encoding, format_ = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, format_, serialization.NoEncryption()).decode()
