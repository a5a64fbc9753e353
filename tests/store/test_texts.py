"""A payload in two: nothing of the text stays in what is kept, and nothing is lost."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import payload
from mailproxy.model import Attachment, Content
from mailproxy.store.texts import joined, split
from tests.build import content, mailbox

#: Words that look like what the program looks for.
_KEYS = st.sampled_from(['"html":', ',"plain":', ',"reply_to":', '"html":null,"plain":null', "\\"])
_WORDS = st.lists(st.one_of(st.text(max_size=8), _KEYS), max_size=4).map("".join)
_CONTENTS = st.builds(
    content,
    subject=_WORDS,
    plain=st.none() | _WORDS,
    html=st.none() | _WORDS,
    raw=st.booleans(),
    to=st.lists(st.builds(mailbox, st.just("to@example.org"), _WORDS), max_size=2).map(tuple),
    headers=st.lists(st.tuples(_WORDS, _WORDS), max_size=2).map(tuple),
    attachments=st.lists(st.builds(Attachment, _WORDS, _WORDS, st.integers(1, 9)), max_size=2).map(
        tuple
    ),
)


class SplitTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=200)
    @given(_CONTENTS)
    def test_what_is_kept(self, written: Content) -> None:
        """What is kept is the same content without its texts; with them it is the payload again."""
        whole = payload.dump(written)

        head, text = split(whole)

        self.assertEqual(attrs.evolve(written, plain=None, html=None), payload.load(head))
        self.assertEqual(whole, joined(head, text))
        self.assertEqual(head, joined(head, None))

    def test_by_position(self) -> None:
        """What the program writes is cut where the text stands, without being read."""
        _, text = split(payload.dump(content(plain="said", html="shown")))
        self.assertEqual(b'"html":"shown","plain":"said"', text)

    def test_in_another_order(self) -> None:
        """Content written in another order is split all the same."""
        whole = b'{"plain":"secret","sender":{"display":"","local":"a","domain":"b.c"}}'

        head, text = split(whole)

        self.assertNotIn(b"secret", head)
        self.assertEqual("a", payload.load(head).sender.local)
        self.assertEqual(whole, joined(head, text))

    def test_no_payload(self) -> None:
        """Of what is no payload nothing is kept, and all of it is text."""
        for damaged in (b"", b"{", b'{"html":', b"\x00secret"):
            head, text = split(damaged)
            self.assertEqual(b"", head)
            self.assertEqual(damaged, joined(head, text))
