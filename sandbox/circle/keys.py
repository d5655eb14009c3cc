"""The simulator's own keys: for entity secrets, for webhooks of Wallets, and Amazon SNS's certificate.

Kept in a folder, because a client may cache a public key, and because making the first one costs a second.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
_DER, _SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo


class Keys:
    """Makes what is missing, once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._folder = folder
        entity = self._kept("entity", lambda: rsa.generate_private_key(65537, 4096))
        webhook = self._kept("webhook", lambda: ec.generate_private_key(ec.SECP256R1()))
        sns = self._kept("sns", lambda: rsa.generate_private_key(65537, 2048))
        assert isinstance(entity, rsa.RSAPrivateKey)
        assert isinstance(webhook, ec.EllipticCurvePrivateKey)
        assert isinstance(sns, rsa.RSAPrivateKey)
        self._entity, self._webhook, self._sns = entity, webhook, sns
        self.certificate_pem = self._certificate()

    @property
    def entity_public_key(self) -> str:
        """As Circle gives it out: PEM that calls itself an RSA PUBLIC KEY and holds a SubjectPublicKeyInfo."""
        pem = self._entity.public_key().public_bytes(serialization.Encoding.PEM, _SPKI).decode()
        return pem.replace("PUBLIC KEY", "RSA PUBLIC KEY")

    def entity_secret(self, ciphertext: str) -> bytes | None:
        """The secret inside; None if it was not made with our public key."""
        try:
            return self._entity.decrypt(base64.b64decode(ciphertext), _OAEP)
        except ValueError:
            return None

    @property
    def webhook_public_key(self) -> str:
        return base64.b64encode(self._webhook.public_key().public_bytes(_DER, _SPKI)).decode()

    @property
    def webhook_key_id(self) -> str:
        return str(uuid5(NAMESPACE_URL, self.webhook_public_key))

    def sign_webhook(self, body: bytes) -> str:
        """ECDSA over the bytes as they are sent."""
        return base64.b64encode(self._webhook.sign(body, ec.ECDSA(hashes.SHA256()))).decode()

    def sign_sns(self, text: str, *, version: str) -> str:
        """Version 1 is with SHA-1, which Amazon still signs with unless asked otherwise; version 2 with SHA-256."""
        # SHA-1 is SNS's choice, not ours: a client has to be able to verify it.
        digest: hashes.HashAlgorithm = hashes.SHA1() if version == "1" else hashes.SHA256()
        return base64.b64encode(self._sns.sign(text.encode(), padding.PKCS1v15(), digest)).decode()

    def _certificate(self) -> bytes:
        path = self._folder / "sns-certificate.pem"
        if not path.exists():
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
            now = datetime.now(UTC)
            builder = x509.CertificateBuilder(name, name, self._sns.public_key(), x509.random_serial_number())
            valid = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=3650))
            certificate = valid.sign(self._sns, hashes.SHA256())
            _write_whole(path, certificate.public_bytes(serialization.Encoding.PEM))
        return path.read_bytes()

    def _kept(self, name: str, make: Callable[[], rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey]) -> object:
        path = self._folder / f"{name}.pem"
        if not path.exists():
            encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
            _write_whole(path, make().private_bytes(encoding, form, serialization.NoEncryption()))
        return serialization.load_pem_private_key(path.read_bytes(), password=None)


def _write_whole(path: Path, content: bytes) -> None:
    """Complete or absent: a key cut short by a crash would be refused for ever."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    unfinished.rename(path)
