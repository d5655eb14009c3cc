"""The HTTP face: the guide's commands as they stand there, JSON, gRPC-Web, and what must not come through."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import yaml
from google.protobuf.message import Message

from monay.wallet.v1.money_pb2 import (
    GetBalanceRequest,
    GetBalanceResponse,
    WatchBalancesRequest,
    WatchBalancesResponse,
)
from sandbox.endpoints import Endpoints
from sandbox.gateway import PRODUCTION, Gateway, program_path
from sandbox.greeting import NO_GATEWAY, places
from sandbox.keys import DevelopmentKeys
from sandbox.listen import listen_addresses
from sandbox.run import gateway
from server.api.descriptors import descriptor_set
from tests.sandbox.wallet_run import ROOT, Run, alice, command, new_run

pytestmark = pytest.mark.timeout(600)

GUIDES_PORT = "localhost:3001"


@pytest.fixture(scope="module")
def running(sandbox_folder: Path) -> Iterator[Run]:
    """A wallet of `make run` with its gateway."""
    if not Gateway.installed():
        (pytest.fail if os.environ.get("REQUIRE_ALL") == "1" else pytest.skip)("Envoy has no build for this machine")
    for run in new_run(sandbox_folder):
        run.start(TEMPO_MOCK_MODE="true")
        run.wait_greeting()
        wait_for_tempo(f"http://{run.addresses['GATEWAY_LISTEN']}/api/consumer/health")
        yield run


def wait_for_tempo(url: str) -> None:
    """Until the API process has read what the workers wrote about it: every two seconds it looks."""
    deadline = time.monotonic() + 60
    while not httpx.get(url).json()["providers"].get("tempo", {}).get("healthy"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def http(running: Run) -> Iterator[httpx.Client]:
    """A caller without a token: the sandbox's gateway has one for it."""
    with httpx.Client(base_url=f"http://{running.addresses['GATEWAY_LISTEN']}", timeout=20) as client:
        yield client


# --- the guide ----------------------------------------------------------------------------------------------------

PROVIDER_STATUS = "curl http://localhost:3001/api/consumer/provider-status"
ONBOARD = """curl -X POST http://localhost:3001/api/consumer/onboard \\
  -H "Content-Type: application/json" \\
  -d '{"email":"test@example.com","phone":"+14155551234","kycLevel":1}'"""
HEALTH = "curl http://localhost:3001/api/consumer/health"


def pasted(running: Run, text: str) -> Any:
    """What a shell prints for a command of the guide; only the port is this run's own."""
    port = running.addresses["GATEWAY_LISTEN"].rpartition(":")[2]
    written = text.replace(GUIDES_PORT, f"localhost:{port}")
    done = subprocess.run(written, shell=True, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_guides_provider_status_command_works_as_written(running: Run) -> None:
    """Tempo is there and healthy, and the answer says what routing would choose."""
    answer = pasted(running, PROVIDER_STATUS)
    tempo = next(provider for provider in answer["providers"] if provider["provider"] == "tempo")
    assert tempo["healthy"] is True
    assert len(tempo["assets"]) == 5
    assert answer["routes"]["USDC"]["provider"] == "tempo"


def test_the_guides_onboarding_command_works_as_written(running: Run) -> None:
    """Without a token, which only the sandbox's gateway forgives; a second time it says that this person is known."""
    consumer = pasted(running, ONBOARD)["consumer"]
    assert (consumer["email"], consumer["kycLevel"]) == ("test@example.com", 1)
    assert consumer["addresses"][0]["address"].startswith("0x")
    again = pasted(running, ONBOARD)
    assert again["details"][0]["reason"] == "EMAIL_TAKEN"


def test_the_guides_health_command_answers_in_the_guides_form(running: Run) -> None:
    """The same names and the same kinds of values; a monitor written for the guide reads it."""
    answer = pasted(running, HEALTH)
    assert answer["status"] in ("healthy", "degraded")
    assert answer["database"] == answer["cache"] == "connected"
    assert {type(answer["providers"]["tempo"][name]) for name in ("healthy", "latency")} == {bool, int}
    assert set(answer) == {"status", "providers", "database", "cache"}


def guides_endpoints() -> list[tuple[str, str]]:
    """Method and path of each row of the table in docs/from-the-guide.md."""
    page = (ROOT / "docs/from-the-guide.md").read_text()
    return re.findall(r"^\| `(GET|POST) (/api/consumer/[a-z-]+)`", page, re.MULTILINE)


@pytest.mark.parametrize(("method", "path"), guides_endpoints())
def test_every_endpoint_of_the_guide_reaches_its_rpc(running: Run, http: httpx.Client, method: str, path: str) -> None:
    """An empty body is refused by the contract's rules or answered; a path that nobody serves would be a 404."""
    answer = http.request(method, path, params={"consumer_id": alice(running.said)} if method == "GET" else None)
    if method == "POST":
        assert answer.status_code == 400, answer.text
        assert "ErrorInfo" in answer.text
    elif path.rpartition("/")[2] not in ("health", "provider-status"):
        assert answer.status_code == 200, answer.text


def test_a_transfer_as_json_moves_money_once(running: Run, http: httpx.Client) -> None:
    """The same request twice is one transfer; what the other language calls camel case is accepted."""
    recipient = http.post(
        "/api/consumer/onboard", json={"email": "json@example.com", "phone": "+14155551777", "kycLevel": 1}
    ).json()["consumer"]["id"]
    payment = {
        "consumerId": alice(running.said),
        "requestId": "0d9f7f0e-52c2-4c1c-9a3b-0a4d7a3f6b11",
        "recipient": {"consumerId": recipient},
        "amount": {"asset": "USDC", "micros": "1500000"},
    }
    first, second = (http.post("/api/consumer/transfer", json=payment).json() for _ in range(2))
    assert (first["replayed"], second["replayed"]) == (False, True)
    balances = http.get("/api/consumer/balance", params={"consumer_id": recipient, "asset": "USDC"}).json()
    assert balances["balances"][0]["availableMicros"] == "1500000"


# --- who may ------------------------------------------------------------------------------------------------------


def test_a_token_that_was_sent_is_never_replaced(running: Run, http: httpx.Client) -> None:
    """A wrong one is refused, and a consumer's own sees the consumer's own wallet."""
    wrong = http.get("/api/consumer/balance", headers={"authorization": "Bearer nonsense"})
    assert wrong.status_code == 401
    token = command(running, "sandbox.token", "--consumer", alice(running.said)).stdout.strip()
    own = http.get("/api/consumer/balance", headers={"authorization": f"Bearer {token}"})
    assert own.status_code == 200


@pytest.mark.parametrize("path", ["/monay.wallet.v1.OperationsService/ListUnsettled", "/grpc.health.v1.Health/Check"])
def test_what_is_not_for_consumers_cannot_be_called_through_it(http: httpx.Client, path: str) -> None:
    """Operators come by another door."""
    answer = http.post(path, content=b"\0\0\0\0\0", headers={"content-type": "application/grpc-web+proto"})
    assert answer.status_code == 404


@pytest.mark.parametrize(("origin", "allowed"), [("http://localhost:5173", True), ("https://evil.example", False)])
def test_a_browser_lets_pages_of_this_machine_call_it_and_no_others(
    http: httpx.Client, origin: str, allowed: bool
) -> None:
    """Whoever visits a page somewhere has not invited it into the wallet on their machine."""
    asked = {"origin": origin, "access-control-request-method": "POST"}
    answer = http.options("/monay.wallet.v1.ConsumerWalletService/GetBalance", headers=asked)
    assert ("access-control-allow-origin" in answer.headers) is allowed


# --- gRPC-Web -----------------------------------------------------------------------------------------------------


def frame(message: Message) -> bytes:
    body = message.SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


def test_grpc_web_answers_a_call(running: Run, http: httpx.Client) -> None:
    """One frame with the message, one with the trailers."""
    content = web_call(http, "GetBalance", GetBalanceRequest(consumer_id=alice(running.said), asset="USDC")).content
    size = int.from_bytes(content[1:5], "big")
    assert len(GetBalanceResponse.FromString(content[5 : 5 + size]).balances) == 1
    assert content[5 + size] == 0x80
    assert b"grpc-status:0" in content[10 + size :]


def test_grpc_web_streams_balances(running: Run, http: httpx.Client) -> None:
    """The snapshot arrives while the stream stays open."""
    request = WatchBalancesRequest(consumer_id=alice(running.said))
    with http.stream("POST", web_path("WatchBalances"), content=frame(request), headers=WEB) as answer:
        content = next(chunk for chunk in answer.iter_bytes() if chunk)
    size = int.from_bytes(content[1:5], "big")
    assert WatchBalancesResponse.FromString(content[5 : 5 + size]).HasField("snapshot")


WEB = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}


def web_path(method: str) -> str:
    return f"/monay.wallet.v1.ConsumerWalletService/{method}"


def web_call(http: httpx.Client, method: str, request: Message) -> httpx.Response:
    return http.post(web_path(method), content=frame(request), headers=WEB)


# --- production ---------------------------------------------------------------------------------------------------


def test_the_production_gateway_has_tls_on_both_sides_and_gives_nobody_a_token() -> None:
    """What the sandbox adds and takes away is nowhere in the file that a deployment mounts."""
    config = yaml.safe_load(PRODUCTION.read_text())
    (listener,) = config["static_resources"]["listeners"]
    (cluster,) = config["static_resources"]["clusters"]
    assert "transport_socket" in listener["filter_chains"][0]
    assert "transport_socket" in cluster
    assert cluster["health_checks"][0]["grpc_health_check"] == {}
    (host,) = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    assert "request_headers_to_add" not in host
    assert [route["match"] for route in host["routes"]] == [{"prefix": "/monay.wallet.v1.ConsumerWalletService/"}]
    assert "Bearer" not in PRODUCTION.read_text()


def test_envoy_accepts_the_production_configuration(tmp_path: Path) -> None:
    """Checked by the program that will read it, with certificates in the places that the file names."""
    program = program_path()
    if program is None:
        pytest.skip("Envoy has no build for this machine")
    authority = trustme.CA()
    certificate = authority.issue_cert("wallet.example")
    tls = tmp_path / "tls"
    tls.mkdir()
    authority.cert_pem.write_to_path(tls / "ca.crt")
    certificate.private_key_pem.write_to_path(tls / "tls.key")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(tls / "tls.crt", append=True)
    folder = tmp_path / "gateway"
    folder.mkdir()
    (folder / "contract.binpb").write_bytes(descriptor_set().SerializeToString())
    for name in ("envoy.yaml", "tls.yaml"):
        text = (ROOT / "deploy/gateway" / name).read_text()
        (folder / name).write_text(text.replace("/etc/monay", str(tmp_path)))
    done = subprocess.run(
        [program, "--mode", "validate", "--config-path", folder / "envoy.yaml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_without_envoy_there_is_no_gateway_and_a_sentence_that_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The wallet runs on a machine that Envoy is not built for."""
    monkeypatch.setattr("sandbox.gateway.program_path", lambda: None)
    listen = listen_addresses({})
    assert gateway(tmp_path, listen, DevelopmentKeys(tmp_path / "keys")) == {}
    endpoints = Endpoints("g:1", "h:1", "postgresql://", "redis://", "", {}, 0)
    assert ("HTTP", NO_GATEWAY) in places(endpoints)
