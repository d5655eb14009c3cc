"""The gateway of a deployment, on this machine: Envoy, with the configuration of deploy/gateway made plain.

What is taken out is what a laptop does not have: certificates and names of other machines. What is added, a production
gateway must never have: a call that brings no token gets a development token of a backend service, so that the
deployment guide's commands work as they are written.
"""

from __future__ import annotations

import copy
import http.client
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import yaml

from sandbox.component import Component, Refused
from sandbox.endpoints import ROOT
from sandbox.listen import Listen
from server.api.descriptors import descriptor_set

PRODUCTION = ROOT / "deploy" / "gateway" / "envoy.yaml"
# Pages of a development server on this machine, whatever its port.
LOCAL_PAGES = r"https?://(localhost|127\.0\.0\.1)(:\d+)?"
SANDBOX_SERVICE = "monay.wallet.v1.SandboxService"

Json = dict[str, Any]


class Gateway(Component):
    name = "The gateway"
    program_name = "envoy"

    def __init__(self, folder: Path, *, listen: Listen, wallet: Listen, token: str) -> None:
        """Listen there, hand calls to the wallet, and give them the token where they bring none."""
        super().__init__(folder, port=listen.port)
        self._listen = listen
        self._wallet = wallet
        self._token = token

    @property
    def url(self) -> str:
        return f"http://{self._listen}"

    @staticmethod
    def installed() -> bool:
        """Whether Envoy is here: it is built for fewer machines than the rest, and the wallet runs without it."""
        return program_path() is not None

    def _start(self) -> None:
        program = program_path()
        if program is None:
            raise Refused("The gateway (Envoy) is not installed: there is no build of it for this machine.")
        contract = self.folder.resolve() / "contract.binpb"
        contract.write_bytes(descriptor_set().SerializeToString())
        config = sandbox_config(
            yaml.safe_load(PRODUCTION.read_text()),
            listen=(self._listen.host, self._listen.port),
            wallet=(self._wallet.host, self._wallet.port),
            contract=contract,
            token=self._token,
        )
        path = self.folder.resolve() / "envoy.json"
        path.unlink(missing_ok=True)
        # For our eyes only: there is a token in it.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(config, file, indent=2)
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        self._spawn([str(program), "--config-path", str(path), *options])

    def ready(self) -> bool:
        """Whether an answer of the wallet comes back through it."""
        connection = http.client.HTTPConnection(self._listen.host, self._listen.port, timeout=2)
        try:
            connection.request("GET", "/api/consumer/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def sandbox_config(
    production: Json, *, listen: tuple[str, int], wallet: tuple[str, int], contract: Path, token: str
) -> Json:
    """The production configuration for one machine: no TLS, the wallet of `make run`, its sandbox, and a token."""
    config = copy.deepcopy(production)
    (listener,) = config["static_resources"]["listeners"]
    listener["address"] = _address(listen)
    (chain,) = listener["filter_chains"]
    del chain["transport_socket"]
    manager = chain["filters"][0]["typed_config"]
    transcoder = next(f for f in manager["http_filters"] if f["name"].endswith("grpc_json_transcoder"))["typed_config"]
    transcoder["proto_descriptor"] = str(contract)
    (host,) = manager["route_config"]["virtual_hosts"]
    (route,) = host["routes"]
    host["routes"].append({**route, "match": {"prefix": f"/{SANDBOX_SERVICE}/"}})
    cors = host["typed_per_filter_config"]["envoy.filters.http.cors"]
    cors["allow_origin_string_match"] = [{"safe_regex": {"regex": LOCAL_PAGES}}]
    host["request_headers_to_add"] = [
        {"header": {"key": "authorization", "value": f"Bearer {token}"}, "append_action": "ADD_IF_ABSENT"}
    ]
    (cluster,) = config["static_resources"]["clusters"]
    # `make run` is ready when the first call through the gateway is answered; waiting for a probe would only delay it.
    for unwanted in ("transport_socket", "health_checks"):
        del cluster[unwanted]
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [{"endpoint": {"address": _address(wallet)}}]
    return config


def _address(place: tuple[str, int]) -> Json:
    return {"socket_address": {"address": place[0], "port_value": place[1]}}


def program_path() -> Path | None:
    """The Envoy of the wheel, whose Python is not needed."""
    spec = importlib.util.find_spec("envoy")
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / "_bin" / "envoy"
    return program if program.exists() else None
