"""What an operator decides over a message, a batch, or the mail of an account."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from mailproxy.client.caller import Caller, given, join
from mailproxy.client.results_mail import ActResult, GroupResult

R = TypeVar("R", ActResult, GroupResult)

End = Literal["sent", "failed"]

#: What comes to the same when it is done twice, whatever happened in between.
_REPEATABLE = frozenset(("hold", "cancel", "close"))


class Acts(Generic[R]):
    """
    The acts on one thing. All take a *reason* of up to 200 characters for the timeline.

    Only hold, cancel and close are repeated when their answer is lost.
    """

    _result: type[R]

    def __init__(self, caller: Caller, path: str) -> None:
        self._caller = caller
        self._path = path

    def act(self, name: str, reason: str | None = None, **fields: Any) -> R:
        """Do what is called *name*; further *fields* go with it, if they are not None."""
        return self._caller.ask(
            self._result,
            "POST",
            join(self._path, name),
            json=given(reason=reason, **fields),
            repeatable=name in _REPEATABLE,
        )

    def hold(self, reason: str | None = None) -> R:
        """Begin nothing of it until it is released; its age does not run meanwhile."""
        return self.act("hold", reason)

    def retry(self, reason: str | None = None) -> R:
        """Try now what is deferred."""
        return self.act("retry", reason)

    def cancel(self, reason: str | None = None) -> R:
        """End what has not been sent; that is reported."""
        return self.act("cancel", reason)

    def resend(self, reason: str | None = None) -> R:
        """Send once more what is uncertain; recipients may get a second copy."""
        return self.act("resend", reason)

    def close(self, end: End, reason: str | None = None) -> R:
        """End what is uncertain as what it turned out to be."""
        return self.act("close", reason, end=end)


class MessageActs(Acts[ActResult]):
    """Those on one message."""

    _result = ActResult

    def release(self, reason: str | None = None) -> ActResult:
        """Let it go, whoever or whatever held it."""
        return self.act("release", reason)

    def requeue(self, reason: str | None = None) -> ActResult:
        """Send once more what failed or expired, to those who have not accepted it."""
        return self.act("requeue", reason)


class GroupActs(Acts[GroupResult]):
    """Those on a batch, or on the mail of an account: stored at once, done in the background."""

    _result = GroupResult

    def release(self, reason: str | None = None, *, singly: bool = False) -> GroupResult:
        """Let it go. :param singly: also the messages that are held one by one."""
        return self.act("release", reason, singly=singly or None)

    def requeue(self, reason: str | None = None, *, since: float | None = None) -> GroupResult:
        """Send once more what failed or expired. :param since: at or after this Unix time."""
        return self.act("requeue", reason, since=since)
