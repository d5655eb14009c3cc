"""What `make run` decides before it starts anything: addresses, keys, tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from sandbox.component import Refused
from sandbox.keys import DevelopmentKeys
from sandbox.listen import listen_addresses
from sandbox.token import ALL_SERVICE_SCOPES, Claims, development_token


def test_every_part_has_its_own_port_on_the_loopback_interface() -> None:
    """Nothing of a development wallet is reachable from another machine unless somebody says so."""
    addresses = listen_addresses({})
    assert str(addresses["GRPC_LISTEN"]) == "127.0.0.1:50051"
    assert len({listen.port for listen in addresses.values()}) == len(addresses)
    assert {listen.host for listen in addresses.values()} == {"127.0.0.1"}


def test_port_offset_moves_what_is_not_set_itself() -> None:
    """Two checkouts run beside each other, and an address somebody wrote down is meant."""
    addresses = listen_addresses({"PORT_OFFSET": "100", "VALKEY_LISTEN": "127.0.0.1:7000"})
    assert addresses["GRPC_LISTEN"].port == 50151
    assert addresses["VALKEY_LISTEN"].port == 7000


@pytest.mark.parametrize(
    "environment", [{"GRPC_LISTEN": "50051"}, {"GRPC_LISTEN": "host:99999"}, {"PORT_OFFSET": "one"}]
)
def test_an_address_that_is_none_is_named_with_its_setting(environment: dict[str, str]) -> None:
    """So that it is found among forty variables."""
    with pytest.raises(Refused, match=next(iter(environment))):
        listen_addresses(environment)


def test_keys_are_made_once_and_are_for_their_owner_only(tmp_path: Path) -> None:
    """The seed is where consumers' money stands on chain: another one at the next start would lose all of it."""
    first = DevelopmentKeys(tmp_path / "keys")
    made = (first.operator, first.fee_payer, first.seed, first.jwt_private, first.sealing_keys_file.read_text())
    again = DevelopmentKeys(tmp_path / "keys")
    assert made == (again.operator, again.fee_payer, again.seed, again.jwt_private, again.sealing_keys_file.read_text())
    assert first.operator != first.fee_payer
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "keys").iterdir())


def test_a_development_token_says_whom_it_speaks_for(tmp_path: Path) -> None:
    """The claims are those of the contract, so that development and production differ in the key alone."""
    keys = DevelopmentKeys(tmp_path / "keys")
    token = development_token(keys, Claims(subject="backend", token_use="service", scope=ALL_SERVICE_SCOPES))
    claims = jwt.decode(token, ECKey.import_key(keys.jwt_public), algorithms=["ES256"]).claims
    assert (claims["sub"], claims["token_use"], claims["aud"]) == ("backend", "service", "monay-wallet")
    assert claims["scope"].split() == ["wallet:read", "wallet:write", "consumers:onboard"]
    assert claims["exp"] > claims["iat"]
