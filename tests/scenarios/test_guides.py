"""Every command that a page shows, typed as it stands, page by page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.need import need_program
from tests.pages import Block, blocks, pages, run_of, shown_by
from tests.scenarios.forked import CALLER
from tests.scenarios.processes import (
    TOKEN,
    Process,
    Service,
    SinkProcess,
    account,
    free_port,
    wait_until,
)
from tests.scenarios.test_api_guide import differences
from tests.scratch import scratch
from tests.test_architecture import ROOT

#: Its answers are compared with what it shows, by tests/scenarios/test_api_guide.py.
ELSEWHERE = {"docs/usage.md"}

#: Written behind what the commands of a block print.
MARK = "-- end of block --"

#: What a page relies on; a refusal ends the page.
BEGIN = f"""\
set -eu -o pipefail
TOKEN={TOKEN}
mailproxy() {{ "$PYTHON" -I -S "$CALLER" "$CALLED" "$@"; }}
curl() {{
    local fail=(--fail-with-body)
    case " $* " in *" -w "*) fail=() ;; esac  # it looks at the status itself
    command curl -sS "${{fail[@]}}" --max-time 30 "$@"
}}
"""


class Commands(Process):
    """Runs ``mailproxy`` for those who call at its socket."""

    name = "commands"

    @property
    def socket(self) -> str:
        return str(self.directory / "commands")

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.scenarios.forked", self.socket]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(ROOT)}


def last_value(printed: str) -> Any:
    """The last of the JSON values that commands have *printed*, one behind the other."""
    value, at = None, 0
    while text := printed[at:].strip():
        at = len(printed) - len(printed[at:].lstrip())
        value, length = json.JSONDecoder().raw_decode(text)
        at += length
    return value


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
        )
        (self.directory / "provider").mkdir()
        self.provider = SinkProcess(
            self.directory / "provider",
            *("--quiet", "--user", "your-email@gmail.com", "--password", "app-specific-password"),
        )
        self.smtp_port = free_port()
        self.service = Service(
            self.directory,
            GMP_CLIENT_SYNC_URL=self.sink.sync_url,
            GMP_CLIENT_SYNC_USER="syncuser",
            GMP_CLIENT_SYNC_PASSWORD="syncpass",
            GMP_SMTP_LISTEN=f"tcp:{self.smtp_port}:interface=127.0.0.1",
            GMP_SMTP_ALLOW="127.0.0.1",
            GMP_LOG_DELIVERY_ACTIVITY="true",
        )
        (self.directory / "caller.py").write_text(CALLER)
        self.commands = Commands(self.directory)
        # All at once: most of a start is to import.
        for each in (self.sink, self.provider, self.commands):
            each.spawn()
            self.addCleanup(each.kill)
        self.service.start()
        self.addCleanup(self.service.end)
        self.sink.wait()
        self.provider.wait()
        wait_until(lambda: Path(self.commands.socket).exists(), what="the commands")

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
        own = {"PATH": path, "PYTHON": sys.executable, "COLUMNS": "100"}
        own |= {"CALLER": str(self.directory / "caller.py"), "CALLED": self.commands.socket}
        return {**self.service.environment(), **own}

    def script(self, found: list[Block]) -> str:
        """All of *found* in one shell; each says where it stands before it begins."""
        parts = [BEGIN]
        for block in found:
            parts += [f"echo '-- {block}' >&2", self.here(block.text), f"echo '{MARK}'"]
        return "\n".join(parts)

    def compare(self, found: list[Block], printed: str) -> int:
        """Compare what is shown behind commands with what they have *printed*; how often."""
        said = dict(zip(run_of(found), printed.split(MARK), strict=False))
        shown = {before: after for before, after in shown_by(found).items() if before in said}
        for before, after in shown.items():
            got = last_value(said[before])
            wrong = list(differences(json.loads(after.text), got))
            self.assertEqual([], wrong, f"{after}\n{said[before]}")
        return len(shown)

    def test_typed_as_they_stand(self) -> None:
        """Every command of every page works, and prints what the page shows behind it."""
        ran = compared = 0
        for page in pages():
            every = blocks(page)
            found = run_of(every)
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
            compared += self.compare(every, done.stdout)
            ran += len(found)
        self.assertGreater(ran, 20)
        self.assertGreaterEqual(compared, 3)
        self.assertTrue(self.service.alive)
