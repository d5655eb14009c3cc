"""Where calls come from: the address of the other end, or the one that a proxy of ours names in its place.

Anybody can send an `x-forwarded-for`. It is read only on connections from the networks of `TRUSTED_PROXIES`, from its
end, and only as far as the next hop is a trusted proxy too: what stands before that was written by a stranger.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote

from domain.errors import AddressNotAllowed

Network = IPv4Network | IPv6Network
_Address = IPv4Address | IPv6Address

# Of one process: more connections than this are judged again, which costs a few microseconds.
_REMEMBERED = 10_000


class Origins:
    """Knows who may call, by network. With neither list, every peer is its own origin and allowed."""

    def __init__(self, *, allowed: Sequence[Network] = (), proxies: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)
        self._proxies = tuple(proxies)
        self._verdicts: dict[str, bool] = {}

    def origin(self, peer: str, forwarded: Sequence[str]) -> str:
        """The caller's address as gRPC writes addresses; `forwarded` are the values of x-forwarded-for, in order."""
        hops = [hop.strip() for value in forwarded for hop in value.split(",")]
        found = peer
        while hops and self._is_proxy(found):
            found = _written(hops.pop())
        return found

    def require_allowed(self, origin: str) -> None:
        """Raise `AddressNotAllowed` unless the list has it."""
        if not self._allowed:
            return
        verdict = self._verdicts.get(origin)
        if verdict is None:
            if len(self._verdicts) >= _REMEMBERED:
                self._verdicts.clear()
            address = _address(origin)
            verdict = self._verdicts[origin] = address is not None and _within(address, self._allowed)
        if not verdict:
            raise AddressNotAllowed()

    def _is_proxy(self, peer: str) -> bool:
        address = _address(peer)
        return address is not None and _within(address, self._proxies)


def networks(text: str) -> tuple[Network, ...]:
    """`10.0.0.0/8, 2001:db8::/32`, or raise ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _within(address: _Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _address(peer: str) -> _Address | None:
    """`ipv4:10.0.0.7:50412` and `ipv6:%5B::1%5D:50412` as addresses; None for what has none, like a socket file."""
    family, _, rest = unquote(peer).partition(":")
    if family not in ("ipv4", "ipv6"):
        return None
    host = rest.rpartition(":")[0] if family == "ipv4" else rest.removeprefix("[").partition("]")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _written(hop: str) -> str:
    """A forwarded address in the form of a peer. What is no address stays as text, and is on no list."""
    try:
        address = ip_address(hop.removeprefix("[").partition("]")[0] if hop.startswith("[") else hop)
    except ValueError:
        host, _, port = hop.rpartition(":")
        return f"ipv4:{host}:{port}" if port.isdigit() and host else f"unknown:{hop[:64]}"
    return f"ipv4:{address}:0" if address.version == 4 else f"ipv6:[{address}]:0"
