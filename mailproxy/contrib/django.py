"""
Django's mail through a mailproxy: ``EMAIL_BACKEND = "mailproxy.contrib.django.EmailBackend"``.

Messages are handed over as the bytes that Django makes of them, so that everything arrives that
Django can say: alternatives, inline images, attached messages, any header field. The recipients go
beside them, which is why nobody sees those of ``bcc``.

These header fields of a message are for the service, and are cut there:

* ``X-Mailproxy-Id``: its id, also an idempotency key; default: a new one
* ``X-Mailproxy-Priority``: 0 to 3, or immediate, high, medium, low
* ``X-Mailproxy-Batch``: the campaign
* ``X-Mailproxy-Account``: the account
* ``X-Mailproxy-Not-Before``: Unix seconds
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends.base import BaseEmailBackend

from mailproxy.address import parse_mailbox
from mailproxy.client import Client, ClientError, Rejected, Retry, envelopes, new_id
from mailproxy.client.transport import DEFAULT_TIMEOUT
from mailproxy.errors import BadAddress

#: Attempts to hand a message over while somebody waits for a page, and most seconds between two.
ATTEMPTS, LONGEST = 3, 5.0

#: What a header field of a message is called in a call.
_FIELDS = MappingProxyType(
    {
        "x-mailproxy-id": "id",
        "x-mailproxy-priority": "priority",
        "x-mailproxy-batch": "batch_code",
        "x-mailproxy-account": "account_id",
        "x-mailproxy-not-before": "deferred_ts",
    }
)

_log = logging.getLogger(__name__)


class EmailBackend(BaseEmailBackend):
    """
    Hands messages to a mailproxy. A message counts as sent when it is on the service's disk.

    After it was handed over, a message has its id in ``mailproxy_id``.

    :param fail_silently: whether mail that cannot be handed over is only logged.
    :param url: of the service; default: the setting ``MAILPROXY_URL``.
    :param token: default: ``MAILPROXY_TOKEN``.
    :param tenant: whose mail it is; default: ``MAILPROXY_TENANT``, else the token's.
    :param account: for messages that name none; default: ``MAILPROXY_ACCOUNT``, else the tenant's.
    :param timeout: seconds, or a pair; default: ``MAILPROXY_TIMEOUT``, else the client's.
    :param attempts: default: ``MAILPROXY_ATTEMPTS``, else 3.
    :raises ImproperlyConfigured: there is no URL, or one that is none; likewise a token.
    """

    def __init__(
        self,
        fail_silently: bool = False,
        *,
        url: str | None = None,
        token: str | None = None,
        tenant: str | None = None,
        account: str | None = None,
        timeout: float | tuple[float, float] | None = None,
        attempts: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fail_silently = fail_silently
        self._url = _setting("URL", url)
        self._token = _Secret(_setting("TOKEN", token))
        self._tenant = _setting("TENANT", tenant)
        self._account = _setting("ACCOUNT", account)
        self._timeout = _setting("TIMEOUT", timeout) or DEFAULT_TIMEOUT
        self._attempts = _setting("ATTEMPTS", attempts) or ATTEMPTS
        self._client: Client | None = None
        if not self._url:
            raise ImproperlyConfigured("MAILPROXY_URL is not set")

    def new_client(self) -> Client:
        """A client as the settings say. :raises ImproperlyConfigured: they are wrong."""
        try:
            return Client(
                self._url,
                self._token.value,
                tenant_id=self._tenant,
                timeout=self._timeout,
                retry=Retry(self._attempts, longest=LONGEST),
            )
        except ValueError as error:
            raise ImproperlyConfigured(f"MAILPROXY settings: {error}") from None

    def open(self) -> bool:
        """Keep a connection for further messages. :return: whether there was none."""
        if self._client is not None:
            return False
        self._client = self.new_client()
        return True

    def close(self) -> None:
        """End it."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def send_messages(self, email_messages: Sequence[Any]) -> int:
        """
        Hand messages over, one by one.

        :return: how many were taken.
        :raises mailproxy.client.ClientError: one was not; those before it were.
        """
        if not email_messages:
            return 0
        opened = self.open()
        taken = 0
        try:
            for message in email_messages:
                taken += self._taken(message)
        except ClientError as error:
            # Not about one message: the others would meet the same.
            if not self.fail_silently:
                raise
            _log.warning("mail was not handed over: %s", error)
        finally:
            if opened:
                self.close()
        return taken

    def _taken(self, message: Any) -> bool:
        if not message.recipients():
            return False
        try:
            self._hand_over(message)
        except Rejected as error:
            if not self.fail_silently:
                raise
            _log.warning("mail was refused: %s", error)
            return False
        return True

    def _hand_over(self, message: Any) -> None:
        assert self._client is not None
        content = message.message().as_bytes()
        sender, *recipients = _bare(message)
        fields: dict[str, Any] = {"account_id": self._account} | _fields(message.extra_headers)
        id = fields.pop("id", None) or new_id()
        for number, part in enumerate(envelopes(recipients), 1):
            name = id if number == 1 else f"{id}-{number}"
            self._client.send_raw(content, sender, part, id=name, **fields)
        message.mailproxy_id = id


def _bare(message: Any) -> Iterator[str]:
    """The addresses of the sender and of the recipients. :raises Rejected: one is none."""
    for name, address in (("from", message.from_email), *(("to", a) for a in message.recipients())):
        try:
            yield parse_mailbox(str(address)).addr
        except BadAddress as error:
            raise Rejected(f"invalid {name}: {error}") from None


class _Secret:
    """A value that a page about an error does not show."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "<secret>"


def _setting(name: str, given: Any) -> Any:
    return given if given is not None else getattr(settings, f"MAILPROXY_{name}", None)


def _fields(headers: dict[str, Any]) -> dict[str, Any]:
    """What a message's own header fields say to the service."""
    found = ((_FIELDS.get(name.lower()), value) for name, value in headers.items())
    return {name: str(value) for name, value in found if name is not None}
