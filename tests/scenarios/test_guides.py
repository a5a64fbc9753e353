"""Every command that a page shows, typed as it stands, page by page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.need import need_program
from tests.pages import Block, blocks, pages, run_of
from tests.scenarios.processes import TOKEN, Service, SinkProcess, account, free_port
from tests.scratch import scratch

#: Its answers are compared with what it shows, by tests/scenarios/test_api_guide.py.
ELSEWHERE = {"docs/usage.md"}

#: What a page relies on; a refusal ends the page.
BEGIN = f"""\
set -eu -o pipefail
TOKEN={TOKEN}
curl() {{
    local fail=(--fail-with-body)
    case " $* " in *" -w "*) fail=() ;; esac  # it looks at the status itself
    command curl -sS "${{fail[@]}}" --max-time 30 "$@"
}}
"""


class GuideTests(SynchronousTestCase):
    """
    One service, with a sink as its upstream and the receiver of its reports.

    :ivar provider: an upstream that demands a login.
    """

    def setUp(self) -> None:
        self.bash = need_program("bash")
        for program in ("curl", "openssl", "ss"):
            need_program(program)
        self.directory = scratch(self)
        self.sink = SinkProcess(
            self.directory, "--quiet", "--report-user", "syncuser", "--report-password", "syncpass"
        ).start()
        self.addCleanup(self.sink.end)
        (self.directory / "provider").mkdir()
        self.provider = SinkProcess(
            self.directory / "provider",
            *("--quiet", "--user", "your-email@gmail.com", "--password", "app-specific-password"),
        ).start()
        self.addCleanup(self.provider.end)
        self.smtp_port = free_port()
        self.service = Service(
            self.directory,
            GMP_CLIENT_SYNC_URL=self.sink.sync_url,
            GMP_CLIENT_SYNC_USER="syncuser",
            GMP_CLIENT_SYNC_PASSWORD="syncpass",
            GMP_SMTP_LISTEN=f"tcp:{self.smtp_port}:interface=127.0.0.1",
            GMP_SMTP_ALLOW="127.0.0.1",
            GMP_LOG_DELIVERY_ACTIVITY="true",
        ).start()
        self.addCleanup(self.service.end)

    def here(self, text: str) -> str:
        """*text* with what is at other places in the pages: addresses, names, files."""
        sync_url = "http://genropy.internal:8080/email/mailproxy/mp_endpoint/proxy_sync"
        for shown, real in (
            (sync_url, self.sink.sync_url),
            ("http://mail-proxy.internal:8000", self.service.url),
            ("smtp.gmail.com:587", f"127.0.0.1:{self.provider.smtp_port}"),
            ("smtp.gmail.com", "127.0.0.1"),
            ('"port": 587', f'"port": {self.provider.smtp_port}'),
            # The sink's certificate is of nobody's making.
            ('"use_tls": false\n', '"use_tls": false, "allow_plaintext_auth": true\n'),
            ("localhost:8000", self.service.url.removeprefix("http://")),
            ("127.0.0.1:8000", self.service.url.removeprefix("http://")),
            ("localhost:8025", self.sink.url.removeprefix("http://")),
            ("127.0.0.1:8025", self.sink.url.removeprefix("http://")),
            ('"port": 2525', f'"port": {self.sink.smtp_port}'),
            ('"port": 2526', f'"port": {free_port()}'),
            ("127.0.0.1:2525", f"127.0.0.1:{self.smtp_port}"),
            (".venv/bin/mailproxy", "mailproxy"),
        ):
            text = text.replace(shown, real)
        return text

    def environment(self) -> dict[str, str]:
        """The operator's shell: our commands are on its PATH, and find the service."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**self.service.environment(), "PATH": path, "NO_COLOR": "1", "COLUMNS": "100"}

    def script(self, found: list[Block]) -> str:
        """All of *found* in one shell; each says where it stands before it begins."""
        parts = [BEGIN]
        for block in found:
            parts += [f"echo '-- {block}' >&2", self.here(block.text)]
        return "\n".join(parts)

    def test_typed_as_they_stand(self) -> None:
        """Every command of every page works, one page after the other."""
        ran = 0
        for page in pages():
            found = run_of(blocks(page))
            if not found or found[0].page in ELSEWHERE:
                continue
            self.service.call("POST", "/account", account(self.sink.smtp_port, is_default=True))
            self.service.call("POST", "/commands/activate")
            folder = self.directory / str(page.relative_to(page.anchor)).replace("/", "-")
            folder.mkdir()
            done = subprocess.run(
                [self.bash, "-c", self.script(found)],
                cwd=folder, env=self.environment(), stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            self.assertEqual(0, done.returncode, f"{page}\n{done.stdout}\n{done.stderr}")
            ran += len(found)
        self.assertGreater(ran, 20)
        self.assertTrue(self.service.alive)
