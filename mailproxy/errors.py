"""
Everything that goes wrong on purpose, as one tree.

* MailProxyError
  - ConfigurationError    a setting is wrong; the start stops with one line
  - BadAddress            an address is not one we would put on the wire
  - BadMessage            a message cannot be composed; names the field
  - StoreError            the store did not do what was asked, and it is known that it did not
    + StoreBusy           the work waited too long and was withdrawn
    + StoreUnavailable    the disk or the database refused
    + StoreRefused        another process has the store, or its schema or key is not ours
  - PartlyStored          some of a submission is stored, and the rest could not be for long
  - DeliveryError         one attempt to deliver did not come to its end
    + AccountFault        the fault is the account's: no route, bad login, bad certificate
    + SessionLost         the connection broke, timed out or broke the protocol
    + Withdrawn           the message was taken back before its body was begun
    + Unprepared          the message cannot be made ready to be sent
      . AttachmentFault   an attachment could not be had
        LargeFileFault    what the tenant wants done with large attachments could not be done
      . SigningFault      the message is to be signed and cannot be
  - BadCommand            an SMTP client said something that is answered with a refusal
  - SinkUnavailable       a report was not taken; it is kept
    + ReportTooLarge      the report was too large for the receiver
    + ReportRefused       the receiver answered that it will never take it
    + ReportUnanswered    no answer in time; the receiver may still be at work on it

Pure. Each type carries the decision its catcher has to make, so nobody inspects text.
"""

from __future__ import annotations


class MailProxyError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigurationError(MailProxyError):
    """
    A setting is wrong.

    :param variable: the name of the variable, ini entry or option.
    :param problem: what is wrong with it; never its value when it is a secret.
    """

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(variable, problem)
        self.variable = variable
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.variable}: {self.problem}"


class BadAddress(MailProxyError):
    """A text is not an address that may stand in an envelope or a header."""


class BadMessage(MailProxyError):
    """
    A message cannot be composed.

    :param field: the field of the submission that is at fault.
    :param problem: what is wrong, without the field's value.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class StoreError(MailProxyError):
    """The store did not do what was asked; it is *known* that nothing of it was stored."""


class StoreBusy(StoreError):
    """The work waited past its deadline and was withdrawn before it began."""


class StoreUnavailable(StoreError):
    """The disk or the database refused: full, read-only, locked, away."""


class StoreRefused(StoreError):
    """The store may not be opened: locked by another process, a newer schema, a wrong key."""


class PartlyStored(MailProxyError):
    """
    Some messages of a large submission are stored, and the rest could not be for too long.

    Neither *stored* nor *not stored* is true of it: whoever submitted it may post all of it again.
    """


class DeliveryError(MailProxyError):
    """One attempt to deliver one message did not come to its end."""

    #: Whether a later attempt may succeed.
    transient = True

    #: Seconds the other side asked us to wait, if it did.
    hint: float | None = None


class AccountFault(DeliveryError):
    """
    No session could be had: the fault is the account's, the network's or the provider's.

    Nothing of any message was sent.

    :param phase: how far the session came, as :class:`mailproxy.model.Phase` spells it.
    :param reason: one line for the operator and the report; never a secret.
    :param code: the reply code, if there was a reply.
    """

    def __init__(self, phase: str, reason: str, code: int | None = None) -> None:
        super().__init__(phase, reason, code)
        self.phase = phase
        self.reason = reason
        self.code = code

    def __str__(self) -> str:
        return f"{self.phase}: {self.reason}"


class SessionLost(DeliveryError):
    """
    The connection broke, a timer ran out, or the peer broke the protocol.

    Whether the message it carried is uncertain is told by the outcome's phase, not by this.

    :param phase: what we were waiting for.
    :param reason: one line; never a secret.
    """

    def __init__(self, phase: str, reason: str) -> None:
        super().__init__(phase, reason)
        self.phase = phase
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.phase}: {self.reason}"


class Withdrawn(DeliveryError):
    """The intent was refused: cancelled, held, suspended or claimed anew. No body was begun."""


class Unprepared(DeliveryError):
    """
    A message cannot be made ready to be sent: nothing of it was sent.

    Its ``transient`` says whether it may be ready later.
    """


class AttachmentFault(Unprepared):
    """
    An attachment could not be had: the message cannot be composed.

    The application knows such a failure by the first words of its text.

    :param filename: of the attachment.
    :param problem: one line; never a secret.
    :param transient: whether it may be had later.
    """

    def __init__(self, filename: str, problem: str, *, transient: bool) -> None:
        super().__init__(filename, problem)
        self.filename = filename
        self.problem = problem
        self.transient = transient

    def __str__(self) -> str:
        return f"Attachment fetch failed for {self.filename}: {self.problem}"


class LargeFileFault(AttachmentFault):
    """A large attachment is refused, or could not be put where a link would lead to it."""

    def __str__(self) -> str:
        return f"attachment {self.filename}: {self.problem}"


class SigningFault(Unprepared):
    """
    A message has to be signed (DKIM) and cannot be: it does not go without.

    :param problem: one line; never a secret.
    :param transient: whether somebody may mend it.
    """

    def __init__(self, problem: str, *, transient: bool) -> None:
        super().__init__(problem)
        self.problem = problem
        self.transient = transient

    def __str__(self) -> str:
        return self.problem


class BadCommand(MailProxyError):
    """
    An SMTP command cannot be carried out as it stands.

    :param text: of the reply, its enhanced status code first.
    """

    def __init__(self, code: int, text: bytes) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


class SinkUnavailable(MailProxyError):
    """
    The report sink took nothing; every report is still ours to deliver.

    :param reason: one line for the log and the sync status.
    :param retry_after: seconds the receiver asked us to wait, if it did.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason, retry_after)
        self.reason = reason
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.reason


class ReportTooLarge(SinkUnavailable):
    """The receiver said that the body was too large: offer fewer events at once."""


class ReportRefused(SinkUnavailable):
    """The receiver answered with a client error that repetition will not change."""


class ReportUnanswered(SinkUnavailable):
    """No whole answer came in time: the receiver may still be at work on the report."""
