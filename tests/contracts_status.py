"""What every store promises operators: counts, listings, and what upkeep removes."""

from __future__ import annotations

from typing import Any

from mailproxy import __version__, payload
from mailproxy.records import ListQuery
from mailproxy.search import Found, Wanted
from tests.build import content, mailbox, new_message, put_off, record, refused, unknown
from tests.contracts_base import DAY, RETENTION, StoreContract


class CountsContract(StoreContract):
    async def test_counts_follow_the_messages(self) -> None:
        """The counts are those of the messages, in every unfinished state."""
        await self.deliver(id="sent")
        await self.deliver(refused(), id="failed")
        await self.deliver(unknown(), id="uncertain")
        await self.post(id="deferred")
        await self.defer(await self.claim_one())
        await self.post(id="flying")
        await self.begin(await self.claim_one())
        await self.post(id="held")
        held = record(await self.claim_one(), put_off(), at=self.now, begun=False, hold="raised")
        await self.store.record([held])
        await self.submit(new_message(id="q1"), new_message(id="q2", not_before=self.now + DAY))

        counts = await self.store.counts(self.now)

        expected = {"queued": 2, "deferred": 1, "in_flight": 1, "held": 1, "uncertain": 1}
        self.assertEqual(expected, {key: n for key, n in counts.by_state.items() if n})
        self.assertEqual(6, counts.pending)
        self.assertEqual(6, len(await self.listed(active_only=True)))

    async def test_counts_of_a_tenant(self) -> None:
        """Asked for one tenant, the counts are those of its messages alone."""
        await self.add_tenant("other")
        await self.put(tenant_id="other", id="theirs")
        await self.post(id="ours")
        self.later(10)
        await self.submit(new_message(id="m1", tenant_id="other", account_id="theirs"))

        theirs = await self.store.counts(self.now, "other")

        self.assertEqual((1, self.now), (theirs.by_state["queued"], theirs.oldest_due))
        self.assertEqual(2, (await self.store.counts(self.now)).pending)
        nobody = await self.store.counts(self.now, "nobody")
        self.assertEqual((0, None), (nobody.pending, nobody.oldest_due))

    async def test_empty(self) -> None:
        """An empty store counts nothing."""
        counts = await self.store.counts(self.now)
        self.assertEqual((0, None), (counts.pending, counts.oldest_due))

    async def test_oldest_due(self) -> None:
        """The oldest due instant is that of the message which has been due longest."""
        first = self.now
        await self.post(id="m1")
        self.later(10)
        await self.post(id="m2")
        await self.post(id="m3", not_before=self.now + DAY)
        self.later(10)

        self.assertEqual(first, (await self.store.counts(self.now)).oldest_due)
        await self.finish((await self.claim(limit=1))[0])
        self.assertEqual(first + 10, (await self.store.counts(self.now)).oldest_due)

    async def test_counts_survive_the_process(self) -> None:
        """The counts are right after a kill, whatever was under way."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(4)))
        one, two, *_ = await self.claim()
        await self.begin(one, two)
        await self.store.record([record(one, at=self.now)])

        await self.killed()
        await self.store.abandoned(self.now)

        counts = await self.store.counts(self.now)
        states = {key: n for key, n in counts.by_state.items() if n}
        self.assertEqual({"queued": 2, "in_flight": 1}, states)

    async def test_healthy(self) -> None:
        """A store that writes is healthy."""
        await self.post()
        self.assertTrue(self.store.healthy())


class NodesContract(StoreContract):
    async def test_who_lives(self) -> None:
        """A process is shown with its release as soon as it has the store."""
        (node,) = await self.store.nodes(self.now)

        self.assertTrue(node.alive)
        self.assertEqual(self.store.node_id, node.id)
        self.assertEqual(__version__, node.version)
        self.assertTrue(node.host)
        self.assertLess(node.started_at, node.alive_until)

    async def test_since_when_it_lives(self) -> None:
        """A heartbeat makes a process live longer; when it started stays what it was."""
        (before,) = await self.store.nodes(self.now)
        self.later(20.0)
        await self.store.heartbeat(self.now)

        (after,) = await self.store.nodes(self.now)

        self.assertEqual(before.started_at, after.started_at)
        self.assertGreater(after.alive_until, before.alive_until)


class ListingContract(StoreContract):
    async def fill(self) -> None:
        """Two that ended, a second apart, then four that wait, a second apart."""
        for name in ("done1", "done2"):
            await self.deliver(id=name)
            self.later(1)
        for name, priority in (("p2", 2), ("p0", 0), ("p2b", 2), ("p3", 3)):
            await self.post(id=name, priority=priority)
            self.later(1)

    async def ids(self, **query: Any) -> list[str]:
        return [each.id for each in await self.listed(**query)]

    async def test_order(self) -> None:
        """Unfinished messages come first, by priority and age; then finished, newest first."""
        await self.fill()
        self.assertEqual(["p0", "p2", "p2b", "p3", "done2", "done1"], await self.ids())

    async def test_record(self) -> None:
        """A listed message reads as it was posted."""
        message = new_message(id="m9", batch="x", priority=1, to=["a@example.org"])
        await self.submit(message)

        (listed,) = await self.listed()

        self.assertEqual(("default", "m9"), (listed.tenant_id, listed.id))
        self.assertEqual(("acct", 1, "x"), (listed.account_id, listed.priority, listed.batch))
        self.assertEqual((None, "queued", 0), (listed.not_before, listed.state, listed.attempts))
        self.assertEqual(
            (None, None, None, None, None),
            (
                listed.sent_ts,
                listed.error_ts,
                listed.error,
                listed.deferred_reason,
                listed.reported_ts,
            ),
        )
        self.assertEqual((self.now, self.now), (listed.accepted_at, listed.updated_at))
        self.assertEqual((message.message_id, message.payload), (listed.message_id, listed.payload))
        self.assertEqual(["a@example.org"], [rcpt.address for rcpt in listed.recipients])

    async def searched(self, after: str | None = None, limit: int = 10, **wanted: Any) -> Found:
        return await self.store.search(ListQuery(limit=limit, after=after), Wanted(**wanted))

    async def write(self, id: str, *to: str, subject: str = "", text: str = "x") -> None:
        made = content(to=tuple(mailbox(each) for each in to), subject=subject, plain=text)
        await self.submit(new_message(id=id, to=to, payload=payload.dump(made)))

    async def test_search(self) -> None:
        """Text is found in id, address and subject, in upper or lower case, in the usual order."""
        await self.write("order-1", "Ann@Example.org", subject="Your invoice")
        await self.write("order-2", "bob@example.org", "ann@example.net")
        await self.write("x", "c@example.com", subject="For ANN, 100% _off_")
        cases: tuple[tuple[dict[str, Any], list[str]], ...] = (
            ({"anywhere": "ann"}, ["order-1", "order-2", "x"]),
            ({"anywhere": "ORDER"}, ["order-1", "order-2"]),
            ({"recipient": "ann@"}, ["order-1", "order-2"]),
            ({"subject": "ann"}, ["x"]),
            ({"subject": "0% _o"}, ["x"]),
            ({"anywhere": "order", "subject": "invoice"}, ["order-1"]),
            ({"anywhere": "nobody"}, []),
            ({}, ["order-1", "order-2", "x"]),
        )
        for sought, ids in cases:
            found = await self.searched(**sought)
            self.assertEqual(ids, [each.id for each in found.records], sought)

    async def test_search_goes_on(self) -> None:
        """Behind its cursor a search goes on, until everything was looked at."""
        await self.fill()
        found, ids = await self.searched(limit=1, anywhere="2"), []
        while found.after is not None:
            self.assertLessEqual(len(found.records), 1)
            ids += [each.id for each in found.records]
            found = await self.searched(found.after, limit=1, anywhere="2")
        self.assertEqual(["p2", "p2b", "done2"], ids)

    async def test_search_reads_no_text(self) -> None:
        """What is found comes without its text, and can be read in full."""
        await self.write("m1", "a@example.org", subject="s", text="the text")
        (found,) = (await self.searched(subject="s")).records
        (listed,) = await self.listed()
        self.assertNotIn(b"the text", found.payload or b"")
        self.assertIn(b"the text", listed.payload or b"")
        self.assertEqual("s", payload.load(found.payload or b"").subject)

    async def test_search_filters(self) -> None:
        """A search is narrowed as a listing is."""
        await self.fill()
        query = ListQuery(state="sent", limit=10)
        found = await self.store.search(query, Wanted(anywhere="e"))
        self.assertEqual(["done2", "done1"], [each.id for each in found.records])

    async def test_updated_at(self) -> None:
        """What happened to a message last is when it was updated."""
        await self.post()
        self.later(10)
        await self.finish(await self.claim_one())
        self.assertEqual(self.now, (await self.stored()).updated_at)

    async def test_filters(self) -> None:
        """A listing is narrowed by tenant, activity, state, account and batch."""
        await self.put(id="second")
        await self.add_tenant("other")
        await self.put(tenant_id="other", id="theirs")
        await self.deliver(id="done", account_id="acct", batch="x")
        await self.post(id="waits", account_id="second", batch="x")
        await self.post(id="plain", account_id="acct")
        await self.post(id="theirs", tenant_id="other")

        self.assertEqual({"done", "waits", "plain", "theirs"}, set(await self.ids()))
        self.assertEqual({"done", "waits", "plain"}, set(await self.ids(tenant_id="default")))
        self.assertEqual(["theirs"], await self.ids(tenant_id="other"))
        self.assertEqual(
            {"waits", "plain"}, set(await self.ids(active_only=True, tenant_id="default"))
        )
        self.assertEqual(["done"], await self.ids(state="sent"))
        self.assertEqual(["waits"], await self.ids(account_id="second"))
        self.assertEqual({"done", "waits"}, set(await self.ids(batch="x")))
        self.assertEqual(["waits"], await self.ids(batch="x", active_only=True))
        self.assertEqual([], await self.ids(state="held"))
        self.assertEqual([], await self.ids(tenant_id="nobody"))

    async def test_every_state_is_a_filter(self) -> None:
        """Whatever state a message is listed with finds it."""
        await self.fill()
        await self.defer((await self.claim(limit=1))[0])
        await self.begin((await self.claim(limit=1))[0])
        await self.finish((await self.claim(limit=1))[0], unknown())
        for each in await self.listed():
            self.assertIn(each.id, await self.ids(state=each.state))

    async def test_since(self) -> None:
        """A listing since an instant leaves out what was not touched since."""
        await self.deliver(id="old")
        await self.post(id="retried")
        (retried,) = await self.claim()
        self.later(100)
        since = self.now
        await self.deliver(id="new")
        await self.post(id="waits")
        self.assertEqual({"new", "waits"}, set(await self.ids(since=since)))
        await self.finish(retried)
        self.assertEqual({"new", "waits", "retried"}, set(await self.ids(since=since)))

    async def test_pages(self) -> None:
        """Page by page a listing has every message once, in order, whatever the page's size."""
        await self.fill()
        whole = await self.ids()
        for limit in range(1, len(whole) + 2):
            self.assertEqual(whole, await self.paged(limit=limit))

    async def paged(self, limit: int, **query: Any) -> list[str]:
        """The ids of a listing, fetched page by page."""
        seen: list[str] = []
        after = None
        while page := await self.listed(limit=limit, after=after, **query):
            self.assertLessEqual(len(page), limit)
            seen += [each.id for each in page]
            after = page[-1].cursor
        return seen

    async def test_pages_of_one_instant(self) -> None:
        """Messages of the same priority and instant are all found, page by page."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(9)))
        claimed = await self.claim(limit=4)
        await self.begin(*claimed)
        await self.store.record([record(each, at=self.now) for each in claimed])
        for limit in (1, 2, 3):
            seen = await self.paged(limit=limit)
            self.assertEqual(sorted(f"m{n}" for n in range(9)), sorted(seen))

    async def test_filtered_pages(self) -> None:
        """Cursors hold under a filter."""
        await self.fill()
        self.assertEqual(["p0", "p2", "p2b", "p3"], await self.paged(limit=1, active_only=True))
        self.assertEqual(["done2", "done1"], await self.paged(limit=1, state="sent"))

    async def test_new_mail_between_pages(self) -> None:
        """Mail that comes in between two pages makes nothing be listed twice or missed."""
        await self.fill()
        first = await self.listed(limit=3)
        await self.post(id="urgent", priority=0)
        await self.post(id="lazy", priority=3)

        rest = await self.ids(limit=100, after=first[-1].cursor)

        self.assertEqual(["p0", "p2", "p2b"], [each.id for each in first])
        self.assertEqual(["p3", "lazy", "done2", "done1"], rest)


class RetentionContract(StoreContract):
    async def test_reported_mail_is_removed(self) -> None:
        """A finished and reported message is removed after its retention, not before."""
        await self.deliver()
        await self.report()
        self.later(RETENTION - 60)
        await self.upkeep()
        self.assertEqual("sent", await self.state())

        self.later(61)
        self.assertGreater(await self.upkeep(), 0)

        self.assertEqual([], await self.listed())
        self.assertEqual([], await self.offered())

    async def test_unreported_mail_is_kept(self) -> None:
        """A message whose end was not reported is not removed."""
        await self.deliver()
        self.later(RETENTION + DAY)
        await self.upkeep()
        self.assertEqual("sent", await self.state())
        self.assertEqual(["m1"], [item.id for item in await self.offered()])

    async def test_unfinished_mail_is_kept(self) -> None:
        """A message that has not ended is not removed, however old it is."""
        await self.post()
        await self.defer(await self.claim_one(), after=60)
        await self.report()
        await self.deliver(unknown(), id="m2")
        await self.report()
        self.later(RETENTION + DAY)
        await self.upkeep()
        self.assertEqual({"m1", "m2"}, {each.id for each in await self.listed()})

    async def test_posted_again_meanwhile(self) -> None:
        """A message posted again before its removal is kept until that is reported too."""
        await self.deliver()
        await self.report()
        self.later(RETENTION + 1)
        await self.post()

        await self.upkeep()

        self.assertEqual(["m1"], [item.id for item in await self.offered()])

    async def test_removed_in_steps(self) -> None:
        """However much is to be removed, a step takes 500 rows at most, and all comes to an end."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(700)))
        claimed = await self.claim()
        await self.begin(*claimed)
        await self.store.record([record(each, at=self.now) for each in claimed])
        await self.store.ack_all("default", self.now)
        self.later(RETENTION + 1)

        await self.upkeep()

        self.assertEqual([], await self.listed())
        self.assertEqual(0, await self.store.upkeep(self.now))

    async def test_nothing_to_do(self) -> None:
        """Upkeep of a store with nothing to remove does nothing."""
        await self.post()
        await self.upkeep()
        self.assertEqual(0, await self.store.upkeep(self.now))
        self.assertEqual("queued", await self.state())
