"""The forms that settings come in: addresses to listen on, lists, networks, amounts by asset."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from domain.money import Asset
from server.origins import Network, networks


def _listed(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _by_asset(value: Any) -> Any:
    """`USDC=0x…,USDT=0x…`, as pairs; what is not of that form is left for the check of the values to name."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in _listed(value)]
    return {asset.strip().upper(): address.strip().lower() for asset, _, address in pairs}


def _listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError("is not of the form host:port")
    return value


def _networks(value: Any) -> Any:
    """CIDRs; a network whose host bits are set is refused, because it was meant otherwise."""
    if not isinstance(value, str):
        return value
    try:
        return networks(value)
    except ValueError:
        raise ValueError("is not a list of networks such as 10.0.0.0/8, 2001:db8::/32") from None


Listen = Annotated[str, BeforeValidator(_listen)]
Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]
Address = Annotated[str, Field(pattern="^0x[0-9a-f]{40}$")]
Tokens = Annotated[dict[Asset, Address], NoDecode, BeforeValidator(_by_asset)]
MicrosByAsset = Annotated[dict[Asset, Annotated[int, Field(ge=0)]], NoDecode, BeforeValidator(_by_asset)]
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Millionths = Annotated[int, Field(ge=0, lt=1_000_000)]
