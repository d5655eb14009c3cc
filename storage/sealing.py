"""Personal data at rest: sealed with AES-GCM under a ring of keys, found again by a blind index.

A sealed value names its key, so that the ring can grow and old rows stay readable until they are sealed anew. It is
bound to its place (table, column, row): moved to another row it does not open. The blind index is an HMAC under a key
of its own, equal for equal values, and says nothing to who does not hold that key.

The key file is JSON, each key 32 bytes in base64: {"active": "2026-01", "keys": {"2026-01": "…"}, "index_key": "…"}.
Index keys can be replaced too ("index_keys" by name, of which "active_index" is written with); what stands in the
database under an older one is found until `storage/rotation.py` has gone over it. The first one, "index_key", remains
the key of fingerprints: they are parts of what request ids are compared with, for ever, and nobody can look them up.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.clock import Entropy

KEY_BYTES = 32
_NONCE_BYTES = 12
_VERSION = 1


class KeyFileUnusable(ValueError):
    """Why the key file cannot be used."""


class SealBroken(Exception):
    """A sealed value does not open: it was altered, moved, or its key is gone."""


class KeyRing:
    """Seals with the active key, opens with whichever key a value names."""

    def __init__(
        self,
        keys: Mapping[str, bytes],
        *,
        active: str,
        index_key: bytes,
        entropy: Entropy,
        index_keys: Mapping[str, bytes] = MappingProxyType({}),
        active_index: str | None = None,
    ) -> None:
        if active not in keys:
            raise KeyFileUnusable(f"the active key {active!r} is not among the keys")
        if active_index is not None and active_index not in index_keys:
            raise KeyFileUnusable(f"the active index key {active_index!r} is not among the index keys")
        if any(len(key) != KEY_BYTES for key in (*keys.values(), *index_keys.values(), index_key)):
            raise KeyFileUnusable(f"each key must have {KEY_BYTES} bytes")
        if any(not 1 <= len(name.encode()) <= 255 for name in keys):
            raise KeyFileUnusable("a key's name must have 1 to 255 bytes")
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._active = active
        self._fingerprint_key = index_key
        self._index_key = index_key if active_index is None else index_keys[active_index]
        self._older_index_keys = [key for key in (*index_keys.values(), index_key) if key != self._index_key]
        self._entropy = entropy

    @classmethod
    def read(cls, path: Path, *, entropy: Entropy) -> KeyRing:
        """The ring of a key file."""
        try:
            document: dict[str, Any] = json.loads(path.read_text())
            return cls(
                _decoded(document["keys"]),
                active=document["active"],
                index_key=base64.b64decode(document["index_key"], validate=True),
                entropy=entropy,
                index_keys=_decoded(document.get("index_keys", {})),
                active_index=document.get("active_index"),
            )
        except KeyFileUnusable:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            # Never the error's own text: it may quote the file.
            raise KeyFileUnusable(f"{path} is not a key file ({type(error).__name__})") from None

    def seal(self, text: str, *, table: str, column: str, row: UUID) -> bytes:
        """The text as it is stored: version, key's name, nonce, ciphertext."""
        name, nonce = self._active.encode(), self._entropy.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[self._active].encrypt(nonce, text.encode(), _place(table, column, row))
        return bytes((_VERSION, len(name))) + name + nonce + sealed

    def open(self, sealed: bytes, *, table: str, column: str, row: UUID) -> str:
        """What was sealed, if it is unaltered and stands where it was put."""
        name, nonce, ciphertext = _parts(sealed)
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise SealBroken(f"{table}.{column} of {row} is sealed with a key that is not in the ring: {name!r}")
        try:
            return cipher.decrypt(nonce, ciphertext, _place(table, column, row)).decode()
        except (InvalidTag, ValueError):
            raise SealBroken(f"{table}.{column} of {row} was altered or moved") from None

    def key_name(self, sealed: bytes) -> str:
        """Which key opens it."""
        return _parts(sealed)[0]

    def is_current(self, sealed: bytes) -> bool:
        """Whether it is sealed with the active key; else the rotation seals it anew."""
        return self.key_name(sealed) == self._active

    def blind_index(self, kind: str, text: str) -> bytes:
        """What a value is found by, of one kind: an email and a phone of the same text have nothing in common."""
        return _keyed(self._index_key, kind, text)

    def blind_indexes(self, kind: str, text: str) -> list[bytes]:
        """All that it may stand under while index keys are replaced, the present one first."""
        return [_keyed(key, kind, text) for key in (self._index_key, *self._older_index_keys)]

    def fingerprint(self, kind: str, text: str) -> bytes:
        """The value, fit to be compared for ever: keyed, or it could be guessed from a list of all there are."""
        return _keyed(self._fingerprint_key, kind, text)


def _decoded(keys: dict[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(key, validate=True) for name, key in keys.items()}


def _keyed(key: bytes, kind: str, text: str) -> bytes:
    return hmac.digest(key, f"{kind}\0{text}".encode(), "sha256")


def _place(table: str, column: str, row: UUID) -> bytes:
    return f"{table}.{column}:{row}".encode()


def _parts(sealed: bytes) -> tuple[str, bytes, bytes]:
    if len(sealed) < 2 or sealed[0] != _VERSION:
        raise SealBroken("a sealed value has an unknown form")
    name_end = 2 + sealed[1]
    nonce_end = name_end + _NONCE_BYTES
    name = sealed[2:name_end].decode(errors="replace")
    return name, sealed[name_end:nonce_end], sealed[nonce_end:]


def new_key_file(entropy: Entropy, *, name: str, development: bool = False) -> str:
    """A key file with fresh keys. What a sandbox makes is marked, and production refuses it."""
    keys = {name: base64.b64encode(entropy.token_bytes(KEY_BYTES)).decode()}
    index_key = base64.b64encode(entropy.token_bytes(KEY_BYTES)).decode()
    return json.dumps({"active": name, "keys": keys, "index_key": index_key, "development": development}, indent=2)
