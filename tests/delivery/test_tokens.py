"""Tokens from a scripted authorization server, over real sockets."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import attrs
import msgspec
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater

from mailproxy.delivery.attachments.guard import Guard
from mailproxy.delivery.connect import Connector
from mailproxy.delivery.pool import Pool
from mailproxy.delivery.tokens import DEADLINE, MARGIN, SETTLING, Tokens
from mailproxy.errors import AccountFault, StoreUnavailable
from mailproxy.logins import CLIENT_CREDENTIALS, REFRESH_TOKEN, XOAUTH2, Auth, Secrets, secrets_of
from mailproxy.metrics import Metrics
from mailproxy.model import Account
from mailproxy.states import TlsMode
from tests.delivery.attachments.web import (
    Asked,
    Connection,
    Script,
    Web,
    WebCase,
    answer,
    hang,
    raw,
    redirect,
)
from tests.delivery.certificates import Authority
from tests.delivery.peer import Letter, account
from tests.delivery.tls_peer import Peer, PeerFactory
from tests.fakes import FakeClock

CANARY = "canary-secret-8f3a"


class Kept:
    """A store that has one account."""

    def __init__(self) -> None:
        self.stored: Account | None = None
        self.full = False

    async def account(self, pk: int) -> Account | None:
        if self.full:
            raise StoreUnavailable("away")
        return self.stored

    async def renew_secret(self, pk: int, version: int, used: str, secret: str) -> bool:
        if self.full:
            raise StoreUnavailable("away")
        assert self.stored is not None
        if self.stored.password != used:
            return False
        self.stored = attrs.evolve(self.stored, password=secret)
        return True


def given(token: str, **more: Any) -> Script:
    """The answer that gives *token*."""
    content = {"access_token": token, "token_type": "Bearer", "expires_in": 3600, **more}
    return answer("200 OK", json.dumps(content).encode(), "Content-Type: application/json")


def refused(**content: Any) -> Script:
    return answer("400 Bad Request", json.dumps(content).encode())


def in_turn(*scripts: Script) -> Script:
    """One after the other; the last one repeats."""
    left = list(scripts)

    def script(connection: Connection, asked: Asked) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(connection, asked)

    return script


class TokenCase(WebCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority()
        self.trusted = self.authority.pem
        self.clock = FakeClock()
        self.store = Kept()
        self.names.known["login.example"] = ["127.0.0.1"]

    def tokens(self, *allow: str) -> Tokens:
        guard = Guard(allow or ("127.0.0.1",))
        made = Tokens(self.exchanges(), guard, self.store, self.clock)
        self.addCleanup(made.close)
        return made

    def server(self, script: Script, name: str = "login.example") -> Web:
        return self.serve_tls(self.authority.issue(name), token=script)

    def account(
        self, grant: str = CLIENT_CREDENTIALS, secrets: Secrets | None = None, **fields: Any
    ) -> Account:
        url = f"https://login.example:{self.port}/token"
        auth = Auth(XOAUTH2, grant, url, "the id", "mail send")
        secrets = secrets or Secrets(CANARY)
        options = msgspec.json.encode({"auth": auth.public()}).decode()
        values = {"user": "me@example.com", "password": secrets.dump(), "options": options}
        self.store.stored = account(**{**values, **fields})
        return self.store.stored

    async def fault(self, tokens: Tokens, to: Account) -> AccountFault:
        try:
            await tokens.token(to)
        except AccountFault as fault:
            self.assertEqual("auth", fault.phase)
            self.assertNotIn(CANARY, repr(fault))
            return fault
        raise AssertionError("there was a token")

    async def until_it_settles(self) -> None:
        """A refused secret is waited for."""
        until = self.clock.seconds() + SETTLING
        while until not in [call.getTime() for call in self.clock.getDelayedCalls()]:
            await deferLater(self.reactor, 0.005)

    def fields(self, asked: Asked) -> dict[str, str]:
        return {name: value for name, (value,) in parse_qs(asked.body.decode()).items()}


class FetchTests(TokenCase):
    async def test_client_credentials(self) -> None:
        """The client's own credentials are exchanged for a token."""
        web = self.server(given("t1"))
        self.assertEqual("t1", await self.tokens().token(self.account()))
        (asked,) = web.asked
        self.assertEqual("application/x-www-form-urlencoded", asked.headers["content-type"])
        self.assertEqual(
            {
                "grant_type": "client_credentials",
                "client_id": "the id",
                "client_secret": CANARY,
                "scope": "mail send",
            },
            self.fields(asked),
        )

    async def test_a_token_is_kept_until_shortly_before_it_expires(self) -> None:
        """In its last minute a token is not used any more; short ones serve half their time."""
        web = self.server(in_turn(given("t1", expires_in=600), given("t2", expires_in="10")))
        tokens, to = self.tokens(), self.account()
        self.assertEqual(["t1", "t1"], [await tokens.token(to) for _ in range(2)])
        self.clock.advance(599.0 - MARGIN)
        self.assertEqual("t1", await tokens.token(to))
        self.clock.advance(1.0)
        self.assertEqual("t2", await tokens.token(to))
        self.clock.advance(4.9)
        await tokens.token(to)
        self.assertEqual(2, len(web.asked))
        self.clock.advance(0.2)
        await tokens.token(to)
        self.assertEqual(3, len(web.asked))

    async def test_one_call_at_a_time(self) -> None:
        """Whoever asks while a call is under way has its answer; who gives up harms nobody."""
        web = self.server(in_turn(given("t1"), given("t2")))
        tokens, to = self.tokens(), self.account()
        asked = [tokens.token(to) for _ in range(5)]
        asked[0].addErrback(lambda _: "given up")
        asked[0].cancel()
        self.assertEqual(["given up", *["t1"] * 4], await gatherResults(asked))
        self.assertEqual(1, len(web.asked))
        self.assertEqual("t1", await tokens.token(to))

    async def test_a_refused_token_is_fetched_anew_once(self) -> None:
        """F50: those whose token was refused share one new one; who has it already, keeps it."""
        web = self.server(in_turn(given("t1"), given("t2")))
        tokens, to = self.tokens(), self.account()
        await tokens.token(to)
        renewed = await gatherResults([tokens.token(to, "t1") for _ in range(3)])
        self.assertEqual(["t2"] * 3, renewed)
        self.assertEqual("t2", await tokens.token(to, "t1"))
        self.assertEqual(2, len(web.asked))

    async def test_a_changed_account_has_a_token_of_its_own(self) -> None:
        """A newer version of the account gets nothing that was given to the older one."""
        self.server(in_turn(given("t1"), given("t2"), given("t3")))
        tokens, to = self.tokens(), self.account()
        await tokens.token(to)
        newer = self.store.stored = attrs.evolve(to, version=2)
        self.assertEqual("t2", await tokens.token(newer))
        self.assertEqual("t3", await tokens.token(to))
        self.assertEqual("t2", await tokens.token(newer))

    async def test_a_renewed_refresh_token_is_kept(self) -> None:
        """What comes in a refresh token's place is stored, and used from then on."""
        web = self.server(in_turn(given("t1", refresh_token="r1"), given("t2"), given("t3")))
        tokens = self.tokens()
        to = self.account(REFRESH_TOKEN, Secrets(CANARY, "r0"))
        await tokens.token(to)
        assert self.store.stored is not None
        self.assertEqual(Secrets(CANARY, "r0", "r1"), secrets_of(self.store.stored.password))
        await tokens.token(to, "t1")
        await self.tokens().token(self.store.stored)
        used = [self.fields(asked)["refresh_token"] for asked in web.asked]
        self.assertEqual(["r0", "r1", "r1"], used)

    async def test_two_nodes_renew_one_token(self) -> None:
        """F50: of two that renewed it at once the first is kept, and both go on from there."""
        held: list[tuple[Connection, Asked]] = []
        arrived = Deferred[None]()

        def hold(connection: Connection, asked: Asked) -> None:
            held.append((connection, asked))
            if len(held) == 2:
                arrived.callback(None)

        first, second = given("t1", refresh_token="r1"), given("t2", refresh_token="r2")
        web = self.server(in_turn(hold, hold, given("t3")))
        nodes, to = [self.tokens(), self.tokens()], self.account(REFRESH_TOKEN, Secrets("", "r0"))
        waiting = [node.token(to) for node in nodes]
        await arrived
        first(*held[0])
        await DeferredList(waiting, fireOnOneCallback=True)
        second(*held[1])
        self.assertEqual({"t1", "t2"}, set(await gatherResults(waiting)))
        assert self.store.stored is not None
        self.assertEqual(Secrets("", "r0", "r1"), secrets_of(self.store.stored.password))
        for node in nodes:
            await node.token(to, "t1")
            await node.token(to, "t2")
        self.assertEqual({"r1"}, {self.fields(asked)["refresh_token"] for asked in web.asked[2:]})

    async def test_a_token_that_another_node_has_used(self) -> None:
        """F50: refused to the second, who goes on with what the first has got for it."""
        web = self.server(in_turn(refused(error="invalid_grant"), given("t2")))
        to = self.account(REFRESH_TOKEN, Secrets("", "r0"))
        waiting = self.tokens().token(to)
        await self.until_it_settles()
        self.store.stored = attrs.evolve(to, password=Secrets("", "r0", "r1").dump())
        self.clock.advance(SETTLING)
        self.assertEqual("t2", await waiting)
        self.assertEqual(["r0", "r1"], [self.fields(a)["refresh_token"] for a in web.asked])

    async def test_a_token_that_nobody_has_renewed(self) -> None:
        """F50: where nobody has renewed it either, the refusal is the account's fault."""
        web = self.server(refused(error="invalid_grant"))
        waiting = self.tokens().token(self.account(REFRESH_TOKEN, Secrets("", "r0")))
        await self.until_it_settles()
        self.clock.advance(SETTLING)
        with self.assertRaises(AccountFault) as caught:
            await waiting
        self.assertIn("invalid_grant", caught.exception.reason)
        self.assertEqual(1, len(web.asked))

    async def test_a_store_that_is_away_does_not_keep_mail(self) -> None:
        """Where a renewed token cannot be stored, that is an error in the log, and no fault."""
        self.server(given("t1", refresh_token="r1"))
        to = self.account(REFRESH_TOKEN, Secrets("", "r0"))
        self.store.full = True
        self.assertEqual("t1", await self.tokens().token(to))

    async def test_a_public_client_has_no_secret(self) -> None:
        """With a refresh token alone no secret is sent."""
        web = self.server(given("t1"))
        await self.tokens().token(self.account(REFRESH_TOKEN, Secrets("", "r0")))
        self.assertNotIn("client_secret", self.fields(web.asked[0]))


class TroubleTests(TokenCase):
    async def test_what_is_no_token(self) -> None:
        """F50: whatever comes instead of a token is the account's fault, told without secrets."""
        for script, words in (
            (refused(error="invalid_grant"), "400: invalid_grant"),
            (
                refused(error="invalid_client", error_description=f"not \x1b[2J {CANARY}"),
                "invalid_client: not \\x1b[2J ********",
            ),
            (answer("401 Unauthorized", b"<html>"), "it answered 401"),
            (answer("500 Oops"), "it answered 500"),
            (answer("200 OK", b"<html>login</html>"), "no JSON object"),
            (answer("200 OK", b"[" * 50_000), "no JSON object"),
            (answer("200 OK", b"{}"), "no token in it"),
            (given("t\r\nMAIL FROM:<x@y>"), "no token in it"),
            (given("t" * 9000), "no token in it"),
            (given("t1", token_type="mac"), "of a kind"),
            (answer("200 OK", b"x" * 70_000), "larger than"),
            (redirect("https://login.example/elsewhere"), "it answered 302"),
            (raw(b"not HTTP at all\r\n\r\n", close=True), "not HTTP"),
            (raw(b"", reset=True), "connection was lost"),
        ):
            web = self.server(script)
            fault = await self.fault(self.tokens(), self.account())
            self.assertIn(words, fault.reason)
            self.assertEqual(1, len(web.asked))

    async def test_a_server_that_is_down(self) -> None:
        """F50: a server that is not there, or not known, is told as such."""
        self.server(given("t1"))
        to = self.account()
        port, self.port = self.port, 1
        self.assertIn(
            "refuses connections", (await self.fault(self.tokens(), self.account())).reason
        )
        self.port, self.names.known["login.example"] = port, []
        self.assertIn("not found", (await self.fault(self.tokens(), to)).reason)

    async def test_a_server_that_says_nothing(self) -> None:
        """F50: a call has its time as a whole, and its connection ends with it."""
        asked: Deferred[None] = Deferred()

        def mute(connection: Connection, request: Asked) -> None:
            hang(connection, request)
            asked.callback(None)

        web = self.server(mute)
        waiting = self.tokens().token(self.account())
        await asked
        self.clock.advance(DEADLINE)
        with self.assertRaises(AccountFault) as caught:
            await waiting
        self.assertIn("no answer within 30 s", caught.exception.reason)
        await self.all_closed(web)

    async def test_a_server_that_is_not_who_it_should_be(self) -> None:
        """S13: a secret goes to a verified server only."""
        for trusted, name, words in (
            (self.authority.pem, "other.example", "not for login.example"),
            (Authority("Other").pem, "login.example", "not trusted"),
        ):
            web = self.server(given("t1"), name)
            self.trusted = trusted
            self.assertIn(words, (await self.fault(self.tokens(), self.account())).reason)
            self.assertEqual([], web.asked)

    async def test_private_addresses_are_not_called(self) -> None:
        """S13: the URL of an account leads to no private address, unless the operator says so."""
        web = self.server(given("t1"))
        fault = await self.fault(self.tokens("192.0.2.1"), self.account())
        self.assertIn("an address that is not allowed", fault.reason)
        self.assertEqual([], web.connections)
        self.assertEqual("t1", await self.tokens("login.example").token(self.account()))

    async def test_a_damaged_secret(self) -> None:
        """An account whose secret is lost asks nobody."""
        web = self.server(given("t1"))
        for password in (None, "", "{", "5", "{}"):
            fault = await self.fault(self.tokens(), self.account(password=password))
            self.assertIn("have to be given again", fault.reason)
        self.assertEqual([], web.asked)


class Mailbox(Peer):
    """Takes the tokens in its factory's ``accepted``."""

    def lineReceived(self, line: bytes) -> None:
        factory: Any = self.factory
        if line.startswith(b"AUTH"):
            self.factory.heard.append(("auth", line))
            good = line.split()[-1] in factory.accepted
            self.sendLine(b"235 welcome" if good else b"334 eyJzdGF0dXMiOiI0MDAifQ==")
        elif line == b"" and not self._data:
            self.factory.heard.append(("auth", line))
            self.sendLine(b"535 5.7.8 not accepted")
        elif line.startswith(b"EHLO"):
            self.sendLine(b"250-peer.test")
            self.sendLine(b"250-STARTTLS")
            self.sendLine(b"250 AUTH LOGIN XOAUTH2")
        else:
            super().lineReceived(line)


class LoginTests(TokenCase):
    async def mailbox(self, *accepted: bytes) -> PeerFactory:
        peer = PeerFactory(self.authority.issue("localhost"))
        peer.protocol = Mailbox
        peer.accepted = accepted  # type: ignore[attr-defined]
        self.smtp = await peer.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(peer.close()))
        return peer

    async def deliver(self) -> str:
        pool = Pool(
            Connector(self.reactor), self.reactor, "me.test", Metrics(), tokens=self.tokens()
        )
        to = self.account(
            host="localhost",
            ca_pem=self.authority.pem,
            tls_mode=TlsMode.STARTTLS,
        )
        to = attrs.evolve(to, port=self.smtp)
        try:
            session = await pool.acquire(to)
            outcome = await session.deliver(Letter())
            pool.release(session)
        finally:
            await pool.close(1.0)
        return str(outcome.final)

    async def test_mail_goes_out_with_a_token(self) -> None:
        """The token of the authorization server opens the mailbox."""
        self.server(given("t1"))
        peer = await self.mailbox(XOAUTH2_T1)
        self.assertEqual("250 queued", await self.deliver())
        self.assertEqual(1, len([how for how, _ in peer.heard if how == "auth"]))

    async def test_a_stale_token_is_renewed(self) -> None:
        """F50: after a 535 another token is fetched and tried, once."""
        web = self.server(in_turn(given("t0"), given("t1")))
        peer = await self.mailbox(XOAUTH2_T1)
        self.assertEqual("250 queued", await self.deliver())
        self.assertEqual(2, len(web.asked))
        self.assertEqual(3, len([how for how, _ in peer.heard if how == "auth"]))

    async def test_a_token_that_is_never_taken_is_the_accounts_fault(self) -> None:
        """F50, F34: the second refusal is the account's fault; there is no third try."""
        web = self.server(in_turn(given("t7"), given("t8"), given("t9")))
        peer = await self.mailbox(XOAUTH2_T1)
        with self.assertRaises(AccountFault) as caught:
            await self.deliver()
        self.assertEqual(("auth", 535), (caught.exception.phase, caught.exception.code))
        self.assertEqual(2, len(web.asked))
        self.assertEqual(4, len([how for how, _ in peer.heard if how == "auth"]))


#: ``user=me@example.com^Aauth=Bearer t1^A^A`` in base64.
XOAUTH2_T1 = b"dXNlcj1tZUBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB0MQEB"
