"""The keys that tokens are verified with: one from the settings, or a published set that rotates.

A key brings its algorithm: a P-256 key verifies ES256 and nothing else, whatever a token's header says. That is what
defeats algorithm confusion, where a public key is passed off as the secret of an HMAC.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import structlog
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, Key, OctKey, OKPKey
from joserfc.jws import JWSRegistry

from domain.clock import Clock

log = structlog.get_logger()

# RFC 9864 renames it to Ed25519, and issuers go on saying EdDSA. With the key fixed, the old name is as safe.
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)

REFRESH_SECONDS = 300.0
# A token with an unknown key id asks for the set anew, but strangers cannot make us ask more often than this.
UNKNOWN_KEY_SECONDS = 10.0
FETCH_SECONDS = 5.0


class KeyUnusable(ValueError):
    """The key is none that a token may be verified with."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key and the only algorithms that it verifies."""

    key: Key
    registry: JWSRegistry

    @classmethod
    def of(cls, key: Key) -> VerificationKey:
        if isinstance(key, ECKey) and key.curve_name == "P-256":
            return cls(key, JWSRegistry(algorithms=["ES256"]))
        if isinstance(key, OKPKey) and key.curve_name == "Ed25519":
            # One algorithm under its old name and the one of RFC 9864.
            return cls(key, JWSRegistry(algorithms=["EdDSA", "Ed25519"]))
        if isinstance(key, OctKey):
            return cls(key, JWSRegistry(algorithms=["HS256"]))
        raise KeyUnusable("a token's key must be P-256 (ES256), Ed25519 (EdDSA) or a secret (HS256)")


class KeysUnavailable(Exception):
    """The issuer's key set could not be read."""


class KeySource(Protocol):
    """Where the verifier finds keys. `generation` rises when one that was good may be so no longer."""

    @property
    def generation(self) -> int: ...

    async def find(self, key_id: str | None) -> VerificationKey | None:
        """The key with that id, or without one, the only key there is."""
        ...


class ConfiguredKey:
    """The one key of the settings; it counts whatever id a token names."""

    generation = 0

    def __init__(self, key: VerificationKey) -> None:
        self._key = key

    @classmethod
    def public(cls, pem: str) -> ConfiguredKey:
        """From a PEM. A variable often carries its line ends as two characters."""
        text = pem.replace("\\n", "\n").encode()
        for kind in (ECKey, OKPKey):
            try:
                key = kind.import_key(text)
            except (JoseError, ValueError, TypeError, AttributeError):
                continue
            return cls(VerificationKey.of(key))
        raise KeyUnusable("is not a public key in PEM, of P-256 or Ed25519")

    @classmethod
    def secret(cls, text: str) -> ConfiguredKey:
        return cls(VerificationKey.of(OctKey.import_key(text)))

    async def find(self, key_id: str | None) -> VerificationKey | None:
        return self._key

    async def run(self, stop: asyncio.Event) -> None:
        """Nothing to keep fresh."""
        await stop.wait()


class PublishedKeys:
    """The issuer's key set, read again every few minutes and whenever a token names a key that is not in it."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._client = httpx.AsyncClient(timeout=FETCH_SECONDS)
        self._keys: dict[str, VerificationKey] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()
        self.generation = 0

    async def find(self, key_id: str | None) -> VerificationKey | None:
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        if key_id not in self._keys:
            await self._refresh_for_unknown()
        return self._keys.get(key_id)

    async def load(self) -> None:
        """Read the set, or raise `KeysUnavailable`."""
        self._fetched_at = self._clock.monotonic()
        try:
            answer = await self._client.get(self._url)
            answer.raise_for_status()
            keys = _usable(answer.json()["keys"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise KeysUnavailable(type(error).__name__) from error
        if _prints(keys) != _prints(self._keys):
            log.info("keys.changed", key_ids=sorted(keys))
            self.generation += 1
        self._keys = keys

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the set fresh, so that a withdrawn key stops counting."""
        while not stop.is_set():
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await stop.wait()
            except TimeoutError:
                await self._try_load()
        await self._client.aclose()

    async def _refresh_for_unknown(self) -> None:
        async with self._fetching:
            if self._clock.monotonic() - self._fetched_at >= UNKNOWN_KEY_SECONDS:
                await self._try_load()

    async def _try_load(self) -> None:
        try:
            await self.load()
        except KeysUnavailable as error:
            # What was published last still counts: the issuer's pause is not ours.
            log.warning("keys.unavailable", error=str(error))


def _prints(keys: Mapping[str, VerificationKey]) -> dict[str, str]:
    """What the keys are, whatever they are called: a name may come back with another key."""
    return {name: key.key.thumbprint() for name, key in keys.items()}


def _usable(published: Iterable[dict[str, Any]]) -> dict[str, VerificationKey]:
    """The set's keys that can verify tokens. A secret has no business in a published set and is left out."""
    keys = {}
    for entry in published:
        if entry.get("kty") not in ("EC", "OKP") or entry.get("use", "sig") != "sig":
            continue
        try:
            key = JWKRegistry.import_key(entry)
            keys[str(entry.get("kid", ""))] = VerificationKey.of(key)
        except (JoseError, ValueError, TypeError):
            log.warning("keys.skipped", key_id=entry.get("kid"))
    return keys
