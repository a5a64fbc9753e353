"""The text of a final error, and the JSON beside an event."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.states import RecipientState
from mailproxy.store.wording import Said, Told, dump, error, load

SENT = Said("a@example.org", "sent", 250, "2.0.0 Ok")
REFUSED = Said("b@example.org", "failed", 550, "5.1.1 no such user")
SILENT = Said("c@example.org", "failed", None, "account deleted")

SAID = st.builds(
    Said,
    st.emails(),
    st.sampled_from([state.value for state in RecipientState if not state.open]),
    st.none() | st.integers(400, 599),
    st.text(max_size=20),
)


class ErrorTests(SynchronousTestCase):
    def test_one_refused(self) -> None:
        """A refused recipient is named with its reply."""
        self.assertEqual("b@example.org: 550 5.1.1 no such user", error("", [REFUSED]))

    def test_some_accepted(self) -> None:
        """Who accepted is named behind who refused."""
        self.assertEqual(
            "b@example.org: 550 5.1.1 no such user; accepted by a@example.org",
            error("", [SENT, REFUSED]),
        )

    def test_a_reason_that_is_no_reply(self) -> None:
        """What befell the whole message stands alone."""
        self.assertEqual("account deleted", error("account deleted", [SILENT]))

    def test_a_reason_beside_replies(self) -> None:
        """What befell the rest comes first, then each with what was said of it."""
        self.assertEqual(
            "account deleted; b@example.org: 550 5.1.1 no such user; "
            "c@example.org: account deleted; accepted by a@example.org",
            error("account deleted", [SENT, REFUSED, SILENT]),
        )

    def test_a_code_is_not_said_twice(self) -> None:
        """A reply that already carries its code is not given it again."""
        said = Said("b@example.org", "failed", 550, "550 5.1.1 no")

        self.assertEqual("b@example.org: 550 5.1.1 no", error("", [said]))

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=20), st.lists(SAID, min_size=1, max_size=5))
    def test_it_begins_with_the_reason(self, reason: str, recipients: list[Said]) -> None:
        """A final error is never empty, and tells the reason wherever there is one."""
        if all(said.state == "sent" for said in recipients):
            recipients = [*recipients, REFUSED]

        text = error(reason, recipients)

        self.assertTrue(text)
        self.assertIn(reason, text)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(SAID, min_size=1, max_size=5))
    def test_every_reply_is_told(self, recipients: list[Said]) -> None:
        """Whoever was refused with a reply code is named with the reply."""
        text = error("", recipients)

        for said in recipients:
            if said.state != "sent" and said.code is not None:
                self.assertIn(f"{said.address}: {said.line}", text)


class ToldTests(SynchronousTestCase):
    def test_round_trip(self) -> None:
        """What is stored beside an event comes back; nothing stands for *sent*."""
        told = Told(deferred_ts=12.5, deferred_reason="451 later", uncertain=True)

        self.assertEqual(told, load(dump(told)))
        self.assertEqual(Told(), load(None))
