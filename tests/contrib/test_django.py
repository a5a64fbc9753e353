"""Django's mail, handed over to the API in memory."""

from __future__ import annotations

import base64
import logging
from email import message_from_bytes, policy
from email.message import EmailMessage as Read
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, EmailMultiAlternatives, get_connection, send_mail
from django.test.utils import override_settings

from mailproxy.client import Client, Rejected, Unauthorized, Unavailable
from mailproxy.contrib.django import EmailBackend
from tests.api.test_removal import RemovalCase
from tests.client.door import URL, AnswerLost, DoorClient
from tests.contrib.configured import configure

TEXT = ("A subject", "A text.\n", "Shop <shop@example.com>", ["Ann <ann@example.org>"])


class Backend(EmailBackend):
    """Its clients go to a door."""

    door: DoorClient
    clients: list[DoorClient]

    def new_client(self) -> Client:
        made = self.door.with_token(
            self._token.value, tenant_id=self._tenant, timeout=self._timeout
        )
        self.clients.append(made)
        return made.client


class BackendCase(RemovalCase):
    def setUp(self) -> None:
        configure()
        super().setUp()
        self.one = DoorClient(door=self.door)
        self.client = self.one.client
        self.key = self.door.add_key("default", "k" * 64)

    def backend(self, **options: Any) -> Backend:
        backend = Backend(**{"url": URL, "token": self.key} | options)
        backend.door, backend.clients = self.one, []
        return backend

    def sent(self, message: EmailMessage) -> Read:
        """What will be sent of *message*, which is handed over."""
        self.assertEqual(1, self.backend().send_messages([message]))
        view = self.client.message(vars(message)["mailproxy_id"], body=True)
        return message_from_bytes(base64.b64decode(view.mime or ""), policy=policy.default)


class HandingOverTests(BackendCase):
    def test_everything_arrives(self) -> None:
        """Alternatives, attachments, unicode and header fields are as Django made them."""
        message = EmailMultiAlternatives(
            "Größe €",
            "Schöne Grüße\n.\nFrom here\n",
            "Müller <shop@example.com>",
            ["Änne <anne@example.org>"],
            cc=["carl@example.org"],
            reply_to=["help@example.com"],
            headers={"X-Campaign": "spring", "List-Unsubscribe": "<https://example.com/u>"},
        )
        message.attach_alternative("<p>Schöne Grüße</p>", "text/html")
        message.attach("Füße.bin", bytes(range(256)), "application/octet-stream")
        message.attach("note.txt", "ünïcode", "text/plain")
        read = self.sent(message)
        self.assertEqual("Größe €", read["Subject"])
        self.assertEqual("Müller", read["From"].addresses[0].display_name)
        self.assertEqual("Änne <anne@example.org>", str(read["To"]))
        self.assertEqual("help@example.com", str(read["Reply-To"]))
        self.assertEqual("spring", read["X-Campaign"])
        plain, html = read.get_body(("plain",)), read.get_body(("html",))
        assert plain is not None
        assert html is not None
        text = plain.get_content().replace("\r\n", "\n")
        self.assertEqual("Schöne Grüße\n.\nFrom here\n", text)
        self.assertIn("<p>Schöne Grüße</p>", html.get_content())
        binary, note = read.iter_attachments()
        self.assertEqual(
            ("Füße.bin", bytes(range(256))), (binary.get_filename(), binary.get_content())
        )
        self.assertEqual("ünïcode", note.get_content().rstrip())

    def test_bcc_is_seen_by_nobody(self) -> None:
        """Recipients of bcc get the message, and stand nowhere in it."""
        read = self.sent(EmailMessage(*TEXT, bcc=["Boss <boss@example.net>"]))
        self.assertNotIn("boss", str(read).lower())
        (stored,) = self.client.messages()
        addresses = {each.address for each in stored.recipients}
        self.assertEqual({"ann@example.org", "boss@example.net"}, addresses)

    def test_only_bcc(self) -> None:
        """A message may go to recipients of bcc alone."""
        self.assertIsNone(self.sent(EmailMessage("S", "T", bcc=["boss@example.net"]))["Bcc"])

    def test_what_the_service_is_told(self) -> None:
        """Id, priority, campaign, account and time come from the message, and are cut from it."""
        self.door.put_account(id="other")
        headers = {
            "X-Mailproxy-ID": "order-1",
            "X-Mailproxy-Priority": "high",
            "x-mailproxy-batch": "spring",
            "X-Mailproxy-Account": "other",
            "X-Mailproxy-Not-Before": "4102444800",
        }
        read = self.sent(EmailMessage(*TEXT, headers=headers))
        self.assertEqual([], [name for name in read if name.lower().startswith("x-mailproxy")])
        stored = self.client.message("order-1").message
        self.assertEqual(
            (1, "spring", "other", 4102444800),
            (stored.priority, stored.batch_code, stored.account_id, stored.deferred_ts),
        )

    def test_the_account_of_the_settings(self) -> None:
        """A message that names no account goes through that of the settings."""
        self.door.put_account(id="other")
        self.backend(account="other").send_messages([EmailMessage(*TEXT)])
        self.assertEqual("other", next(self.client.messages()).account_id)

    def test_an_id_is_sent_once(self) -> None:
        """A message with an id of its own may be handed over again."""
        for _ in range(2):
            message = EmailMessage(*TEXT, headers={"X-Mailproxy-Id": "order-1", "Date": "x"})
            self.assertEqual(1, self.backend().send_messages([message]))
        self.assertEqual(1, len(list(self.client.messages())))

    def test_very_many_recipients(self) -> None:
        """More recipients than one request holds are split; each gets the message once."""
        names = [f"customer-{number:04}@long-domain-name.example.org" for number in range(900)]
        message = EmailMessage("S", "T", bcc=names, headers={"X-Mailproxy-Id": "all"})
        self.assertEqual(1, self.backend().send_messages([message]))
        stored = list(self.client.messages())
        self.assertEqual(["all", "all-2", "all-3", "all-4"], sorted(each.id for each in stored))
        found = [each.address for one in stored for each in one.recipients]
        self.assertEqual(names, sorted(found))

    def test_counted(self) -> None:
        """Messages without recipients are not sent and not counted; one client serves for all."""
        messages = [EmailMessage(*TEXT), EmailMessage("S", "T", to=[]), EmailMessage(*TEXT)]
        self.assertEqual(2, self.backend().send_messages(messages))
        self.assertEqual(0, self.backend().send_messages([]))
        with self.backend() as backend:
            self.assertFalse(backend.open())
            self.assertEqual(1, send_mail(*TEXT, connection=backend))
            self.assertEqual(1, EmailMessage(*TEXT, connection=backend).send())
            backend.close()
            self.assertTrue(backend.open())


class FailureTests(BackendCase):
    def test_a_refused_message(self) -> None:
        """What the service refuses is raised with its reason; or logged, and not counted."""
        bad = EmailMessage("S", "T", "shop@example.com", ["not an address"])
        with self.assertRaises(Rejected) as caught:
            self.backend().send_messages([EmailMessage(*TEXT), bad, EmailMessage(*TEXT)])
        self.assertIn("to", caught.exception.reason)
        with self.assertLogs("mailproxy.contrib.django", logging.WARNING) as logged:
            silent = self.backend(fail_silently=True)
            self.assertEqual(
                2, silent.send_messages([EmailMessage(*TEXT), bad, EmailMessage(*TEXT)])
            )
        self.assertIn("mail was refused", logged.output[0])

    def test_injection(self) -> None:
        """A line break in a header field is refused by Django, also silently."""
        message = EmailMessage("S\nBcc: x@example.org", *TEXT[1:])
        self.assertRaises(ValueError, self.backend(fail_silently=True).send_messages, [message])

    def test_a_wrong_token(self) -> None:
        """A wrong token is told once, not for each message."""
        messages = [EmailMessage(*TEXT)] * 3
        self.assertRaises(Unauthorized, self.backend(token="x" * 64).send_messages, messages)
        with self.assertLogs("mailproxy.contrib.django") as logged:
            silent = self.backend(token="x" * 64, fail_silently=True)
            self.assertEqual(0, silent.send_messages(messages))
        self.assertEqual(1, len(logged.output))
        self.assertNotIn("x" * 64, repr(vars(silent)) + str(logged.output))

    def test_settings(self) -> None:
        """Where the service is has to be said, by settings or options; nonsense is named."""
        self.assertRaises(ImproperlyConfigured, EmailBackend)
        self.assertRaises(ImproperlyConfigured, EmailBackend(url="proxy", token="t").open)
        told = {"MAILPROXY_TENANT": "shop", "MAILPROXY_TIMEOUT": 7.0, "MAILPROXY_ACCOUNT": "main"}
        with override_settings(MAILPROXY_URL=URL, MAILPROXY_TOKEN="t" * 32, **told):
            backend = get_connection()
            self.assertIsInstance(backend, EmailBackend)
            client = backend.new_client()
            self.assertEqual((URL, "shop"), (client.url, client.tenant_id))
            self.assertEqual("other", EmailBackend(tenant="other").new_client().tenant_id)

    def test_options(self) -> None:
        """Everything may be given as options as well, as the setting MAILERS does."""
        backend = EmailBackend(alias="default", url=URL, token="t", tenant="shop", timeout=2.0)
        self.assertFalse(backend.fail_silently)
        self.assertEqual("shop", backend.new_client().tenant_id)

    def test_away(self) -> None:
        """A service that is away is an error after some attempts; or silence, and a count."""
        nowhere: dict[str, Any] = {"url": "http://127.0.0.1:1", "token": "t", "attempts": 1}
        with self.assertRaises(Unavailable) as caught:
            EmailBackend(**nowhere).send_messages([EmailMessage(*TEXT)])
        self.assertFalse(caught.exception.uncertain)
        with self.assertLogs("mailproxy.contrib.django"):
            silent = EmailBackend(fail_silently=True, **nowhere)
            self.assertEqual(0, silent.send_messages([EmailMessage(*TEXT)]))

    def test_a_lost_answer(self) -> None:
        """A message whose answer was lost is handed over again, and taken once."""
        with self.backend() as backend:
            backend.clients[0].adapter.outcomes = [AnswerLost(), AnswerLost()]
            self.assertEqual(1, backend.send_messages([EmailMessage(*TEXT)]))
        self.assertEqual(3, len(backend.clients[0].adapter.made))
        self.assertEqual(1, len(list(self.client.messages())))
