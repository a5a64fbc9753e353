"""The manifests for Kubernetes: what they come to, whether it is valid, and what it promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.config import Settings, load
from tests import dockerfile
from tests.api.door import Door
from tests.kubernetes_models import problems
from tests.kustomize import Wrong, build, merged
from tests.scenarios.test_systemd import AFTER_DRAIN
from tests.scratch import scratch
from tests.test_architecture import ROOT

PLACE = ROOT / "deploy" / "kubernetes"
NAME = "genro-mail-proxy"


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    return dict(found)


class OverlayTests(SynchronousTestCase):
    def test_merge(self) -> None:
        """Objects merge by field, lists by their key, null takes away."""
        old = {"a": {"b": 1, "c": 2}, "env": [{"name": "X", "value": "1"}], "args": [1]}
        new = {"a": {"b": None}, "env": [{"name": "Y"}, {"name": "X", "value": "2"}], "args": [2]}
        self.assertEqual(
            {"a": {"c": 2}, "env": [{"name": "X", "value": "2"}, {"name": "Y"}], "args": [2]},
            merged(old, new),
        )

    def test_patches_are_for_something(self) -> None:
        """A patch of what is not there, or a file that is missing, is an error."""
        folder = scratch(self)
        resource = {"kind": "Service", "metadata": {"name": "a"}}
        (folder / "a.yaml").write_text(yaml.safe_dump(resource))
        (folder / "b.yaml").write_text(yaml.safe_dump(resource | {"metadata": {"name": "b"}}))
        for plan in (
            {"resources": ["a.yaml"], "patches": [{"path": "b.yaml"}]},
            {"resources": ["a.yaml", "c.yaml"]},
            {"resources": ["a.yaml", "a.yaml"]},
            {"resources": ["a.yaml"], "namePrefix": "x"},
        ):
            (folder / "kustomization.yaml").write_text(yaml.safe_dump(plan))
            with self.assertRaises(Wrong):
                build(folder)

    def test_every_file_is_used(self) -> None:
        """No file lies beside the others without effect."""
        for folder in sorted(PLACE.iterdir()):
            plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
            named = {*plan["resources"], *(patch["path"] for patch in plan.get("patches", ()))}
            files = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
            self.assertEqual(files, {name for name in named if not name.startswith("..")})


class ManifestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = build(PLACE / "base")
        self.shared = build(PLACE / "postgres")

    def pods(self) -> list[dict[str, Any]]:
        return [
            built["Deployment", NAME]["spec"]["template"]["spec"]
            for built in (self.base, self.shared)
        ]

    def test_valid(self) -> None:
        """Every resource has the fields that Kubernetes knows, of the right types."""
        for built in (self.base, self.shared):
            for resource in built.values():
                self.assertEqual([], problems(resource))

    def test_invalid_is_found(self) -> None:
        """An unknown field, a missing one and a wrong type are found."""
        wrong = merged(self.base["Deployment", NAME], {"spec": {"replicas": "1", "strategie": {}}})
        del wrong["spec"]["selector"]
        del wrong["spec"]["template"]["spec"]["containers"][0]["name"]
        found = " ".join(problems(wrong))
        for part in ("replicas: not", "strategie: unknown", "selector: missing", "[0].name: miss"):
            self.assertIn(part, found)

    def test_one_process_with_a_disk(self) -> None:
        """The base is one process that ends before its successor begins, on a claim."""
        spec = self.base["Deployment", NAME]["spec"]
        self.assertEqual((1, {"type": "Recreate"}), (spec["replicas"], spec["strategy"]))
        volumes = {each["name"]: each for each in self.pods()[0]["volumes"]}
        claim = volumes["data"]["persistentVolumeClaim"]["claimName"]
        self.assertIn(("PersistentVolumeClaim", claim), self.base)
        self.assertNotIn("HorizontalPodAutoscaler", {kind for kind, _ in self.base})

    def test_many_processes_with_a_server(self) -> None:
        """The overlay has as many as the autoscaler wants, a server, and nothing on a disk."""
        spec = self.shared["Deployment", NAME]["spec"]
        self.assertNotIn("replicas", spec)
        self.assertEqual("RollingUpdate", spec["strategy"]["type"])
        volumes = {each["name"]: set(each) for each in self.pods()[1]["volumes"]}
        self.assertEqual({"name", "emptyDir"}, volumes["data"])
        self.assertNotIn("PersistentVolumeClaim", {kind for kind, _ in self.shared})
        scaler = self.shared["HorizontalPodAutoscaler", NAME]["spec"]
        target = scaler["scaleTargetRef"]
        self.assertIn((target["kind"], target["name"]), self.shared)
        self.assertGreaterEqual(scaler["minReplicas"], 2)
        self.assertIn("cpu", container(self.pods()[1])["resources"]["requests"])
        names = {each["name"] for each in container(self.pods()[1])["env"]}
        self.assertEqual(
            {"GMP_API_TOKEN_FILE", "GMP_ENCRYPTION_KEY_FILE", "GMP_DB_PATH_FILE"}, names
        )

    def test_labels_meet(self) -> None:
        """Whatever selects pods selects these."""
        for built in (self.base, self.shared):
            labels = built["Deployment", NAME]["spec"]["template"]["metadata"]["labels"]
            for (kind, _), resource in built.items():
                spec = resource.get("spec", {})
                chosen = {
                    "Service": lambda spec: spec["selector"],
                    "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
                    "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
                    "Deployment": lambda spec: spec["selector"]["matchLabels"],
                }.get(kind)
                if chosen is not None:
                    self.assertLessEqual(chosen(spec).items(), labels.items(), kind)

    def test_locked_in(self) -> None:
        """The pods pass the strictest of the Pod Security Standards, *restricted*."""
        (_, final) = dockerfile.read(ROOT / "Dockerfile")
        for pod in self.pods():
            context, own = pod["securityContext"], container(pod)["securityContext"]
            self.assertTrue(context["runAsNonRoot"])
            self.assertEqual("RuntimeDefault", context["seccompProfile"]["type"])
            user = f"{context['runAsUser']}:{context['runAsGroup']}"
            self.assertEqual(final.one("USER"), user)
            self.assertFalse(own["allowPrivilegeEscalation"])
            self.assertTrue(own["readOnlyRootFilesystem"])
            self.assertEqual({"drop": ["ALL"]}, own["capabilities"])
            self.assertFalse(pod["automountServiceAccountToken"])
            self.assertLessEqual(
                {name for volume in pod["volumes"] for name in volume},
                {"name", "persistentVolumeClaim", "emptyDir", "secret"},
            )
            self.assertFalse(pod["enableServiceLinks"])

    def test_probes(self) -> None:
        """Kubernetes asks what is open to anyone, at the port that the service listens on."""
        paths = {route.path for route in Door().api.routes}
        for pod in self.pods():
            one = container(pod)
            (port,) = one["ports"]
            self.assertEqual(Settings().port, port["containerPort"])
            asked = {}
            for name in ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = one[name]["httpGet"]
                self.assertEqual(port["name"], probe["port"])
                asked[name] = probe["path"]
            # What is not ready is left alone; only what does not live is started again.
            self.assertEqual("/livez", asked["livenessProbe"])
            self.assertEqual("/readyz", asked["readinessProbe"])
            self.assertLessEqual(set(asked.values()), paths)

    def test_time_to_stop(self) -> None:
        """A pod is killed only after it had the time to stop in order."""
        for pod in self.pods():
            hook = container(pod).get("lifecycle", {}).get("preStop")
            before = int(hook["exec"]["command"][1]) if hook else 0
            least = before + Settings().drain_seconds + AFTER_DRAIN
            self.assertGreaterEqual(pod["terminationGracePeriodSeconds"], least)

    def test_network(self) -> None:
        """What may come in and go out is what the service needs, and nothing else."""
        rules = self.base["NetworkPolicy", f"{NAME}-policy"]["spec"]
        self.assertEqual(["Ingress", "Egress"], rules["policyTypes"])
        self.assertEqual({("TCP", 8000)}, ports(rules["ingress"]))
        self.assertEqual(
            {("TCP", 8080), ("TCP", 53), ("UDP", 53), ("TCP", 587), ("TCP", 465)},
            ports(rules["egress"]),
        )
        for rule in rules["ingress"]:
            self.assertTrue(rule["from"], "an empty list would let in everybody")
        # Mail servers are no pods: a rule with a selector would not let anything out.
        for rule in rules["egress"]:
            mail = {port["port"] for port in rule["ports"]} & {587, 465}
            self.assertEqual(bool(mail), "to" not in rule)
        more = self.shared["NetworkPolicy", f"{NAME}-database"]["spec"]
        self.assertEqual(
            (["Egress"], {("TCP", 5432)}), (more["policyTypes"], ports(more["egress"]))
        )

    def test_settings_are_taken(self) -> None:
        """A service with this environment starts: the values are right, and without a warning."""
        folder = scratch(self)
        entries = {
            "api-token": "t" * 32,
            "encryption-key": "A" * 43 + "=",
            "database": "postgresql://u:p@postgres:5432/mailproxy",
        }
        for name, text in entries.items():
            (folder / name).write_text(text)
        for built, pod in zip((self.base, self.shared), self.pods(), strict=True):
            one = container(pod)
            mounts = {each["name"]: each["mountPath"] for each in one["volumeMounts"]}
            env = dict(built["ConfigMap", one["envFrom"][0]["configMapRef"]["name"]]["data"])
            for each in one["env"]:
                env[each["name"]] = each["value"].replace(mounts["secrets"], str(folder))
            settings = load(env, cwd=folder, volume=Path(mounts["data"]))
            self.assertEqual((), settings.warnings)
            self.assertEqual(entries["api-token"], settings.api_token)


def ports(rules: list[dict[str, Any]]) -> set[tuple[str, int]]:
    return {(port["protocol"], port["port"]) for rule in rules for port in rule["ports"]}
