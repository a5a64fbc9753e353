"""A Genropy site, the service and an upstream, each as a process or server of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.peers.genropy.framework import root
from tests.peers.genropy.site import Site
from tests.scenarios.processes import TOKEN, Service, SinkProcess, wait_until
from tests.scratch import scratch

#: Messages the site submits in one sync call.
BATCH = 50


class GenropyCase(SynchronousTestCase):
    """:ivar site: registered with the service when :meth:`register` was called."""

    def setUp(self) -> None:
        root()
        self.directory = scratch(self)
        self.sink = SinkProcess(self.directory, "--keep", "5000").start()
        self.addCleanup(self.sink.end)
        self.service = Service(
            self.directory, GMP_RETRY_DELAYS="0.3", GMP_LOG_DELIVERY_ACTIVITY="true"
        ).start()
        self.addCleanup(self.service.end)
        self.site = Site(self.directory, self.service.url, TOKEN, BATCH).start()
        self.addCleanup(self.site.stop)
        self.messages = self.site.db.table("email.message")

    @property
    def client(self) -> Any:
        """The package's client, as the site's records say now."""
        return self.site.getService("mailproxy")

    def account(self, name: str = "main", **fields: Any) -> str:
        """An upstream account in the site's records. :return: its id."""
        values = {
            "account_name": name,
            "smtp_host": "127.0.0.1",
            "smtp_port": self.sink.smtp_port,
            "smtp_tls": False,
            "smtp_from_address": "shop@example.com",
            "save_output_message": True,
        }
        record = self.site.db.table("email.account").insert({**values, **fields})
        self.site.db.commit()
        return str(record["id"])

    def register(self) -> dict[str, Any]:
        """What the button *Register* does. :return: what the package says of it."""
        said = self.client.activateService()
        self.site.db.commit()
        return dict(said)

    def write(self, to: str, account: str, **fields: Any) -> str:
        """A message in the site's records, not yet committed. :return: its id."""
        subject = fields.pop("subject", f"To {to}")
        record = self.messages.newMessage(
            account_id=account, to_address=to, subject=subject, body=f"For {to}.\n", **fields
        )
        return str(record["id"])

    def send(self, to: str, account: str, **fields: Any) -> str:
        """A message that the site's user sends now. :return: its id."""
        id = self.write(to, account, **fields)
        self.site.db.commit()
        return id

    def row(self, id: str) -> Any:
        """The message as the site knows it."""
        return self.messages.record(id)

    def settled(self, ids: Iterable[str]) -> bool:
        """Whether the site knows the end of all these messages."""
        rows = self.messages.query(where="$id IN :ids", ids=list(ids)).fetch()
        return all(row["send_date"] or row["error_ts"] for row in rows)

    def wait_settled(self, *ids: str, patience: float = 30.0) -> None:
        wait_until(lambda: self.settled(ids), patience, what=f"the end of {len(ids)} messages")

    def wait_calls(self, path: str, more: int = 1) -> None:
        """Wait until *path* was called so many times more."""
        before = self.site.calls.count(path)
        wait_until(lambda: self.site.calls.count(path) >= before + more, what=f"calls of {path}")

    def assert_sent(self, *ids: str) -> None:
        """The site holds these as sent, and one copy of each arrived."""
        for id in ids:
            row = self.row(id)
            self.assertIsNotNone(row["send_date"], row)
            self.assertIsNone(row["error_ts"], row)
            self.assertEqual(1, len(self.copies(id)), id)

    def assert_failed(self, id: str, *texts: str) -> None:
        """The site holds it as failed, for a reason that has all these texts in it."""
        row = self.row(id)
        self.assertIsNone(row["send_date"], row)
        self.assertIsNotNone(row["error_ts"], row)
        for text in texts:
            self.assertIn(text, row["error_msg"])

    def copies(self, id: str) -> list[dict[str, Any]]:
        """The copies of a message that the upstream accepted."""
        return list(self.sink.get(f"/messages?id={id}")["messages"])

    def text(self, id: str) -> bytes:
        """The one accepted copy of a message, as it came."""
        from tests.scenarios.processes import http

        (copy,) = self.copies(id)
        return http("GET", f"{self.sink.url}/messages/{copy['n']}").raw

    def tearDown(self) -> None:
        """Nothing arrived twice, and no two sync calls were open at once."""
        if self.sink.alive:
            self.assertEqual({}, self.sink.get("/copies?min=2")["copies"])
        self.assertEqual(0, self.site.overlaps)


def once(fault: Callable[..., Any], times: int = 1) -> Callable[..., Any]:
    """*fault* for the first *times* calls; then the page answers."""
    left = times

    def answer(page: Callable[[], Any]) -> Any:
        nonlocal left
        left -= 1
        return fault(page) if left >= 0 else page()

    return answer
