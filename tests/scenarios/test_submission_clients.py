"""
Programs that hand mail in by SMTP and that nobody here wrote: what arrives is what they sent.

All of them talk to one service, which asks them for TLS and a login; each has recipients of its
own.
"""

from __future__ import annotations

import json
import smtplib
import subprocess
import sys
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.need import missing, need_program
from tests.scenarios.door import (
    PASSWORD,
    STRANGER,
    TRUSTED,
    USER,
    OpenDoor,
    digest,
    parted,
    queue_id,
)
from tests.scenarios.processes import wait_until

SENDER = "erp@example.test"

#: Where Debian keeps the modules of its packages; only its own node looks there.
NODE_PATH = "/usr/share/nodejs:/usr/lib/nodejs"

#: What every byte of a file is made of.
BYTES = bytes(range(256)) * 300


def text(recipient: str, *fields: str, body: str = "") -> bytes:
    """
    A message with a Date and an id of its own, and what tempts a program to change it: dots,
    trailing blanks, folded and odd fields, letters that are not ASCII.
    """
    lines = (
        *("Date: Mon, 01 Jan 2024 00:00:00 +0000", f"Message-ID: <{recipient}>"),
        *(f"From: Erp <{SENDER}>", f"To: <{recipient}>", *fields),
        *("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "X-Odd:   kept\n\tas it is", "MIME-Version: 1.0"),
        *("Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", ""),
        *(body or "Grüße \t", ".", "..two", " ", "From here on", "x" * 500, "", "end."),
    )
    return ("\n".join(lines) + "\n").replace("\n", "\r\n").encode()


def attachment(mail: Message) -> bytes | None:
    """The first attachment of a message, decoded."""
    for part in mail.walk():
        if part.get_content_disposition() == "attachment":
            data = part.get_payload(decode=True)
            return data if isinstance(data, bytes) else None
    return None


class ClientTests(SynchronousTestCase):
    door: ClassVar[OpenDoor]

    @classmethod
    def setUpClass(cls) -> None:
        cls.door = OpenDoor()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.door.close()

    def run_it(
        self, *command: str, data: bytes = b"", env: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """Run a program to its end: its exit status, and all it printed."""
        done = subprocess.run(
            command,
            input=data,
            env={**self.door.service.environment(), **(env or {})},
            cwd=self.door.directory,
            capture_output=True,
            timeout=60,
        )
        return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")

    def file(self, name: str, data: bytes) -> str:
        path = self.door.directory / name
        path.write_bytes(data)
        return str(path)

    def unchanged(
        self, recipient: str, sent: bytes, *, sender: str = SENDER, way: str = "ESMTPSA"
    ) -> str:
        """
        *sent* arrived for *recipient* as it was, behind the two fields that we put in front, and
        its outcome was reported.

        :return: its id.
        """
        copy, raw = self.door.arrived(recipient)
        names, rest = parted(raw)
        self.assertEqual(["X-Genro-Mail-ID", "Received"], names)
        self.assertEqual(digest(sent), digest(rest), rest[:2000])
        self.assertEqual(([recipient], sender), (copy["recipients"], copy["sender"]))
        self.assertIn(f" with {way} id {copy['mail_id'][:64]};".encode(), raw)
        report = self.door.reported(copy["mail_id"])
        states = {each["address"]: each["state"] for each in report["recipients"]}
        self.assertEqual({recipient: "sent"}, states)
        return str(copy["mail_id"])

    # -- Python ----------------------------------------------------------------------------

    def test_smtplib(self) -> None:
        """smtplib over TLS from the first byte, and over STARTTLS: kept as sent, Bcc cut."""
        for tls in (True, False):
            with self.door.client(tls=tls) as client:
                if not tls:
                    client.starttls(context=self.door.context())
                client.login(USER, PASSWORD)
                to = f"smtplib{int(tls)}@example.test"
                sent = text(to, "Bcc: hidden@example.test", f"X-Mailproxy-Id: smtplib-{tls}")
                client.mail(SENDER, ["body=8bitmime", f"size={len(sent)}"])
                client.rcpt(to)
                code, said = client.data(sent)
                self.assertEqual(250, code, said)
                again = client.mail(SENDER), client.rcpt(to), client.data(sent)
                self.assertEqual((code, said), again[-1])
            kept = text(to)
            self.assertEqual(f"smtplib-{tls}", queue_id(said.decode()))
            self.assertEqual(f"smtplib-{tls}", self.unchanged(to, kept))

    # -- swaks -----------------------------------------------------------------------------

    def swaks(self, to: str, *options: str, port: int = 0) -> tuple[int, str]:
        return self.run_it(
            *(
                need_program("swaks"),
                "--server",
                "127.0.0.1",
                "--port",
                str(port or self.door.port),
            ),
            *("--local-interface", STRANGER, "--from", SENDER, "--to", to, "--ehlo", "swaks.test"),
            *("--no-data-fixup", "--tls-verify", "--tls-ca-path", str(self.door.ca), *options),
        )

    def test_swaks(self) -> None:
        """swaks with STARTTLS and TLS, AUTH PLAIN and LOGIN, pipelined and not: kept as sent."""
        login = ("--auth-user", USER, "--auth-password", PASSWORD)
        for n, (options, port) in enumerate(
            (
                (("--tls", "--auth", "PLAIN", "--pipeline"), 0),
                (("--tls", "--auth", "LOGIN"), 0),
                (("--tls-on-connect", "--auth", "PLAIN"), self.door.tls_port),
            )
        ):
            to = f"swaks{n}@example.test"
            sent = text(to)
            # Without fixing up, swaks sends the file as it is: dots doubled, its end included.
            wire = sent.replace(b"\r\n.", b"\r\n..") + b"."
            status, said = self.swaks(
                to, *options, *login, "--data", "@" + self.file("swaks.eml", wire), port=port
            )
            self.assertEqual(0, status, said)
            self.assertEqual(queue_id(said), self.unchanged(to, sent))

    def test_swaks_is_refused(self) -> None:
        """Without a login, with a wrong password, for a foreign sender: swaks says so and fails."""
        login = ("--tls", "--auth", "--auth-user", USER, "--auth-password")
        for options, code in (
            (("--tls",), "530"),
            ((*login, "wrong"), "535"),
            ((*login, PASSWORD, "--from", "boss@example.org"), "550"),
        ):
            status, said = self.swaks("nobody@example.test", *options)
            self.assertNotEqual(0, status)
            self.assertIn(f"<~* {code} ", said)
        self.assertEqual([], self.door.copies("nobody@example.test"))

    def test_swaks_attaches(self) -> None:
        """A message that swaks composes arrives with its attachment, and with one Date and id."""
        to = "attached@example.test"
        status, said = self.run_it(
            *(need_program("swaks"), "--server", "127.0.0.1", "--port", str(self.door.port)),
            *("--tls", "--auth-user", USER, "--auth-password", PASSWORD, "--pipeline"),
            *("--local-interface", STRANGER, "--from", SENDER, "--to", to),
            *("--attach", "@" + self.file("a.bin", BYTES), "--attach-name", "a.bin"),
            *("--body", "See the attachment", "--header", "Subject: attached"),
        )
        self.assertEqual(0, status, said)
        _, raw = self.door.arrived(to)
        mail = message_from_bytes(raw)
        self.assertEqual(digest(BYTES), digest(attachment(mail) or b""))
        for name in ("Date", "Message-Id", "From", "Subject"):
            self.assertEqual(1, len(mail.get_all(name, ())), name)

    # -- Postfix's own client --------------------------------------------------------------

    def test_smtp_source(self) -> None:
        """smtp-source, over five connections, hands in two hundred messages; none is lost."""
        to = "source@example.test"
        status, said = self.run_it(
            *(need_program("smtp-source"), "-s", "5", "-m", "200", "-l", "2048", "-f", SENDER),
            *("-t", to, f"127.0.0.1:{self.door.port}"),
        )
        self.assertEqual(0, status, said)
        wait_until(lambda: len(self.door.copies(to)) >= 200, what="the copies")
        self.assertEqual(200, len({each["mail_id"] for each in self.door.copies(to)}))

    # -- Node ------------------------------------------------------------------------------

    def test_nodemailer(self) -> None:
        """nodemailer: what it is given raw is kept, what it composes arrives, Bcc is nowhere."""
        node = need_program("node")
        env = {"NODE_PATH": NODE_PATH, "NODE_EXTRA_CA_CERTS": str(self.door.ca)}
        if self.run_it(node, "-e", "require('nodemailer')", env=env)[0]:
            missing("nodemailer")
        to, hidden = "node@example.test", "node-hidden@example.test"
        sent = text(to)
        for secure, port in ((False, self.door.port), (True, self.door.tls_port)):
            to = f"node{int(secure)}@example.test"
            sent = text(to)
            transport = {
                "host": "localhost",
                "port": port,
                "secure": secure,
                "requireTLS": True,
                "auth": {"user": USER, "pass": PASSWORD},
                "localAddress": STRANGER,
            }
            composed = {
                "from": SENDER,
                "to": f"composed-{to}",
                "bcc": hidden,
                "subject": "Grüße",
                "text": "Grüße\n.\n",
                "html": "<p>Grüße</p>",
                "attachments": [{"filename": "ä.bin", "path": self.file("b.bin", BYTES)}],
                "headers": {"X-Mailproxy-Id": f"node-{secure}"},
            }
            mails = [{"raw": sent.decode(), "envelope": {"from": SENDER, "to": [to]}}, composed]
            script = str(Path(__file__).with_name("nodemailer.js"))
            given = json.dumps({"transport": transport, "mails": mails}).encode()
            status, said = self.run_it(node, script, data=given, env=env)
            self.assertEqual(0, status, said)
            first, second = map(json.loads, said.splitlines())
            self.assertEqual(queue_id(first["response"]), self.unchanged(to, sent))
            self.assertEqual(f"node-{secure}", queue_id(second["response"]))
            copy, raw = self.door.arrived(f"composed-{to}")
            self.assertEqual([f"composed-{to}", hidden], copy["recipients"])
            self.assertNotIn(hidden.encode(), raw)
            mail = message_from_bytes(raw)
            self.assertEqual(second["id"], mail["Message-ID"])
            self.assertEqual(digest(BYTES), digest(attachment(mail) or b""))

    # -- PHP -------------------------------------------------------------------------------

    def test_php(self) -> None:
        """PHP's mail(), with ``mailproxy sendmail`` for its sendmail_path: all of it arrives."""
        php = need_program("php")
        stand_in = f"{sys.executable} -m mailproxy sendmail --server 127.0.0.1:{self.door.port}"
        to, id = "php@example.test", "php-1"
        fields = f"From: {SENDER}\\r\\nBcc: php-hidden@example.test\\r\\nX-Mailproxy-Id: {id}"
        code = (
            f'exit(mail("{to}", "Order 7", "First\\n.\\n..dots\\nlast", "{fields}", "-f{SENDER}") '
            "? 0 : 3);"
        )
        options = ("-n", "-d", f"sendmail_path={stand_in} -t -i", "-d", "mail.add_x_header=0")
        status, said = self.run_it(php, *options, "-r", code)
        self.assertEqual(0, status, said)
        copy, raw = self.door.arrived(to)
        names, rest = parted(raw)
        self.assertEqual(["X-Genro-Mail-ID", "Date", "Message-ID", "Received"], names)
        self.assertEqual(
            f"To: {to}\r\nSubject: Order 7\r\nFrom: {SENDER}\r\n\r\n"
            "First\r\n.\r\n..dots\r\nlast\r\n",
            rest.decode(),
        )
        self.assertEqual([to, "php-hidden@example.test"], copy["recipients"])
        self.assertEqual((id, SENDER), (copy["mail_id"], copy["sender"]))
        self.door.reported(id)

        refused = self.run_it(
            *(php, *options, "-r", code.replace(id, "x" * 256)),
        )
        self.assertEqual(3, refused[0], refused)

    # -- our own -------------------------------------------------------------------------

    def test_sendmail_logs_in(self) -> None:
        """``mailproxy sendmail`` logs in over TLS with a certificate that it verifies."""
        to = "own@example.test"
        sent = text(to)
        command = (sys.executable, "-m", "mailproxy", "sendmail", "-i", "-v", "-f", SENDER, to)
        login = {
            "MAILPROXY_SMTP": f"localhost:{self.door.port}",
            "MAILPROXY_SMTP_USER": USER,
            "MAILPROXY_SMTP_PASSWORD": PASSWORD,
        }
        trusting = {**login, "SSL_CERT_FILE": str(self.door.ca)}
        status, said = self.run_it(*command, data=sent, env=trusting)
        self.assertEqual(0, status, said)
        self.assertEqual(queue_id(said), self.unchanged(to, sent))
        self.assertEqual(75, self.run_it(*command, data=sent, env=login)[0])
        wrong = {**trusting, "MAILPROXY_SMTP_PASSWORD": "wrong"}
        self.assertEqual(77, self.run_it(*command, data=sent, env=wrong)[0])
        self.assertEqual(1, len(self.door.copies(to)))

    def test_smtputf8(self) -> None:
        """Addresses and header fields in UTF-8 go all the way, where MAIL says SMTPUTF8."""
        to = "käthe@example.test"
        sent = f"Date: x\r\nMessage-ID: <u8>\r\nFrom: Jürgen <{SENDER}>\r\n\r\nGrüße\r\n".encode()
        with self.door.client(TRUSTED) as client:
            client.ehlo()
            client.command_encoding = "utf-8"
            client.mail(SENDER, ["SMTPUTF8", "BODY=8BITMIME"])
            self.assertEqual(250, client.rcpt(to)[0])
            self.assertEqual(250, client.data(sent)[0])
        self.unchanged(to, sent, way="UTF8SMTP")

    # -- msmtp -----------------------------------------------------------------------------

    def test_msmtp(self) -> None:
        """msmtp with STARTTLS and with TLS: kept as sent, and it logs the id it was told."""
        for n, (starttls, port) in enumerate((("on", self.door.port), ("off", self.door.tls_port))):
            to = f"msmtp{n}@example.test"
            log = self.door.directory / f"msmtp{n}.log"
            self.file(
                "msmtprc",
                (
                    f"account default\nhost localhost\nport {port}\ntls on\n"
                    f"tls_starttls {starttls}\ntls_trust_file {self.door.ca}\n"
                    f"auth plain\nuser {USER}\npassword {PASSWORD}\n"
                    f"source_ip {STRANGER}\nlogfile {log}\n"
                ).encode(),
            )
            sent = text(to)
            status, said = self.run_it(
                *(need_program("msmtp"), "-C", str(self.door.directory / "msmtprc")),
                *("-f", SENDER, to),
                data=sent.replace(b"\r\n", b"\n"),
            )
            self.assertEqual(0, status, said)
            self.assertEqual(queue_id(log.read_text()), self.unchanged(to, sent))

    # -- what all of them share ------------------------------------------------------------

    def test_nobody_relays(self) -> None:
        """S18: over sockets, too, nothing is taken from whoever neither logs in nor is trusted."""
        with self.door.client() as client:
            client.ehlo()
            for sender in ("", SENDER, "root@localhost", "erp@127.0.0.1"):
                self.assertEqual(530, client.mail(sender)[0], sender)
            self.assertEqual(503, client.rcpt("anna@example.test")[0])
            self.assertEqual(503, client.docmd("DATA")[0])
            self.assertEqual(538, client.docmd("AUTH", "PLAIN")[0])
        with self.door.client(TRUSTED) as client:
            client.sendmail(SENDER, ["trusted@example.test"], text("trusted@example.test"))
        self.unchanged("trusted@example.test", text("trusted@example.test"), way="ESMTP")
        with self.door.client() as client, self.assertRaises(smtplib.SMTPNotSupportedError):
            client.login(USER, PASSWORD)
