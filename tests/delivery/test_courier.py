from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailproxy import payload
from mailproxy.compose import compose
from mailproxy.composed import Composed
from mailproxy.delivery.courier import Courier
from mailproxy.delivery.pool import Pool
from mailproxy.dsn import Dsn
from mailproxy.errors import AccountFault, StoreBusy, Unprepared
from mailproxy.interfaces import IFeed
from mailproxy.metrics import Metrics
from mailproxy.model import Account, Claimed, Content, Outcome, Recipient, Stored
from mailproxy.states import RecipientState
from mailproxy.threads import inline
from tests.build import content
from tests.delivery.peer import PLAIN_EHLO, SILENCE, Cut, Letter, Network, Server, account
from tests.fakes import EPOCH, FakeClock


def claimed(number: int, letter: Content | None = None, **values: Any) -> Claimed:
    letter = letter or content(subject=f"message {number}")
    fixed: dict[str, Any] = {
        "pk": number,
        "token": number,
        "tenant_id": "default",
        "id": f"m{number}",
        "generation": 0,
        "account_pk": 1,
        "priority": 2,
        "attempts": 0,
        "uncertain": 0,
        "accepted_at": EPOCH,
        "due_since": EPOCH,
        "expires_at": EPOCH + 86400,
        "message_id": f"<m{number}@me.test>",
        "envelope_from": "sender@example.com",
        "size": 500,
        "recipients": (Recipient(0, "to@example.org", RecipientState.WAITING),),
        "payload": payload.dump(letter),
    }
    return Claimed(**{**fixed, **values})


@implementer(IFeed)
class Feed:
    """Messages in a row; what the courier says of them is kept, in order."""

    def __init__(self, *messages: Claimed) -> None:
        self.waiting = deque(messages)
        self.log: list[tuple[str, int]] = []
        self.outcomes: dict[int, list[Outcome]] = {}
        self.errors: dict[int, Exception] = {}
        self.refused: set[int] = set()
        self.unfinished: list[Deferred[None]] | None = None

    def next(self) -> Claimed | None:
        if not self.waiting:
            return None
        message = self.waiting.popleft()
        self.log.append(("next", message.pk))
        return message

    def begin(self, message: Claimed) -> Deferred[bool]:
        self.log.append(("begin", message.pk))
        return succeed(message.pk not in self.refused)

    def finish(self, message: Claimed, outcome: Outcome) -> Deferred[None]:
        self.log.append(("finish", message.pk))
        self.outcomes.setdefault(message.pk, []).append(outcome)
        done: Deferred[None] = Deferred()
        if self.unfinished is None:
            done.callback(None)
        else:
            self.unfinished.append(done)
        return done

    def put_back(self, message: Claimed) -> None:
        self.log.append(("put back", message.pk))
        self.waiting.appendleft(message)

    async def broken(self, message: Claimed, error: Exception) -> None:
        self.log.append(("broken", message.pk))
        self.errors[message.pk] = error

    def aside(self, message: Claimed) -> None:
        self.log.append(("aside", message.pk))

    def ready(self, message: Claimed) -> None:
        self.log.append(("ready", message.pk))
        self.waiting.append(message)

    def dropped(self, message: Claimed) -> None:
        self.log.append(("dropped", message.pk))

    def unprepared(self, message: Claimed, fault: Unprepared) -> Deferred[None]:
        self.log.append(("unprepared", message.pk))
        self.errors[message.pk] = fault
        return succeed(None)

    def codes(self, number: int) -> list[int | None]:
        return [o.final.code if o.final else None for o in self.outcomes.get(number, [])]

    def said(self, number: int) -> list[str]:
        return [what for what, pk in self.log if pk == number]


class CourierTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.stored: dict[int, Stored] = {}
        self.asked: list[Sequence[int]] = []

    def courier(
        self,
        *servers: Callable[[], Server] | Exception,
        limit: int = 1_000_000,
        contents: Callable[[Sequence[int]], Awaitable[dict[int, Stored]]] | None = None,
        composed: Composed | None = None,
        **options: Any,
    ) -> Courier:
        self.network = Network(*servers)
        self.pool = Pool(self.network.connect, self.clock, "me.test", self.metrics, **options)
        return Courier(
            self.pool,
            self.clock,
            contents or self.contents,
            inline,
            self.metrics,
            limit,
            composed=composed,
        )

    def contents(self, pks: Sequence[int]) -> Deferred[dict[int, Stored]]:
        self.asked.append(pks)
        return succeed({pk: self.stored[pk] for pk in pks if pk in self.stored})

    def carry(self, courier: Courier, feed: Feed, to: Account | None = None) -> Deferred[None]:
        carried = Deferred.fromCoroutine(courier.carry(to or account(), feed))
        self.network.run()
        return carried

    def bodies(self) -> list[bytes]:
        return [body for server in self.network.connected for _, _, body in server.messages]

    def test_what_arrives_is_what_was_composed(self) -> None:
        """Every message of the feed arrives, in order, byte for byte as compose makes it."""
        feed = Feed(*map(claimed, range(5)))
        self.successResultOf(self.carry(self.courier(), feed))
        expected = [
            compose(
                content(subject=f"message {n}"),
                mail_id=f"m{n}",
                message_id=f"<m{n}@me.test>",
                date=EPOCH,
                parts={},
            )
            for n in range(5)
        ]
        self.assertEqual(expected, self.bodies())
        self.assertEqual([[250]] * 5, [feed.codes(n) for n in range(5)])
        self.assertEqual(1, self.network.attempts)
        self.assertEqual(["next", "begin", "finish"], feed.said(3))

    def test_what_was_composed_is_not_composed_again(self) -> None:
        """A body that is kept for exactly this message goes out; for any other one is made."""
        composed, (first, second) = Composed(), map(claimed, range(2))
        for each, date in ((first, first.accepted_at), (second, second.accepted_at - 1.0)):
            assert each.payload is not None
            composed.keep(each.payload, each.id, each.message_id, date, b"kept\r\n")
        feed = Feed(first, second)

        self.successResultOf(self.carry(self.courier(composed=composed), feed))

        self.assertEqual(b"kept\r\n", self.bodies()[0])
        self.assertIn(b"Subject: message 1", self.bodies()[1])

    def test_what_was_composed_asks_for_its_notifications(self) -> None:
        """A body that is kept goes out with what its message wants to be notified of."""
        composed, message = Composed(), claimed(1, content(dsn=Dsn(("NEVER",))))
        assert message.payload is not None
        date = message.accepted_at
        composed.keep(message.payload, message.id, message.message_id, date, b"kept\r\n")
        ehlo = b"250-peer.test\r\n250-PIPELINING\r\n250 DSN\r\n"
        courier = self.courier(lambda: Server({"ehlo": ehlo}), composed=composed)

        self.successResultOf(self.carry(courier, Feed(message)))

        self.assertEqual([b"kept\r\n"], self.bodies())
        heard = self.network.connected[0].heard
        self.assertTrue(
            any(line.endswith(b"NOTIFY=NEVER ORCPT=rfc822;to@example.org") for line in heard)
        )

    def test_two_are_on_their_way_at_once(self) -> None:
        """The next message is taken before the first is answered, a third not."""
        feed = Feed(*map(claimed, range(4)))
        self.carry(self.courier(lambda: Server({"body": SILENCE})), feed)
        self.assertEqual([("next", 0), ("begin", 0), ("next", 1), ("begin", 1)], feed.log)

    def test_notifications_are_asked_for(self) -> None:
        """What the message wants to be notified of goes to a server that offers it, as stored."""
        letter = content(dsn=Dsn(("NEVER",), "HDRS"))
        feed = Feed(claimed(1, letter), claimed(2, letter, payload=None), claimed(3))
        self.stored = {2: Stored(letter)}
        ehlo = b"250-peer.test\r\n250-PIPELINING\r\n250 DSN\r\n"
        self.successResultOf(self.carry(self.courier(lambda: Server({"ehlo": ehlo})), feed))
        heard = [line for line in self.network.connected[0].heard if line[:4] in (b"MAIL", b"RCPT")]
        asked = [b"RET=HDRS" in line or b"NOTIFY=NEVER" in line for line in heard]
        self.assertEqual([True] * 4 + [False] * 2, asked)

    def test_only_the_open_recipients_are_asked(self) -> None:
        """RCPT goes to what the claim lists, in its order."""
        to = tuple(Recipient(n, f"r{n}@x.y", RecipientState.DEFERRED) for n in (4, 2))
        feed = Feed(claimed(1, recipients=to))
        self.successResultOf(self.carry(self.courier(), feed))
        (_, rcpts, _) = self.network.connected[0].messages[0]
        self.assertEqual([b"RCPT TO:<r4@x.y>", b"RCPT TO:<r2@x.y>"], rcpts)
        self.assertEqual(2, len(feed.outcomes[1][0].rcpts))

    def test_the_session_stays_warm(self) -> None:
        """A second call goes over the first one's session."""
        courier = self.courier()
        for number in range(2):
            self.successResultOf(self.carry(courier, Feed(claimed(number))))
        self.assertEqual(1, self.network.attempts)

    def test_content_that_the_claim_did_not_bring_is_fetched(self) -> None:
        """Attachments and large texts come from the store, one message at a time."""
        self.stored[1] = Stored(content(plain="fetched\n"), {})
        feed = Feed(claimed(1, payload=None), claimed(2))
        self.successResultOf(self.carry(self.courier(), feed))
        self.assertEqual([[1]], self.asked)
        self.assertIn(b"fetched", self.bodies()[0])

    def test_large_messages_are_composed_in_a_thread(self) -> None:
        """What takes long to compose does not stop the rest."""
        feed = Feed(claimed(1, size=300_000))
        courier = self.courier()
        self.successResultOf(self.carry(courier, feed))
        self.assertEqual([250], feed.codes(1))

    def test_what_cannot_be_prepared_is_told_and_the_rest_goes_on(self) -> None:
        """A damaged payload, content that is gone, an impossible address: each alone is broken."""
        bad = (Recipient(0, "a@b>\r\nDATA", RecipientState.WAITING),)
        feed = Feed(
            claimed(1, payload=b"{not json"),
            claimed(2, payload=None),
            claimed(3, recipients=bad),
            claimed(4),
        )
        self.successResultOf(self.carry(self.courier(), feed))
        self.assertEqual({1, 2, 3}, set(feed.errors))
        self.assertEqual([250], feed.codes(4))

    def test_what_broke_takes_no_room(self) -> None:
        """The bytes of a message that could not be prepared are free again."""
        bad = (Recipient(0, "a@b>", RecipientState.WAITING),)
        letters = [
            claimed(1, size=900, payload=b"{not json"),
            claimed(2, size=900, payload=None),
            claimed(3, size=900, recipients=bad),
            claimed(4, size=900),
        ]
        feed = Feed(*letters)
        self.successResultOf(self.carry(self.courier(limit=1000), feed))
        self.assertEqual([250], feed.codes(4))

    def test_a_store_that_is_busy_breaks_no_message(self) -> None:
        """Content that cannot be had now is asked for again a little later."""
        answers: list[Deferred[dict[int, Stored]]] = [
            fail(StoreBusy()),
            succeed({1: Stored(content(), {})}),
        ]
        feed = Feed(claimed(1, payload=None))
        carried = self.carry(self.courier(contents=lambda pks: answers.pop(0)), feed)
        self.assertNoResult(carried)
        self.clock.advance(1.0)
        self.network.run()
        self.successResultOf(carried)
        self.assertEqual([250], feed.codes(1))
        self.assertEqual({}, feed.errors)

    def test_a_withdrawn_message_is_dropped(self) -> None:
        """A refused intent: nothing arrives, nothing is told, the rest goes over a new session."""
        feed = Feed(*map(claimed, range(3)))
        feed.refused = {1}
        self.successResultOf(self.carry(self.courier(), feed))
        self.assertEqual(["next", "begin"], feed.said(1))
        self.assertEqual([[250], [250]], [feed.codes(n) for n in (0, 2)])
        self.assertEqual(2, len(self.bodies()))

    def test_a_lost_session_is_replaced(self) -> None:
        """What was sent ends by how far it came; the rest goes over another session."""
        feed = Feed(*map(claimed, range(4)))
        courier = self.courier(lambda: Server({"body": [b"250 ok\r\n", Cut()]}), Server)
        self.successResultOf(self.carry(courier, feed))
        self.assertTrue(feed.outcomes[1][0].uncertain)
        self.assertTrue(feed.outcomes[2][0].stale)
        self.assertEqual([250], feed.codes(3))
        self.assertEqual(2, self.network.attempts)

    def test_what_was_not_begun_goes_first_over_the_next_session(self) -> None:
        """A message whose envelope never left is put back, without an outcome."""
        feed = Feed(*map(claimed, range(3)))
        courier = self.courier(lambda: Server({"mail": Cut()}), Server)
        self.successResultOf(self.carry(courier, feed))
        self.assertEqual(["next", "put back", "next", "begin", "finish"], feed.said(1))
        self.assertEqual([250], feed.codes(1))

    def test_no_session_is_the_accounts_fault(self) -> None:
        """F23: without a session nothing is taken from the feed."""
        feed = Feed(claimed(1))
        failure = self.failureResultOf(
            self.carry(self.courier(ConnectionRefusedError()), feed), AccountFault
        )
        self.assertEqual("connect", failure.value.phase)
        self.assertEqual([], feed.log)

    def test_no_second_session_puts_back_what_was_taken(self) -> None:
        """If the replacement cannot be had, the feed has everything that was not begun."""
        feed = Feed(*map(claimed, range(3)))
        courier = self.courier(lambda: Server({"mail": Cut()}), ConnectionRefusedError())
        self.failureResultOf(self.carry(courier, feed), AccountFault)
        self.assertEqual([1, 2], [message.pk for message in feed.waiting])

    def test_sessions_that_come_to_nothing_are_the_accounts_fault(self) -> None:
        """F30: two sessions in a row that carry nothing end the call; few messages are spent."""
        feed = Feed(*map(claimed, range(10)))
        courier = self.courier(lambda: Server({"mail": b"421 4.7.0 go away\r\n"}))
        failure = self.failureResultOf(self.carry(courier, feed), AccountFault)
        self.assertIn("421", failure.value.reason)
        self.assertEqual(2, self.network.attempts)
        self.assertEqual(8, len(feed.waiting))

    def test_a_changed_account_ends_the_call(self) -> None:
        """F43: once a newer version is in use, the older one's call ends; nothing more goes so."""
        server = Server({"body": [SILENCE, b"250 ok\r\n"]})
        courier = self.courier(lambda: server, Server)
        feed = Feed(*map(claimed, range(5)))
        old = self.carry(courier, feed)
        new = self.carry(courier, Feed(claimed(9)), account(version=2))
        self.successResultOf(new)
        self.assertNoResult(old)
        server.say(b"250 ok\r\n")
        server.unmute()
        self.network.run()
        self.successResultOf(old)
        self.assertEqual([2, 3, 4], [message.pk for message in feed.waiting])
        self.assertEqual(2, self.network.attempts)
        self.assertEqual([250], feed.codes(1))

    def test_withdrawn_messages_are_no_fault(self) -> None:
        """However many intents are refused in a row, the account is not at fault."""
        feed = Feed(*map(claimed, range(6)))
        feed.refused = {0, 1, 2, 3, 4}
        self.successResultOf(self.carry(self.courier(), feed))
        self.assertEqual([250], feed.codes(5))

    def test_sessions_that_died_idle_are_no_fault(self) -> None:
        """F42: several warm sessions may turn out dead; a new one carries the mail."""
        courier = self.courier(*[lambda: Server({"mail": [b"250 ok\r\n", Cut()]})] * 3, Server)
        asked = [Deferred.fromCoroutine(self.pool.acquire(account())) for _ in range(3)]
        self.network.run()
        sessions = [self.successResultOf(each) for each in asked]
        for session in sessions:
            Letter().sent_over(session)
            self.network.run()
            self.pool.release(session)
        feed = Feed(*map(claimed, range(4)))
        self.successResultOf(self.carry(courier, feed))
        self.assertEqual([True] * 3, [feed.outcomes[n][0].stale for n in range(3)])
        self.assertEqual([250], feed.codes(3))

    def test_a_worn_session_is_replaced_without_loss(self) -> None:
        """After its number of messages a session says QUIT, and another goes on."""
        feed = Feed(*map(claimed, range(7)))
        courier = self.courier(max_messages=3)
        self.successResultOf(self.carry(courier, feed))
        self.assertEqual([[250]] * 7, [feed.codes(n) for n in range(7)])
        self.assertEqual(3, self.network.attempts)
        self.assertIn(b"QUIT", self.network.connected[0].heard)
        self.assertEqual(3, len(self.network.connected[0].messages))

    def test_storing_outcomes_holds_nobody_up(self) -> None:
        """Messages go on while outcomes are being stored; the call ends when all are."""
        feed = Feed(*map(claimed, range(5)))
        feed.unfinished = []
        carried = self.carry(self.courier(), feed)
        self.assertEqual(5, len(self.bodies()))
        self.assertNoResult(carried)
        for done in feed.unfinished:
            done.callback(None)
        self.successResultOf(carried)

    def test_bodies_in_memory_are_limited(self) -> None:
        """Over all accounts, no more is prepared than fits; what waits goes when there is room."""
        server = Server({"body": SILENCE})
        courier = self.courier(lambda: server, Server, limit=1000)
        first = Feed(claimed(0, size=900))
        other = Feed(claimed(1, size=900))
        self.carry(courier, first)
        carried = self.carry(courier, other, account(pk=2))
        self.assertEqual([("next", 1)], other.log)
        server.say(b"250 at last\r\n")
        self.network.run()
        self.successResultOf(carried)
        self.assertEqual([[250], [250]], [first.codes(0), other.codes(1)])

    def test_without_pipelining_all_arrive_just_as_well(self) -> None:
        """A server without PIPELINING gets the same messages, one command at a time."""
        feed = Feed(*map(claimed, range(5)))
        self.successResultOf(self.carry(self.courier(lambda: Server({"ehlo": PLAIN_EHLO})), feed))
        self.assertEqual([[250]] * 5, [feed.codes(n) for n in range(5)])

    def test_closing_lets_what_is_on_its_way_end(self) -> None:
        """After close nothing is begun; what had begun has until the deadline."""
        server = Server({"body": SILENCE})
        courier = self.courier(lambda: server)
        feed = Feed(*map(claimed, range(4)))
        carried = self.carry(courier, feed)
        closed = Deferred.fromCoroutine(courier.close(10.0))
        server.say(b"250 ok\r\n")
        self.network.run()
        self.clock.advance(10.1)
        self.network.run()
        self.successResultOf(closed)
        self.successResultOf(carried)
        self.assertEqual([250], feed.codes(0))
        self.assertEqual(1, len(feed.outcomes[1]))
        self.assertEqual([2, 3], [message.pk for message in feed.waiting])

    def test_deliveries_are_measured(self) -> None:
        """Each answered transaction counts once in the histogram."""
        self.successResultOf(self.carry(self.courier(), Feed(*map(claimed, range(3)))))
        count = self.metrics.registry.get_sample_value("mailproxy_delivery_seconds_count")
        self.assertEqual(3.0, count)
