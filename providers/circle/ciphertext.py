"""The entity secret, encrypted anew for each request: Circle refuses a ciphertext that it has seen before."""

from __future__ import annotations

import asyncio
import base64

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from providers.base import ProviderUnavailable
from providers.circle.amounts import UnreadableAnswer
from providers.circle.client import CircleClient, NotSent

_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


class EntitySecret:
    """Thirty-two bytes that move all the money of our wallets. They leave this object encrypted only."""

    def __init__(self, secret: bytes, client: CircleClient) -> None:
        assert len(secret) == 32, "settings were checked"
        self._secret = secret
        self._client = client
        self._key: RSAPublicKey | None = None
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return "EntitySecret(…)"

    async def ciphertext(self) -> str:
        """A new one. Raises `NotSent` where Circle's key cannot be had: nothing was asked for yet."""
        async with self._lock:
            if self._key is None:
                self._key = await self._read_key()
        return base64.b64encode(self._key.encrypt(self._secret, _OAEP)).decode()

    def forget_key(self) -> None:
        """Circle could not read what we encrypted; perhaps its key is another one now."""
        self._key = None

    async def _read_key(self) -> RSAPublicKey:
        try:
            found = await self._client.find("/v1/w3s/config/entity/publicKey")
            key = load_pem_public_key(str(found["publicKey"]).encode()) if found else None
        except (ProviderUnavailable, UnreadableAnswer, ValueError, KeyError, TypeError) as error:
            raise NotSent(f"Circle's key for the entity secret cannot be read ({type(error).__name__})") from error
        if not isinstance(key, RSAPublicKey):
            raise NotSent("Circle's key for the entity secret is no RSA key")
        return key
