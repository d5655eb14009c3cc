"""What speaks against the settings of Circle, which has two products, two environments, and a key of each for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import SecretStr

if TYPE_CHECKING:
    from server.settings import Settings

ENTITY_SECRET_BYTES = 32
_SANDBOX_PREFIXES = {"circle_api_key": "TEST_API_KEY:", "circle_mint_api_key": "SAND_API_KEY:"}
_PRODUCTION_PREFIX = "LIVE_API_KEY:"


def circle_faults(settings: Settings) -> Iterator[tuple[str, str]]:
    """Faults of a process that reaches Circle, as (field, sentence)."""
    if settings.circle_api_key is None:
        if settings.circle_mint_api_key is not None:
            yield "circle_mint_api_key", "CIRCLE_MINT_API_KEY: is of no use without CIRCLE_API_KEY"
        return
    for name in ("circle_entity_secret", "circle_wallet_set_id"):
        if not getattr(settings, name):
            yield name, f"{name.upper()}: is missing, and CIRCLE_API_KEY is set"
    if settings.circle_entity_secret and not _is_secret(settings.circle_entity_secret):
        yield "circle_entity_secret", f"CIRCLE_ENTITY_SECRET: is not {ENTITY_SECRET_BYTES} bytes in hexadecimal digits"
    if settings.circle_mint_api_key is not None and settings.sealing_keys_file is None:
        yield "sealing_keys_file", "SEALING_KEYS_FILE: is missing, and CIRCLE_MINT_API_KEY pays to sealed bank accounts"
    yield from _environment_faults(settings)


def _environment_faults(settings: Settings) -> Iterator[tuple[str, str]]:
    """A key of the other environment moves the wrong money, or none: each says which one it is for."""
    in_sandbox = settings.circle_env == "sandbox"
    for name, sandbox_prefix in _SANDBOX_PREFIXES.items():
        key: SecretStr | None = getattr(settings, name)
        prefix = sandbox_prefix if in_sandbox else _PRODUCTION_PREFIX
        if key is not None and not key.get_secret_value().startswith(prefix):
            yield name, f"{name.upper()}: does not begin with {prefix}, and CIRCLE_ENV is {settings.circle_env}"
    # All test networks have a hyphen in their name at Circle, and no other network has.
    if ("-" in settings.circle_chain_name) != in_sandbox:
        yield "circle_chain", f"CIRCLE_CHAIN: {settings.circle_chain_name} is not for CIRCLE_ENV={settings.circle_env}"
    if not in_sandbox and settings.circle_base_url and not settings.circle_base_url.startswith("https://"):
        yield "circle_base_url", "CIRCLE_BASE_URL: must begin with https:// in production"


def circle_production_faults(settings: Settings) -> Iterator[tuple[str, str]]:
    """What is fit for a sandbox only."""
    if settings.circle_api_key and settings.circle_env != "production":
        yield "circle_env", "CIRCLE_ENV: must be production in production"
    if settings.circle_sns_cert_hosts:
        yield "circle_sns_cert_hosts", "CIRCLE_SNS_CERT_HOSTS: production believes no certificates but Amazon's"
    if settings.circle_webhook_url and not settings.circle_webhook_url.startswith("https://"):
        yield "circle_webhook_url", "CIRCLE_WEBHOOK_URL: must begin with https:// in production"


def _is_secret(secret: SecretStr) -> bool:
    try:
        return len(bytes.fromhex(secret.get_secret_value().removeprefix("0x"))) == ENTITY_SECRET_BYTES
    except ValueError:
        return False
