"""The bytes of HTTP: what is refused before it is read, and what is waited for."""

from __future__ import annotations

from io import BytesIO

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import Buffer

from mailproxy.api.channel import LINGER, content_file
from mailproxy.api.site import SiteLimits
from tests.api.door import TOKEN, Door, message, request

ADD = "/commands/add-messages"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class TokenBeforeBodyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.client = self.door.connect()

    def head(self, *, token: str | None, length: str) -> bytes:
        return request("POST", ADD, None, token, {"Content-Length": length})

    def test_refused_on_the_headers(self) -> None:
        """Without a token the answer is there before a byte of the body was sent."""
        self.client.send(self.head(token=None, length="1000000"))

        (reply,) = self.client.replies
        self.assertEqual(401, reply.status)
        self.assertEqual("Invalid or missing API token", reply.json["detail"])
        self.assertEqual("close", reply.headers["connection"])

    def test_closed_a_moment_later(self) -> None:
        """What comes after a refusal is thrown away for a moment, then the connection closes."""
        self.client.send(self.head(token="wrong", length="1000000"))
        self.client.send(b"x" * 500_000)
        self.door.clock.advance(LINGER - 0.1)
        self.assertTrue(self.client.open)

        self.door.clock.advance(0.1)

        self.assertFalse(self.client.open)
        self.assertEqual(1, len(self.client.replies))

    def test_no_go_ahead(self) -> None:
        """A client that asks first is refused instead of being told to continue."""
        headers = {"Content-Length": "1000000", "Expect": "100-continue"}
        self.client.send(request("POST", ADD, None, None, headers))

        self.assertEqual([401], [reply.status for reply in self.client.replies])

    def test_go_ahead(self) -> None:
        """A client that asks first and has the token is told to continue."""
        headers = {"Content-Length": "15", "Expect": "100-continue"}
        self.client.send(request("POST", ADD, None, TOKEN, headers))
        self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", self.client.transport.value())
        self.client.transport.clear()

        self.client.send(b'{"messages":[]}')

        self.assertEqual(200, self.client.replies[0].status)

    def test_without_a_body_the_connection_stays(self) -> None:
        """A refusal of a request without a body leaves the connection usable."""
        self.client.send(request("GET", "/accounts", token=None) + request("GET", "/accounts"))

        self.assertEqual([401, 200], [reply.status for reply in self.client.replies])
        self.assertTrue(self.client.open)

    def test_nothing_stored(self) -> None:
        """A body that comes with the refused header is not looked at."""
        self.door.put_account()

        self.client.send(request("POST", ADD, {"messages": [message()]}, token="wrong"))

        self.assertEqual(401, self.client.replies[0].status)
        self.assertEqual({}, self.door.store.states())


class LimitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door(limits=SiteLimits(max_request_bytes=1000))
        self.client = self.door.connect()

    def test_announced(self) -> None:
        """A body announced as too large is refused before it is sent."""
        self.client.send(request("POST", ADD, None, headers={"Content-Length": "1001"}))

        self.assertEqual([413], [reply.status for reply in self.client.replies])
        self.door.clock.advance(LINGER)
        self.assertFalse(self.client.open)

    def test_largest(self) -> None:
        """A body of exactly the limit is read."""
        body = b'{"messages":[]}'.ljust(1000)

        self.client.send(request("POST", ADD, body))

        self.assertEqual([200], [reply.status for reply in self.client.replies])

    def test_chunked(self) -> None:
        """A chunked body is refused as soon as it passes the limit, and no more of it kept."""
        self.client.send(request("POST", ADD, headers={"Transfer-Encoding": "chunked"}))
        self.client.send(chunk(b"x" * 600))
        self.assertEqual([], self.client.replies)
        self.client.send(chunk(b"x" * 401))

        self.assertEqual([413], [reply.status for reply in self.client.replies])
        (pending,) = self.client.protocol.requests
        self.client.send(chunk(b"x" * 60_000) + b"0\r\n\r\n")
        self.assertEqual(600, pending.content.tell())
        self.assertEqual([413], [reply.status for reply in self.client.replies])

    def test_chunked_within(self) -> None:
        """A chunked body within the limit is read."""
        head = request("POST", ADD, headers={"Transfer-Encoding": "chunked"})
        self.client.send(head + chunk(b'{"messa') + chunk(b'ges":[]}') + b"0\r\n\r\n")

        self.assertEqual([200], [reply.status for reply in self.client.replies])

    def test_absurd_length(self) -> None:
        """A Content-Length of thousands of digits is a bad request."""
        self.client.send(request("POST", ADD, headers={"Content-Length": "9" * 5000}))

        self.assertEqual([400], [reply.status for reply in self.client.replies])

    def test_no_space(self) -> None:
        """A body that cannot be kept is refused with 503, and said not to be stored."""

        class Full(BytesIO):
            def write(self, data: Buffer) -> int:
                raise OSError(28, "No space left on device")

        self.client.send(request("POST", ADD, headers={"Content-Length": "15"}))
        (pending,) = self.client.protocol.requests
        pending.content = Full()

        self.client.send(b'{"messages":[]}')

        (reply,) = self.client.replies
        self.assertEqual((503, "5"), (reply.status, reply.headers["retry-after"]))


class BadRequestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()
        self.client = self.door.connect()
        self.body = msgspec.json.encode({"messages": [message()]})

    def check(self, *headers: str) -> None:
        """One answer, 400 in JSON; nothing of what follows has any effect."""
        lines = [f"POST {ADD} HTTP/1.1", f"X-API-Token: {TOKEN}", *headers, "X-Last: 1"]
        self.client.send("\r\n".join([*lines, "", ""]).encode() + self.body)

        (reply,) = self.client.replies
        self.assertEqual((400, "Bad Request"), (reply.status, reply.json["detail"]))
        self.assertEqual({}, self.door.store.states())
        self.door.clock.advance(LINGER)
        self.assertFalse(self.client.open)

    def test_two_lengths(self) -> None:
        """S11: two lengths are refused, and the body is not taken for either."""
        self.check(f"Content-Length: {len(self.body)}", f"Content-Length: {len(self.body) + 1}")

    def test_length_and_chunked(self) -> None:
        """S11: a length and chunks together are refused, whichever comes first."""
        self.check(f"Content-Length: {len(self.body)}", "Transfer-Encoding: chunked")

    def test_chunked_and_length(self) -> None:
        """S11: chunks and a length together are refused."""
        self.check("Transfer-Encoding: chunked", f"Content-Length: {len(self.body)}")

    def test_header_without_a_name(self) -> None:
        """A line that is no header is refused, and the body after it is not taken."""
        self.check(f"Content-Length: {len(self.body)}", "nonsense")

    def test_bad_chunk(self) -> None:
        """A chunk without a size is a bad request."""
        self.client.send(request("POST", ADD, headers={"Transfer-Encoding": "chunked"}))
        self.client.send(b"zz\r\n")

        self.assertEqual([400], [reply.status for reply in self.client.replies])

    def test_not_http(self) -> None:
        """What is not HTTP gets one 400."""
        self.client.send(b"EHLO there\r\n\r\n")

        self.assertEqual([400], [reply.status for reply in self.client.replies])

    def test_endless_line(self) -> None:
        """A header line that does not end is refused when it passes the limit."""
        self.client.send(b"GET /" + b"a" * 70_000)

        self.assertEqual([400], [reply.status for reply in self.client.replies])

    def test_too_many_headers(self) -> None:
        """Five hundred header fields are enough."""
        fields = {f"X-{n}": "y" for n in range(600)}

        self.client.send(request("GET", "/status", headers=fields))

        self.assertEqual([400], [reply.status for reply in self.client.replies])


class DeadlineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door(limits=SiteLimits(header_seconds=20.0))
        self.client = self.door.connect()

    def drip(self, data: bytes, pause: float, times: int) -> None:
        for _ in range(times):
            self.client.send(data)
            self.door.clock.advance(pause)

    def test_slow_headers(self) -> None:
        """A header that comes a byte at a time is given up after its total time."""
        self.client.send(b"GET /livez HTTP/1.1\r\n")

        self.drip(b"X", 1.0, 19)
        self.assertEqual([], self.client.replies)
        self.drip(b"X", 1.0, 1)

        self.assertEqual([408], [reply.status for reply in self.client.replies])
        self.door.clock.advance(LINGER)
        self.assertFalse(self.client.open)

    def test_slow_body(self) -> None:
        """A body that comes a byte at a time is given up, however regularly it comes."""
        self.client.send(request("POST", ADD, headers={"Content-Length": "1000"}))

        self.drip(b" ", 1.0, 20)
        self.assertEqual([], self.client.replies)
        self.drip(b" ", 1.0, 1)

        self.assertEqual([408], [reply.status for reply in self.client.replies])

    def test_large_body_may_take_longer(self) -> None:
        """A large body has the time that a slow line needs for it."""
        size = 64 * 1024 * 60
        self.client.send(request("POST", ADD, headers={"Content-Length": str(size)}))

        self.door.clock.advance(59)
        self.client.send(b'{"messages":[]}'.ljust(size))

        self.assertEqual([200], [reply.status for reply in self.client.replies])

    def test_silence(self) -> None:
        """A connection on which nothing ever comes is closed after the idle time."""
        self.door.clock.advance(61)

        self.assertFalse(self.client.open)
        self.assertEqual(b"", self.client.transport.value())

    def test_kept_alive(self) -> None:
        """After an answer the deadline of its request no longer runs."""
        self.client.send(request("GET", "/livez"))
        self.door.clock.advance(30)
        self.client.send(request("GET", "/livez"))

        self.assertEqual([200, 200], [reply.status for reply in self.client.replies])
        self.assertTrue(self.client.open)

    def test_no_timers_left(self) -> None:
        """A connection that is lost leaves no timer behind."""
        self.client.send(b"GET /livez HT")

        self.client.transport.loseConnection()

        self.assertEqual([], self.door.clock.getDelayedCalls())


class PipelineTests(SynchronousTestCase):
    def test_answers_in_order(self) -> None:
        """S11: pipelined requests are answered in their order, each after the one before."""
        door = Door()
        door.put_account()
        door.store.stall("enqueue")
        client = door.connect()

        client.send(
            request("POST", ADD, {"messages": [message()]})
            + request("GET", "/livez")
            + request("GET", "/nowhere")
        )
        self.assertEqual([], client.replies)
        door.store.resume()

        self.assertEqual([200, 200, 404], [reply.status for reply in client.replies])
        self.assertEqual(1, client.replies[0].json["queued"])

    @given(st.lists(st.integers(1, 400), max_size=12))
    @settings(deadline=None, max_examples=60)
    def test_any_cut(self, cuts: list[int]) -> None:
        """However the bytes are cut, the same answers come."""
        door = Door()
        body = b'{"messages":[]}'
        data = (
            request("POST", ADD, body)
            + request("POST", ADD, headers={"Transfer-Encoding": "chunked"})
            + chunk(body[:3])
            + chunk(body[3:])
            + b"0\r\n\r\n"
            + request("GET", "/livez")
        )
        client = door.connect()
        for size in cuts:
            client.send(data[:size])
            data = data[size:]
        client.send(data)

        self.assertEqual([200, 200, 200], [reply.status for reply in client.replies])


class NoiseTests(SynchronousTestCase):
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=30),
                st.sampled_from(
                    [
                        b"\r\n",
                        b"\r\n\r\n",
                        b"GET /livez HTTP/1.1\r\n",
                        b"POST /commands/add-messages HTTP/1.1\r\n",
                        b"X-API-Token: %s\r\n" % TOKEN.encode(),
                        b"Content-Length: 15\r\n",
                        b"Content-Length: -1\r\n",
                        b"Transfer-Encoding: chunked\r\n",
                        b"Host: \xff\r\n",
                        b" folded\r\n",
                        b'{"messages":[]}',
                        b"f\r\n",
                        b"0\r\n\r\n",
                    ]
                ),
            ),
            max_size=25,
        )
    )
    @settings(deadline=None, max_examples=120)
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """Whatever bytes come, in whatever pieces, every answer is one of ours."""
        client = Door().connect()
        for piece in pieces:
            client.send(piece)
        for reply in client.replies:
            self.assertIn(reply.status, (200, 400, 401, 404, 405, 422))
            self.assertIs(reply.status == 200, reply.json["ok"])


class ContentFileTests(SynchronousTestCase):
    def test_same_bytes(self) -> None:
        """A body reads the same from memory and from a file."""
        for length in (10, 10**6, None):
            for size in (0, 10, 10**6):
                with content_file(length) as content:
                    content.write(b"x" * size)
                    content.seek(0)
                    self.assertEqual(size, len(content.read()))
