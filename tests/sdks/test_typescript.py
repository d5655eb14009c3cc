"""The TypeScript package, as somebody uses it who has nothing else of ours: in Node.js, and in a browser."""

from __future__ import annotations

import asyncio
import functools
import http.server
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from monay.wallet import connect, money
from monay.wallet.v1.messages import FaucetRequest, OnboardRequest, Recipient, TransferRequest
from sandbox.endpoints import ROOT
from sandbox.keys import DevelopmentKeys
from sandbox.token import SCOPES, Claims, development_token
from tests.sdks.conftest import RunningWallet
from tests.sdks.examples import came_out_right, example, write
from tests.sdks.languages import TYPESCRIPT, npm_ci, run
from tests.sdks.surface import pinned

CLIENT = ROOT / "clients/typescript"
PICTURE = ROOT / "docs/images/live-balance.png"

pytestmark = [pytest.mark.sdk, pytest.mark.timeout(1200)]


@pytest.fixture(autouse=True)
def toolchain() -> None:
    TYPESCRIPT.require()
    npm_ci(CLIENT)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tarball, which builds what is in it."""
    folder = tmp_path_factory.mktemp("package")
    shutil.rmtree(CLIENT / "dist", ignore_errors=True)
    run("npm", "pack", "--silent", "--pack-destination", folder, cwd=CLIENT)
    (tarball,) = folder.glob("*.tgz")
    return tarball


def test_its_own_tests_pass() -> None:
    """Those that need neither a wallet nor a proxy."""
    run("npm", "run", "--silent", "test", cwd=CLIENT)


def test_the_public_surface_is_the_one_that_is_pinned(package: Path) -> None:
    """The declarations of what is written by hand, without the prose."""
    public = ["index", "node", "web", "client", "options", "errors", "amounts", "pages", "requests"]
    texts = [f"// {name}\n{bare((CLIENT / f'dist/{name}.d.ts').read_text())}" for name in public]
    pinned(CLIENT / "api.txt", "\n".join(texts))


def test_the_package_installs_into_an_empty_project_and_the_example_of_the_readme_runs(
    package: Path, example_environment: dict[str, str], tmp_path: Path
) -> None:
    """Compiled in strict mode against the package's own types, then run."""
    write(tmp_path / "package.json", json.dumps({"type": "module", "private": True}))
    write(tmp_path / "example.ts", example("typescript", "ts"))
    run("npm", "install", "--silent", "--no-audit", "--no-fund", package, cwd=tmp_path)
    compiler = CLIENT / "node_modules/typescript/bin/tsc"
    types = ("--types", "node", "--typeRoots", CLIENT / "node_modules/@types")
    strict = ("--strict", "--module", "nodenext", "--target", "es2022", "--skipLibCheck")
    run("node", compiler, *strict, *types, "example.ts", cwd=tmp_path)
    came_out_right(run("node", "example.js", cwd=tmp_path, environment=example_environment))


async def test_a_page_shows_a_live_balance_over_grpc_web(
    package: Path, running_wallet: RunningWallet, tmp_path: Path
) -> None:
    """In a real browser, through the gateway, with a consumer's own token: what a web app would do."""
    if not running_wallet.gateway:
        pytest.skip("no gateway here: there is no Envoy for this machine")
    npm_ci(CLIENT / "browser")
    site = bundle(package, tmp_path)
    async with connect(running_wallet.grpc, running_wallet.token("service"), tls=False) as wallet:
        ana, ben = [(await wallet.onboard(somebody(name, tmp_path))).consumer.id for name in ("ana", "ben")]
        await wallet.sandbox.faucet(FaucetRequest(consumer_id=ben, amount=money("USDC", "200")))
        with served(site) as address:
            where = {"gateway": running_wallet.gateway, "token": consumer_token(running_wallet, ana)}
            looking = await look(f"{address}/index.html#{urlencode(where)}", tmp_path / "page.png", "0.00", "150.25")
            assert looking.stdout
            assert (await looking.stdout.readline()).decode().strip() == "0.00"
            payment = TransferRequest(
                consumer_id=ben, recipient=Recipient(consumer_id=ana), amount=money("USDC", "150.25")
            )
            await wallet.transfer(payment)
            assert (await looking.stdout.readline()).decode().strip() == "150.25"
            assert await looking.wait() == 0
    if os.environ.get("UPDATE_PICTURES") == "1":
        shutil.copy(tmp_path / "page.png", PICTURE)


def bare(declarations: str) -> str:
    """Without comments and blank lines."""
    without = re.sub(r"/\*.*?\*/|^//.*$", "", declarations, flags=re.DOTALL | re.MULTILINE)
    return "\n".join(line for line in without.splitlines() if line.strip()) + "\n"


def bundle(package: Path, folder: Path) -> Path:
    """The page with the packed client in it, as a web project would build it."""
    site = folder / "site"
    shutil.copytree(CLIENT / "browser/page", site)
    write(site / "package.json", json.dumps({"type": "module", "private": True}))
    run("npm", "install", "--silent", "--no-audit", "--no-fund", package, cwd=site)
    esbuild = CLIENT / "browser/node_modules/.bin/esbuild"
    run(esbuild, "page.ts", "--bundle", "--format=esm", "--outfile=page.js", "--log-level=error", cwd=site)
    return site


def somebody(name: str, unique: Path) -> OnboardRequest:
    number = abs(hash((name, str(unique), os.getpid()))) % 10**7
    return OnboardRequest(email=f"{name}-{os.urandom(6).hex()}@example.com", phone=f"+1415{number:07}")


def consumer_token(wallet: RunningWallet, consumer_id: str) -> str:
    claims = Claims(consumer_id, "consumer", SCOPES["consumer"], 3600)
    return development_token(DevelopmentKeys(wallet.folder / "keys"), claims)


async def look(url: str, picture: Path, *texts: str) -> asyncio.subprocess.Process:
    """A browser that waits for these texts."""
    script = CLIENT / "browser/look.js"
    return await asyncio.create_subprocess_exec(
        "node", str(script), url, str(picture), *texts, stdout=asyncio.subprocess.PIPE
    )


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The files of a folder over HTTP."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
