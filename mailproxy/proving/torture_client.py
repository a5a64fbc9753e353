"""The service as a client sees it: REST and SMTP, one blocking call at a time."""

from __future__ import annotations

import contextlib
import http.client
import json
import smtplib
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

import attrs

from mailproxy.errors import MailProxyError
from mailproxy.proving.children import NotProven
from mailproxy.proving.torture_plan import Mail
from mailproxy.proving.torture_tenants import sender

#: Seconds a client waits for an answer.
PATIENCE = 15.0

HOST = "127.0.0.1"


#: Replies to mail, or to a login, after which nothing can have been stored.
_NOT_STORED = frozenset({451, 452, 454})


class NoAnswer(MailProxyError):
    """No positive answer came. *refused*: and nothing can have been stored."""

    def __init__(self, why: str, *, refused: bool = False) -> None:
        super().__init__(why)
        self.refused = refused


class Unexpected(NotProven):
    """An answer that no right program gives; the text shows it."""


@attrs.frozen
class Api:
    """The REST interface on *port*. Each call has a connection of its own."""

    port: int
    token: str = attrs.field(repr=False)

    def shown(self, token: str) -> Api:
        """The same, for whoever shows that token."""
        return Api(self.port, token)

    def call(self, method: str, path: str, body: Any = None, patience: float = PATIENCE) -> Any:
        """
        One request.

        :return: the answer's JSON.
        :raises NoAnswer: none came, or a 503.
        :raises Unexpected: any other answer but 200.
        """
        connection = http.client.HTTPConnection(HOST, self.port, timeout=patience)
        try:
            connection.request(method, path, _json(body), self._headers())
            answer = connection.getresponse()
            raw = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(str(error), refused=isinstance(error, ConnectionRefusedError)) from error
        finally:
            connection.close()
        if answer.status == 503:
            raise NoAnswer("503", refused=True)
        if answer.status != 200:
            raise Unexpected(f"{method} {path}: {answer.status} {raw[:300]!r}")
        return json.loads(raw)

    def hang_up(self, path: str, body: Any) -> None:
        """Make a request, and go away before its answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)
        with contextlib.suppress(OSError):
            connection.request("POST", path, _json(body), self._headers())
        connection.close()

    def ready(self) -> bool:
        """Whether it serves."""
        try:
            self.call("GET", "/readyz", patience=5.0)
        except (NoAnswer, Unexpected):
            return False
        return True

    def records(self) -> list[dict[str, Any]]:
        """Every message the service lists. :raises NoAnswer, Unexpected: as :meth:`call`."""
        return list(self.call("GET", "/messages?limit=1000000", patience=60.0)["messages"])

    def history(self, id: str) -> list[dict[str, Any]]:
        """The timeline of a message."""
        path = f"/v1/messages/{quote(id, safe='')}"
        return list(self.call("GET", path)["message"]["history"])

    def resend_uncertain(self, account: str) -> None:
        """Decide, as an operator may, that what is uncertain goes once more."""
        self.call("POST", f"/v1/accounts/{account}/resend", {"reason": "torture"})

    def _headers(self) -> Mapping[str, str]:
        return {"X-API-Token": self.token, "Content-Type": "application/json"}


@attrs.frozen
class Door:
    """
    One node of the service, where mail is handed in.

    :param answered: called after each positive answer about mail.
    """

    api: Api
    smtp_port: int
    answered: Callable[[], None]


def element(mail: Mail) -> dict[str, Any]:
    """*mail* as REST takes it."""
    return {
        "id": mail.id,
        "account_id": mail.account,
        "from": sender(mail.tenant),
        "to": list(mail.recipients),
        "subject": f"Message {mail.id}",
        "body": f"Content {mail.version} of {mail.id}.\n",
        "priority": mail.priority,
    }


def bad_elements(ids: Iterable[str]) -> list[dict[str, Any]]:
    """Elements that have to be refused: nobody is their sender."""
    return [{"id": id, "account_id": "main", "to": [f"to+{id}@example.test"]} for id in ids]


def submit(port: int, mail: Mail, login: tuple[str, str] | None = None) -> None:
    """
    Hand *mail* in by SMTP; returning means that 250 was the answer to its end.

    :param login: user and password, where the address alone does not admit.
    :raises NoAnswer: no answer came, or a transient refusal.
    :raises Unexpected: it was refused for good.
    """
    head = {
        "From": sender(mail.tenant),
        "To": ", ".join(mail.recipients),
        "Subject": f"Message {mail.id}",
        "X-Mailproxy-Id": mail.id,
        "X-Mailproxy-Account": mail.account,
    }
    lines = [f"{name}: {value}" for name, value in head.items()]
    text = "\r\n".join([*lines, "", f"Content {mail.version} of {mail.id}.", ""])
    try:
        with smtplib.SMTP(HOST, port, timeout=PATIENCE) as client:
            if login is not None:
                client.login(*login)
            client.sendmail(sender(mail.tenant), mail.recipients, text)
    except smtplib.SMTPResponseException as error:
        if error.smtp_code >= 500:
            raise Unexpected(f"{error.smtp_code} {error.smtp_error!r}") from error
        raise NoAnswer(f"{error.smtp_code}", refused=error.smtp_code in _NOT_STORED) from error
    except smtplib.SMTPServerDisconnected as error:
        raise NoAnswer(str(error)) from error
    except smtplib.SMTPException as error:
        raise Unexpected(str(error)) from error
    except OSError as error:
        raise NoAnswer(str(error), refused=isinstance(error, ConnectionRefusedError)) from error


def _json(body: Any) -> bytes | None:
    return None if body is None else json.dumps(body).encode()
