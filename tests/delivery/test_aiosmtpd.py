"""Against a server that is not ours: STARTTLS, AUTH, and bodies byte for byte."""

from __future__ import annotations

import base64
import ssl
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailproxy.delivery.auth import TokenLogin
from mailproxy.delivery.connect import Connector
from mailproxy.delivery.pool import Pool
from mailproxy.delivery.session import SessionFactory
from mailproxy.delivery.tls import TlsClients
from mailproxy.errors import AccountFault
from mailproxy.metrics import Metrics
from mailproxy.states import TlsMode
from tests.delivery.certificates import Authority
from tests.delivery.peer import Letter, account
from tests.scratch import scratch

BODIES = (
    b"Subject: plain\r\n\r\nhello\r\n",
    b".\r\n..\r\n.a\r\n\r\n.\r\n",
    b"Subject: long\r\n\r\n" + b"x" * 996 + b"\r\n",
    b"Subject: large\r\n\r\n" + b".line with a dot\r\n" * 20_000,
    "Subject: 8bit\r\n\r\ngr\u00fc\u00dfe\r\n".encode(),
)


class _Handler:
    """Keeps what it gets; refuses ``nobody@``."""

    def __init__(self) -> None:
        self.got: list[tuple[str, list[str], bytes]] = []

    async def auth_XOAUTH2(self, server: Any, args: list[str]) -> AuthResult:
        """A token is taken with the command; a refusal comes in two steps."""
        said = base64.b64decode(args[1])
        if said == b"user=joe@example.com\x01auth=Bearer right\x01\x01":
            return AuthResult(success=True, auth_data=said)
        await server.challenge_auth('{"status":"401"}')
        return AuthResult(success=False, handled=False)

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if address.startswith("nobody@"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.got.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 2.0.0 kept"


class _Controller(Controller):
    """Listens on whatever port is free."""

    def _trigger_server(self) -> None:
        server: Any = self.server
        self.port = server.sockets[0].getsockname()[1]
        super()._trigger_server()


class AiosmtpdTests(TestCase):
    timeout = 30

    async def serve(self) -> tuple[_Controller, _Handler, str]:
        authority = Authority()
        path = scratch(self) / "server.pem"
        path.write_bytes(authority.issue("localhost"))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        handler = _Handler()

        def authenticate(server: Any, session: Any, envelope: Any, how: str, data: Any) -> Any:
            good = (data.login, data.password) == (b"joe", b"right")
            return AuthResult(success=good, handled=False)

        controller = _Controller(
            handler,
            hostname="127.0.0.1",
            port=0,
            tls_context=context,
            require_starttls=True,
            authenticator=authenticate,
            auth_required=True,
            enable_SMTPUTF8=True,
        )
        await deferToThread(controller.start)
        self.addCleanup(lambda: deferToThread(controller.stop))
        return controller, handler, authority.pem

    def pool(self) -> Pool:
        pool = Pool(Connector(reactor), reactor, "me.test", Metrics())
        self.addCleanup(lambda: Deferred.fromCoroutine(pool.close(2.0)))
        return pool

    async def test_everything_arrives(self) -> None:
        """With STARTTLS and AUTH, every body arrives byte for byte, for whom was accepted."""
        controller, handler, pem = await self.serve()
        to = account(
            host="localhost",
            port=controller.port,
            tls_mode=TlsMode.STARTTLS,
            user="joe",
            password="right",
            ca_pem=pem,
        )
        pool = self.pool()
        session = await pool.acquire(to)
        recipients = [f"r{n}@example.org" for n in range(100)]
        recipients[50] = "nobody@example.org"
        outcomes = await gatherResults(session.deliver(Letter(body, recipients)) for body in BODIES)
        pool.release(session)
        self.assertEqual(list(BODIES), [body for _, _, body in handler.got])
        for outcome, (sender, rcpts, _) in zip(outcomes, handler.got, strict=True):
            self.assertEqual("a@example.com", sender)
            self.assertEqual([r for r in recipients if not r.startswith("nobody")], rcpts)
            self.assertEqual("2.0.0 kept", outcome.final.text if outcome.final else "")
            self.assertEqual(550, outcome.rcpts[50].code if outcome.rcpts[50] else 0)
            self.assertTrue(outcome.tls)

    async def test_mail_goes_with_a_token(self) -> None:
        """XOAUTH2: the right token opens the mailbox, a wrong one is refused with 535."""
        controller, handler, pem = await self.serve()
        to = account(host="localhost", port=controller.port, tls_mode=TlsMode.STARTTLS, ca_pem=pem)
        for token in ("right", "canary-wrong"):
            client = TlsClients().client(to)
            login = TokenLogin("joe@example.com", token)
            factory = SessionFactory(to, reactor, "me.test", client, login=login)
            await Connector(reactor)(to, factory)
            try:
                session = await factory.ready
            except AccountFault as fault:
                self.assertEqual(("canary-wrong", 535), (token, fault.code))
                self.assertNotIn(token, repr(fault))
            else:
                outcome = await session.deliver(Letter())
                self.assertEqual("2.0.0 kept", outcome.final.text if outcome.final else "")
                await session.quit()
        self.assertEqual(1, len(handler.got))

    async def test_a_wrong_password_is_the_accounts_fault(self) -> None:
        """F34: the login is refused once, and the fault says so without the password."""
        controller, _, pem = await self.serve()
        to = account(
            host="localhost",
            port=controller.port,
            tls_mode=TlsMode.STARTTLS,
            user="joe",
            password="canary-wrong",
            ca_pem=pem,
        )
        with self.assertRaises(AccountFault) as caught:
            await self.pool().acquire(to)
        fault = caught.exception
        self.assertEqual(("auth", 535), (fault.phase, fault.code))
        self.assertNotIn("canary-wrong", repr(fault))
