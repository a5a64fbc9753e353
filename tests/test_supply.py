"""The bill of materials, and the search for known vulnerabilities."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy import __version__
from tests.scenarios.processes import free_port
from tests.scratch import scratch
from tests.test_image import pins
from tools import audit
from tools.sbom import bill


class BillTests(SynchronousTestCase):
    def test_everything_is_in_it(self) -> None:
        """It names every package of the image with version, hashes and licence, and the service."""
        # They take more than a second to import.
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        made = bill()
        locked = pins("requirements-image.lock")
        named = {each["name"]: each for each in made["components"]}
        self.assertEqual(
            {name: version for name, (version, _) in locked.items()},
            {name: each["version"] for name, each in named.items()},
        )
        for name, each in named.items():
            digests = {
                f"sha256:{one['content']}"
                for reference in each["externalReferences"]
                for one in reference["hashes"]
            }
            self.assertEqual(locked[name][1], digests)
            self.assertEqual(f"pkg:pypi/{name}@{each['version']}", each["purl"])
        self.assertGreater(len([each for each in named.values() if "licenses" in each]), 35)
        own = made["metadata"]["component"]
        self.assertEqual(("mailproxy", __version__), (own["name"], own["version"]))
        (graph,) = [each for each in made["dependencies"] if each["ref"] == own["bom-ref"]]
        refs = {each["bom-ref"]: name for name, each in named.items()}
        self.assertIn("twisted", {refs[ref] for ref in graph["dependsOn"]})
        self.assertNotIn("mako", {refs[ref] for ref in graph["dependsOn"]})
        problem = JsonStrictValidator(SchemaVersion.from_version(made["specVersion"])).validate_str(
            json.dumps(made)
        )
        self.assertIsNone(problem)


HOLE = {
    "id": "PYSEC-0000-1",
    "modified": "2026-01-01T00:00:00Z",
    "summary": "Made up for a test",
    "aliases": ["CVE-0000-1"],
    "affected": [
        {
            "package": {"name": "tubes", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}],
            "versions": ["0.2.1"],
        }
    ],
}


class AuditTests(SynchronousTestCase):
    def serve(self, *holes: dict[str, Any]) -> str:
        """A database that knows *holes* of every package; returns its URL."""

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                body = json.dumps({"vulns": holes} if holes else {}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_address[1]}/v1/query"

    def audit(self, *urls: str) -> tuple[int, str]:
        """Exit status and output, with the databases at *urls*."""
        lock = scratch(self) / "some.lock"
        lock.write_text(f"tubes==0.2.1 --hash=sha256:{'0' * 64}\n")
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = audit.main(
                [str(lock)],
                [("--vulnerability-service=osv", f"--osv-url={url}") for url in urls],
            )
        return status, said.getvalue()

    def test_a_hole_fails(self) -> None:
        """A known vulnerability fails, named with the version that has it no more."""
        status, said = self.audit(self.serve(HOLE))
        self.assertEqual(1, status, said)
        self.assertIn("VULNERABLE: tubes 0.2.1: PYSEC-0000-1 (CVE-0000-1), fixed in 9.9", said)

    def test_nobody_answers(self) -> None:
        """No database: it does not fail, and does not pass for good news; the next one is asked."""
        nowhere = f"http://127.0.0.1:{free_port()}/v1/query"
        status, said = self.audit(nowhere)
        self.assertEqual(0, status)
        self.assertIn("NOTHING WAS AUDITED", said)
        self.assertNotIn("0 vulnerabilities", said)
        status, said = self.audit(nowhere, self.serve())
        self.assertEqual(0, status)
        self.assertIn("could not be asked", said)
        self.assertIn("1 packages audited, 0 vulnerabilities", said)

    def test_judge(self) -> None:
        """What the database does not know counts as not audited, what is accepted as no hole."""
        hole = {"id": "X-1", "fix_versions": [], "aliases": ["CVE-1"], "description": ""}
        report = {
            "dependencies": [
                {"name": "a", "version": "1", "vulns": [hole]},
                {"name": "b", "skip_reason": "Dependency not found"},
            ]
        }
        verdict = audit.judge(report, {})
        self.assertEqual((1, ("b",)), (verdict.audited, verdict.unknown))
        self.assertEqual(("a 1: X-1 (CVE-1), fixed in no version yet",), verdict.found)
        for known in ("X-1", "CVE-1"):
            self.assertEqual((), audit.judge(report, {known: "why"}).found)

    def test_accepted_with_a_reason(self) -> None:
        """Whatever is accepted has a reason."""
        for name, reason in audit.ACCEPTED.items():
            self.assertGreater(len(reason), 20, name)
