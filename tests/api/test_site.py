"""Connections: how many, how they end, and clients that leave."""

from __future__ import annotations

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api.site import SiteLimits
from tests.api.door import Connection, Door, message, read_replies, request

ADD = "/commands/add-messages"


class ConnectionTests(SynchronousTestCase):
    def test_the_longest_idle_makes_room(self) -> None:
        """Beyond the limit of connections, the one that has been idle longest is closed."""
        door = Door(limits=SiteLimits(max_connections=3))
        clients = [door.connect() for _ in range(3)]
        clients[0].send(request("GET", "/livez"))

        clients.append(door.connect())

        self.assertEqual([True, False, True, True], [client.open for client in clients])

    def test_a_working_one_is_spared(self) -> None:
        """A connection with a request under way is not closed to make room."""
        door = Door(limits=SiteLimits(max_connections=1))
        door.put_account()
        door.store.stall("enqueue")
        busy = door.connect()
        busy.send(request("POST", ADD, {"messages": [message()]}))

        idle = door.connect()

        self.assertEqual((True, False), (busy.open, idle.open))
        door.store.resume()
        self.assertEqual([200], [reply.status for reply in busy.replies])

    def test_a_slow_header_is_not_working(self) -> None:
        """A connection in the middle of a header is closed to make room like an idle one."""
        door = Door(limits=SiteLimits(max_connections=1))
        slow = door.connect()
        slow.send(b"GET /livez HTTP/1.1\r\nX-A: ")

        self.assertTrue(door.connect().open)
        self.assertFalse(slow.open)

    def test_unix_socket(self) -> None:
        """A peer without an address, as on a Unix socket, is served."""
        door = Door()
        transport = StringTransport(peerAddress=UNIXAddress("/run/x"))
        protocol = door.site.buildProtocol(UNIXAddress("/run/x"))
        protocol.makeConnection(transport)

        protocol.dataReceived(request("GET", "/livez"))

        self.assertEqual([200], [reply.status for reply in read_replies(transport.value())])

    def test_only_http_1(self) -> None:
        """Over TLS only HTTP/1.1 is offered."""
        self.assertEqual([b"http/1.1"], Door().site.acceptableProtocols())


class FinishTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()
        self.door.store.stall("enqueue")
        self.door.clock.advance(61)  # the connection of the set-up is gone

    def finish(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.door.site.finish(3.0))

    def test_nobody_there(self) -> None:
        """Without connections it is over at once."""
        self.successResultOf(self.finish())

    def test_idle(self) -> None:
        """Connections without a request are closed at once."""
        fresh, used = self.door.connect(), self.door.connect()
        used.send(request("GET", "/livez"))

        self.successResultOf(self.finish())

        self.assertEqual((False, False), (fresh.open, used.open))

    def test_answered(self) -> None:
        """A request under way, or one whose body is still read, is answered first."""
        waiting, reading = self.door.connect(), self.door.connect()
        waiting.send(request("POST", ADD, {"messages": [message()]}))
        reading.send(request("POST", ADD, headers={"Content-Length": "15"}))
        done = self.finish()
        self.assertNoResult(done)
        self.door.store.resume()
        self.assertNoResult(done)
        reading.send(b'{"messages":[]}')

        self.successResultOf(done)
        for client in (waiting, reading):
            self.assertEqual([200], [reply.status for reply in client.replies])
            self.assertFalse(client.open)
        self.assertEqual([], self.door.clock.getDelayedCalls())

    def test_not_for_ever(self) -> None:
        """What is not answered in time is cut off."""
        client = self.door.connect()
        client.send(request("POST", ADD, {"messages": [message()]}))
        done = self.finish()

        self.door.clock.advance(3)

        self.successResultOf(done)
        self.assertEqual((False, []), (client.open, client.replies))
        self.door.store.resume()


class LeavingTests(SynchronousTestCase):
    def test_the_write_goes_on(self) -> None:
        """When the client leaves, what it asked for is done all the same."""
        door = Door()
        door.put_account()
        door.store.stall("enqueue")
        client: Connection = door.connect()
        client.send(request("POST", ADD, {"messages": [message()]}))

        client.transport.loseConnection()
        door.store.resume()

        self.assertEqual({"m1": "queued"}, door.store.states())
        self.assertEqual([], client.replies)

    def test_a_later_failure_is_logged(self) -> None:
        """When the work then fails for no reason of its own, the log says so."""
        door = Door()
        door.put_account()
        door.store.stall("enqueue")
        client = door.connect()
        client.send(request("POST", ADD, {"messages": [message()]}))
        client.transport.loseConnection()

        (work,) = door.store._waiting
        door.store._waiting.clear()
        work.fired.errback(ZeroDivisionError())

        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
