"""One call on its way: repeated or not, and what its failures are told as."""

from __future__ import annotations

import ssl
import traceback
from typing import Any

import requests
import urllib3
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.client import (
    BadAnswer,
    Client,
    ClientError,
    Conflict,
    Forbidden,
    NotFound,
    Refused,
    Retry,
    ServerFault,
    Unauthorized,
    Unavailable,
    Untrusted,
    join,
)
from tests.api.door import Reply
from tests.client.door import URL, AnswerLost, DoorClient

LOST = requests.ConnectionError("the connection was reset")


def says(status: int, body: bytes = b'{"ok": false, "error": "no"}', **headers: str) -> Reply:
    return Reply(status, {n.replace("_", "-"): v for n, v in headers.items()}, body)


BUSY = says(503, retry_after="7")


def refused() -> requests.ConnectionError:
    """What requests raises where nobody listens."""
    cause = ConnectionRefusedError(111, "Connection refused")
    error = requests.ConnectionError("refused")
    error.__cause__ = cause
    return error


class RepeatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.one = DoorClient()
        self.client, self.adapter = self.one.client, self.one.adapter
        self.one.door.put_account()

    def test_messages_are_handed_in_until_it_is_known(self) -> None:
        """After a lost answer the same ids are posted again, and taken once."""
        self.client.add_messages([{"id": "m1", "from": "a@example.com", "to": "b@example.org"}])
        self.adapter.outcomes = [LOST, BUSY, AnswerLost(), None]
        item = self.client.send("a@example.com", "b@example.org", id="m2")
        self.assertEqual(("m2", "queued"), (item.id, item.state))
        self.assertEqual(5, len(self.adapter.made))
        self.assertEqual(["m1", "m2"], sorted(each.id for each in self.client.messages()))

    def test_a_generated_id_is_kept(self) -> None:
        """An id that the client makes up is the same in every attempt."""
        self.adapter.outcomes = [AnswerLost()] * 3
        item = self.client.send("a@example.com", "b@example.org", "Once")
        (stored,) = self.client.messages()
        self.assertEqual(item.id, stored.id)
        self.assertEqual(32, len(item.id or ""))

    def test_waiting_as_asked(self) -> None:
        """The service's Retry-After is what is waited; without one the times double."""
        self.adapter.outcomes = [BUSY, LOST, LOST, LOST]
        self.client.status()
        first, *others = self.one.slept
        self.assertEqual(7.0, first)
        for seconds, longest in zip(others, (1.0, 2.0, 4.0), strict=True):
            self.assertTrue(longest / 2 <= seconds <= longest, (seconds, longest))

    def test_not_for_ever(self) -> None:
        """After the last attempt the last failure is raised."""
        self.adapter.outcomes = [LOST] * 4 + [BUSY] + [None]
        with self.assertRaises(Unavailable) as caught:
            self.client.status()
        self.assertEqual((503, 7.0), (caught.exception.status, caught.exception.retry_after))
        self.assertEqual((5, 4), (len(self.adapter.made), len(self.one.slept)))

    def test_too_long_a_wait(self) -> None:
        """Who asks for more time than is given is not waited for."""
        self.adapter.outcomes = [says(503, retry_after="31")]
        self.assertRaises(Unavailable, self.client.status)
        self.assertEqual([], self.one.slept)

    def test_what_must_not_be_done_twice(self) -> None:
        """A key that is made, and a copy that is sent once more, are asked for once."""
        calls: tuple[Any, ...] = (
            lambda: self.client.add_tenant("shop"),
            lambda: self.client.add_key("default"),
            lambda: self.client.rotate_keys("default"),
            lambda: self.client.on_message("m1").resend(),
            lambda: self.client.on_batch("b").requeue(),
            lambda: self.client.replay(since=0),
            lambda: self.client.delete_messages(["m1"]),
            lambda: self.client.call("POST", "/v1/anything"),
        )
        for number, call in enumerate(calls, 1):
            self.adapter.outcomes = [LOST]
            with self.assertRaises(Unavailable) as caught:
                call()
            self.assertTrue(caught.exception.uncertain)
            self.assertEqual(number, len(self.adapter.made))
        self.assertEqual([], self.one.slept)

    def test_other_answers_are_final(self) -> None:
        """Only what may be otherwise next time is tried again."""
        for status in (400, 401, 404, 409, 413, 422, 500, 501):
            self.adapter.outcomes = [says(status)]
            self.assertRaises(ClientError, self.client.status)
        self.assertEqual([], self.one.slept)

    def test_the_policy(self) -> None:
        """Delays double up to the longest; how many attempts there are is said."""
        policy = Retry(attempts=9, first=1.0, longest=30.0)
        delays = [policy.delay(made, None, 0.0) for made in range(1, 10)]
        self.assertEqual([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, None], delays)
        self.assertEqual(15.0, policy.delay(6, None, 1.0))
        self.assertRaises(ValueError, Retry, attempts=0)
        once = DoorClient(retry=Retry(attempts=1))
        once.adapter.outcomes = [LOST]
        self.assertRaises(Unavailable, once.client.status)


class ErrorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.one = DoorClient(retry=Retry(attempts=1))
        self.client, self.adapter = self.one.client, self.one.adapter

    def after(self, outcome: Reply | BaseException) -> ClientError:
        self.adapter.outcomes = [outcome]
        with self.assertRaises(ClientError) as caught:
            self.client.status()
        error: ClientError = caught.exception
        return error

    def test_statuses(self) -> None:
        """Each status has its type, and the reason in its text."""
        for status, type in (
            (400, Refused),
            (401, Unauthorized),
            (403, Forbidden),
            (404, NotFound),
            (409, Conflict),
            (413, Refused),
            (422, Refused),
            (429, Unavailable),
            (500, ServerFault),
            (501, ServerFault),
            (503, Unavailable),
        ):
            error = self.after(says(status))
            self.assertIs(type, error.__class__, status)
            self.assertEqual((status, f"{status} no"), (error.status, str(error)))

    def test_wrong_fields(self) -> None:
        """What is wrong with a request is told field by field."""
        with self.assertRaises(Refused) as caught:
            self.client.add_account("a", "", port=0)
        faults = caught.exception.faults
        self.assertEqual(422, caught.exception.status)
        self.assertEqual({("body", "host"), ("body", "port")}, {each.loc for each in faults})
        self.assertTrue(str(faults[0]).startswith("body."))
        self.assertEqual((), Refused("no", 400, "no").faults)

    def test_real_refusals(self) -> None:
        """The service's own refusals of tokens and of things that are not there."""
        self.assertRaises(Unauthorized, self.one.with_token("x" * 40).client.status)
        key = self.client.add_tenant("shop").api_key
        self.assertRaises(Forbidden, self.one.with_token(key).client.nodes)
        self.assertRaises(NotFound, self.client.tenant, "nobody")
        self.assertRaises(NotFound, self.client.call, "GET", "/v2/status")

    def test_no_answer(self) -> None:
        """Nobody listening is certain; an answer that is lost or late is not."""
        error = self.after(refused())
        self.assertIsInstance(error, Unavailable)
        self.assertEqual(f"{URL}: Connection refused", str(error))
        self.assertFalse(vars(error)["uncertain"])
        for cause in (
            LOST,
            requests.ReadTimeout("late"),
            requests.exceptions.ChunkedEncodingError(),
        ):
            error = self.after(cause)
            self.assertIsInstance(error, Unavailable)
            self.assertIsNone(error.status)
            self.assertTrue(vars(error)["uncertain"], cause)
        self.assertFalse(vars(self.after(requests.ConnectTimeout("x")))["uncertain"])

    def test_certificate(self) -> None:
        """A certificate that is not trusted is told so; a broken handshake is no answer."""
        bad = ssl.SSLCertVerificationError(1, "certificate verify failed")
        bad.verify_message = "self-signed certificate"
        for cause, type in ((bad, Untrusted), (ssl.SSLEOFError(8, "EOF"), Unavailable)):
            error = requests.exceptions.SSLError(urllib3.exceptions.SSLError(cause))
            error.__cause__ = cause
            self.assertIs(type, self.after(error).__class__)

    def test_another_server(self) -> None:
        """What no mailproxy would say is told as that; a proxy's own failures are no answer."""
        for status in (200, 302, 404):
            error = self.after(says(status, b"<html>\n welcome", location="http://other.example/"))
            self.assertIsInstance(error, BadAnswer)
        self.assertEqual("404 not the answer of a mailproxy: <html> welcome", str(error))
        self.assertEqual(3, len(self.adapter.made))
        for status, uncertain in ((502, True), (503, False), (504, True)):
            error = self.after(says(status, b"<html>"))
            self.assertIsInstance(error, Unavailable)
            self.assertEqual(uncertain, vars(error)["uncertain"])

    def test_an_answer_without_its_parts(self) -> None:
        """An answer that lacks what it must have is a bad one."""
        for body in (b'{"ok": true}', b'{"active": "perhaps", "version": "1"}', b"\xff", b"[]"):
            self.assertIsInstance(self.after(says(200, body)), BadAnswer, body)
        self.adapter.outcomes = [says(200, b'{"ok": true}')] * 2
        self.assertRaises(BadAnswer, self.client.accounts)
        self.assertRaises(BadAnswer, list, self.client.messages())
        for odd in (b'{"ok": true, "queued": 0}', b'{"ok": true, "queued": 1, "items": [{}]}'):
            self.adapter.outcomes = [says(200, odd)]
            self.assertRaises(BadAnswer, self.client.send, "a@example.com", "b@example.org")
        self.adapter.outcomes = [says(400, b'{"ok": false, "detail": {}}')]
        self.assertRaises(BadAnswer, self.client.add_messages, [])
        self.adapter.outcomes = [says(400)]
        self.assertRaises(Refused, self.client.add_messages, [])

    def test_the_token_is_nowhere(self) -> None:
        """No error, no traceback and no text of the client has the token."""
        secret = "s3cret-token"
        client = DoorClient(secret, retry=Retry(attempts=1))
        texts = [repr(client.client), str(client.client), str(vars(client.client))]
        for outcome in (None, LOST, says(500), says(200, b"junk")):
            client.adapter.outcomes = [outcome]
            try:
                client.client.status()
            except ClientError as error:
                texts += [repr(error), str(vars(error))]
                # This frame knows the token; those below it are the client's.
                frames = list(traceback.walk_tb(error.__traceback__))[1:]
                shown = traceback.StackSummary.extract(iter(frames), capture_locals=True)
                texts += ["".join(shown.format()), repr((error.__cause__, error.__context__))]
        self.assertEqual(secret, client.adapter.headers["X-API-Token"])
        self.assertEqual(3 + 4 * 4, len(texts))
        for text in texts:
            self.assertNotIn(secret, text)
        for token in ("two words", "ümlaut", "line\n"):
            with self.assertRaises(ValueError) as caught:
                Client(URL, token)
            self.assertNotIn(token, str(caught.exception))

    def test_urls(self) -> None:
        """Only a plain http or https URL will do; a prefix stays."""
        for url in ("", "proxy:8000", "ftp://proxy", "http://", "http://u:p@h", "http://h/?q=1"):
            self.assertRaises(ValueError, Client, url)
        self.assertEqual("https://h/prefix", Client("https://h/prefix/").url)

    def test_paths(self) -> None:
        """Parts of a path are quoted, and those that would lead elsewhere are refused."""
        self.assertEqual("/v1/messages/a%2Fb%3Fc%20%C3%BC", join("/v1/messages", "a/b?c ü"))
        for part in ("", ".", ".."):
            self.assertRaises(ValueError, join, "/v1/messages", part)


class QueryTests(SynchronousTestCase):
    def test_the_tenant(self) -> None:
        """The client's tenant goes along, but with calls that are about another or about all."""
        one = DoorClient(tenant_id="default", timeout=3.0)
        one.client.status()
        one.client.tenants()
        one.client.call("GET", "/status", {"tenant_id": None, "a": [1, True], "b": None})
        self.assertEqual(
            [
                ("GET", "/status?tenant_id=default"),
                ("GET", "/tenants"),
                ("GET", "/status?a=1&a=true"),
            ],
            one.adapter.made,
        )
        self.assertEqual(3.0, one.adapter.timeout)

    def test_no_token(self) -> None:
        """Without a token none is sent, and what is open to anyone works."""
        one = DoorClient(None)
        with one.client as client:
            self.assertTrue(client.health())
            self.assertIn("gmp_sent_total", client.metrics())
            self.assertRaises(Unauthorized, client.status)
        self.assertNotIn("X-API-Token", one.adapter.headers)
