"""deploy/compose.yml: whether it is valid, and whether everything that it names is there."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.__main__ import COMMANDS
from mailproxy.config import Settings, load
from mailproxy.config_database import DatabaseUrl
from tests import dockerfile
from tests.need import need_program
from tests.scenarios.test_systemd import AFTER_DRAIN
from tests.scratch import scratch
from tests.test_architecture import ROOT

PLACE = ROOT / "deploy"


def schema() -> dict[str, Any]:
    """What Compose itself checks files by."""
    spec = find_spec("compose")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "config" / "compose_spec.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def make_secrets(case: SynchronousTestCase) -> Path:
    need_program("openssl")
    folder = scratch(case) / "secrets"
    argv = [str(PLACE / "make-secrets"), str(folder)]
    subprocess.run(argv, check=True, capture_output=True, timeout=30)
    return folder


class ComposeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.file: dict[str, Any] = yaml.safe_load((PLACE / "compose.yml").read_text())
        self.services: dict[str, dict[str, Any]] = self.file["services"]
        self.nodes = {n: s for n, s in self.services.items() if s["image"] == "genro-mail-proxy"}

    def test_valid(self) -> None:
        """Compose takes it, and would not take an entry that it does not know."""
        import jsonschema  # which takes more than a second

        # Younger than the schema: the project's name.
        known = {key: value for key, value in self.file.items() if key != "name"}
        validator = jsonschema.Draft7Validator(schema())
        validator.validate(known)
        wrong = known | {"services": {"node": {"image": "x", "healthchek": {}}}}
        with self.assertRaises(jsonschema.ValidationError):
            validator.validate(wrong)

    def test_who_is_there(self) -> None:
        """Two nodes and what they need, each of which tells its health."""
        self.assertEqual(["node1", "node2"], sorted(self.nodes))
        others = set(self.services) - set(self.nodes)
        self.assertEqual({"postgres", "nginx", "prometheus", "grafana"}, others)
        for name, service in self.services.items():
            self.assertEqual("CMD", service["healthcheck"]["test"][0], name)

    def test_names_meet(self) -> None:
        """Networks, volumes, secrets and services that are named are declared, and used."""
        for kind in ("networks", "secrets"):
            used = {each for service in self.services.values() for each in service.get(kind, ())}
            self.assertEqual(set(self.file[kind]), used)
        volumes = set()
        for service in self.services.values():
            self.assertLessEqual(set(service.get("depends_on", ())), set(self.services))
            for each in service.get("volumes", ()):
                source, target = each.split(":")[:2]
                self.assertTrue(target.startswith("/"))
                if not source.startswith("./secrets/"):
                    (volumes.add(source) if "/" not in source else self.assert_there(source))
        self.assertEqual(set(self.file["volumes"]), volumes)
        for name, service in self.services.items():
            for other, how in dict.fromkeys(service.get("depends_on", ())).items():
                self.assertIn("healthcheck", self.services[other], f"{name}: {how}")

    def assert_there(self, name: str) -> None:
        self.assertTrue((PLACE / name).exists(), name)

    def test_reached(self) -> None:
        """Whom nginx and Prometheus ask are the nodes, at the port that these listen on."""
        wanted = sorted(f"{name}:{Settings().port}" for name in self.nodes)
        # Each twice: for the API, and for the console.
        conf = (PLACE / "nginx" / "upstream-compose.conf").read_text()
        self.assertEqual(sorted(wanted * 2), sorted(re.findall(r"(?m)^\s*server (\S+);", conf)))
        (scraped,) = yaml.safe_load((PLACE / "prometheus/prometheus.yml").read_text())[
            "scrape_configs"
        ]
        self.assertEqual(wanted, sorted(scraped["static_configs"][0]["targets"]))
        site = (PLACE / "nginx" / "mailproxy.conf").read_text()
        mounts = {each.split(":")[1] for each in self.services["nginx"]["volumes"]}
        for path in re.findall(r"(?m)^\s*ssl_certificate(?:_key)? (\S+);", site):
            self.assertIn(path, mounts)
        boards = yaml.safe_load(
            (PLACE / "grafana/provisioning/dashboards/mailproxy.yml").read_text()
        )
        (provider,) = boards["providers"]
        mounts = {each.split(":")[1] for each in self.services["grafana"]["volumes"]}
        self.assertIn(f"{provider['options']['path']}/mailproxy.json", mounts)

    def test_only_the_door_is_open(self) -> None:
        """From outside of the machine one gets to nginx alone; to the database only nodes do."""
        for name, service in self.services.items():
            for port in service.get("ports", ()):
                self.assertEqual(name == "nginx", not port.startswith("127.0.0.1:"), name)
            self.assertEqual(
                name == "postgres" or name in self.nodes, "database" in service["networks"], name
            )
        self.assertTrue(self.file["networks"]["database"]["internal"])

    def test_the_proxy_is_believed(self) -> None:
        """The address that is believed is nginx's, within the network."""
        address = self.services["nginx"]["networks"]["front"]["ipv4_address"]
        (config,) = self.file["networks"]["front"]["ipam"]["config"]
        self.assertIn(ip_address(address), ip_network(config["subnet"]))
        for node in self.nodes.values():
            self.assertEqual(address, node["environment"]["GMP_TRUSTED_PROXIES"])

    def test_nodes(self) -> None:
        """A node is locked in, has time to stop, and is asked by a command that there is."""
        (_, final) = dockerfile.read(ROOT / "Dockerfile")
        user, group = final.one("USER").split(":")
        for node in self.nodes.values():
            self.assertTrue(node["read_only"])
            self.assertEqual(["ALL"], node["cap_drop"])
            grace = int(node["stop_grace_period"].removesuffix("s"))
            self.assertGreaterEqual(grace, Settings().drain_seconds + AFTER_DRAIN)
            (place,) = node["tmpfs"]
            self.assertTrue(place.startswith(f"{final.one('VOLUME')}:"))
            self.assertIn(f"uid={user},gid={group}", place)
            _, program, command, option = node["healthcheck"]["test"]
            self.assertEqual(("mailproxy", "--ready"), (program, option))
            self.assertIn(command, COMMANDS)

    def test_settings_are_taken(self) -> None:
        """A node with these settings and secrets starts: no value is wrong, no name unknown."""
        folder = make_secrets(self)
        for node in self.nodes.values():
            env = {
                name: re.sub(r"\$\{\w+:-\}", "", text).replace("/run/secrets", str(folder))
                for name, text in node["environment"].items()
            }
            for name, path in env.items():
                if name.endswith("_FILE"):
                    self.assertIn(Path(path).name, node["secrets"])
            settings = load(env, cwd=folder)
            self.assertEqual((), settings.warnings)
            assert isinstance(settings.db_path, DatabaseUrl)
            self.assertIn("postgres", self.services)
            self.assertIn("@postgres:5432/mailproxy", (folder / "database").read_text())


class SecretTests(SynchronousTestCase):
    def test_made_once(self) -> None:
        """Secrets are made once, long ones, in a directory for nobody else."""
        folder = make_secrets(self)
        self.assertEqual(0o700, stat.S_IMODE(folder.stat().st_mode))
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        file = yaml.safe_load((PLACE / "compose.yml").read_text())
        for secret in file["secrets"].values():
            self.assertIn(Path(secret["file"]).name, before)
        self.assertGreaterEqual(len(before["api-token"].strip()), 32)
        certificate = x509.load_pem_x509_certificate(before["tls.crt"])
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(["localhost"], names.get_values_for_type(x509.DNSName))
        subprocess.run([str(PLACE / "make-secrets"), str(folder)], check=True, timeout=30)
        self.assertEqual(before, {path.name: path.read_bytes() for path in folder.iterdir()})
        for path in folder.iterdir():
            readable = not path.name.startswith("tls.")
            self.assertEqual(readable, bool(path.stat().st_mode & stat.S_IROTH), path.name)

    def test_never_in_the_repository(self) -> None:
        """Git does not take them, nor does the image's build."""
        self.assertIn("/deploy/secrets/", (ROOT / ".gitignore").read_text().splitlines())
        self.assertEqual("*", (ROOT / ".dockerignore").read_text().splitlines()[1])
