"""Every promise that is broken on purpose is found out within few worlds."""

from __future__ import annotations

from tests.simulation import broken
from tests.simulation.running import Worlds
from tests.simulation.store import SimulatedStore


class BrokenTests(Worlds):
    def caught(
        self,
        store: type[SimulatedStore],
        within: int,
        *words: str,
        kind: str = "",
        first: int = 0,
    ) -> None:
        """
        *store* is caught within so many seeds, with one of *words* in what is said of it.

        :param kind: of the worlds, and *first*: the number of the first.
        """
        problems = self.found(store, range(first, first + within), kind)
        self.assertNotEqual([], problems, f"not caught within {within} seeds")
        text = "\n".join(problems)
        self.assertTrue(any(each in text for each in words), text)

    def test_body_before_intent(self) -> None:
        """A body that begins before its intent is stored."""
        self.caught(broken.BodyBeforeIntent, 10, "before its intent", "never came to rest")

    def test_answer_before_commit(self) -> None:
        """Mail that is accepted before it is stored."""
        self.caught(broken.AnswerBeforeCommit, 60, "is nowhere", "was never reported", "is queued")

    def test_smtp_answer_before_commit(self) -> None:
        """Mail that is acknowledged by SMTP before it is stored."""
        said = "is nowhere", "was never reported", "is queued"
        self.caught(broken.SmtpAnswerBeforeCommit, 25, *said, kind="+smtp", first=60)

    def test_dots_kept(self) -> None:
        """Mail by SMTP that leaves otherwise than it came."""
        self.caught(broken.DotsKept, 5, "not what was handed in", kind="+smtp")

    def test_limits_uncounted(self) -> None:
        """Mail that leaves beyond the limits of its account or tenant."""
        self.caught(broken.LimitsUncounted, 5, "more than", kind="+limits")

    def test_right_unchecked(self) -> None:
        """Nodes that call a tenant without asking who may."""
        self.caught(broken.RightUnchecked, 5, "two report calls", kind="+nodes")

    def test_right_forgotten(self) -> None:
        """A node that goes on with a call though it may be taken for dead."""
        self.caught(broken.RightForgotten, 15, "two report calls", kind="+nodes", first=75)

    def test_fence_unchecked(self) -> None:
        """A node that begins what another has taken over."""
        said = "raised", "not what its intent", "is a lie", "never came to rest"
        self.caught(broken.FenceUnchecked, 30, *said, kind="+nodes")

    def test_nodes_buried_alive(self) -> None:
        """A node that begins again what another, alive or dead, has under way."""
        self.caught(broken.NodesBuriedAlive, 30, "0 in doubt", kind="+nodes")

    def test_ack_before_answer(self) -> None:
        """An event that counts as reported before it was taken."""
        self.caught(broken.AckBeforeAnswer, 30, "was never reported", "was last reported as")

    def test_new_event_ids(self) -> None:
        """An event that has another id each time."""
        self.caught(broken.NewEventIds, 10, "not stored was told")

    def test_outcome_forgotten(self) -> None:
        """An outcome that is not kept when the store does not take it."""
        self.caught(broken.OutcomeForgotten, 90, "never came to rest")

    def test_token_unchecked(self) -> None:
        """A message that is begun by who had it claimed before it was changed."""
        self.caught(
            broken.TokenUnchecked, 60, "not what its intent was for", "though replaced", "raised"
        )

    def test_doubt_denied(self) -> None:
        """An attempt that a crash cut off, and that is made again as if it had never been."""
        self.caught(broken.DoubtDenied, 120, "0 in doubt")

    def test_suspension_unheeded(self) -> None:
        """A message that is begun after its suspension was acknowledged."""
        self.caught(broken.SuspensionUnheeded, 60, "while suspended")
