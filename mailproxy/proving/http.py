"""
The sink's HTTP side: what came in, for people and tests to look at, and the report receiver.

* ``GET /messages`` (``?id=``, ``?recipient=``), ``GET /messages/{n}`` (as it came),
  ``DELETE /messages``
* ``GET /copies`` (``?min=``): how often each id was accepted; ``?id=``: each copy of one, with its
  time, recipients, digest and connection
* ``GET /reports`` (``?id=``): the reports taken, events that were told of more than once;
  ``DELETE /reports``
* ``GET /files/...``, and ``POST`` of ``{"storage_path": ...}`` on any path: an attachment; ``GET
  /fetches`` (``?file=``): which were asked for
* ``POST /token``: a token (OAuth 2.0)
* ``GET /stats``, ``GET /certificate``; ``DELETE /held`` closes the connections left unanswered
* ``POST`` of anything else on any path is a report
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from email.header import decode_header, make_header
from functools import partial
from typing import Any

import msgspec
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from mailproxy.proving.house import House
from mailproxy.proving.ledger import Copy, header
from mailproxy.proving.receiver import NotAReport, Receiver

#: Octets in a request's body.
MAX_BODY = 64 << 20

#: Where tokens are given out.
TOKENS = b"/token"

#: Octets in a call for an attachment; calls that are remembered.
MAX_CALL, MAX_FETCHES = 1 << 16, 10_000

_log = Logger()


class LimitedRequest(Request):
    """A request whose body is refused as soon as it is known to be too long."""

    channel: Any
    content: Any

    def __init__(self, *args: Any, max_body: int = MAX_BODY, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_body = max_body
        self._received = 0
        self._refused = False

    def gotLength(self, length: int | None) -> None:
        if length is not None and length > self._max_body:
            self._refuse()
        super().gotLength(0 if self._refused else length)

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._max_body and not self._refused:
            self._refuse()
        if not self._refused:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if not self._refused:
            super().requestReceived(command, path, version)

    def _refuse(self) -> None:
        self._refused = True
        self.channel.transport.write(
            b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        self.channel.loseConnection()


class Front(Resource):
    """
    Answers every request of the sink's HTTP port.

    :param house: what came in by SMTP.
    :param receiver: takes the reports.
    :param certificate: PEM; empty if there is none.
    """

    isLeaf = True

    def __init__(self, house: House, receiver: Receiver, certificate: str = "") -> None:
        super().__init__()
        self._house = house
        self._ledger = house.ledger
        self._receiver = receiver
        self._certificate = certificate
        self._tokens = self._fetches = 0
        self._fetched: deque[dict[str, Any]] = deque(maxlen=MAX_FETCHES)

    def render_POST(self, request: LimitedRequest) -> Any:
        """A call for a token, for an attachment, or, on any other path, a report."""
        body = request.content.read()
        if request.path == TOKENS:
            return self.token(request)
        name = _wanted(body)
        if name is not None:
            return self.attachment(request, name)
        path = request.path.decode("utf-8", "replace")
        self._receiver.began(path)
        request.notifyFinish().addBoth(lambda _: self._receiver.ended(path))
        return self.report(request, body)

    def report(self, request: Any, body: bytes) -> Any:
        """Take a report, whatever the path."""
        receiver = self._receiver
        if not receiver.credentials.admit(request.getHeader("authorization") or ""):
            receiver.unauthorised += 1
            request.setHeader("www-authenticate", 'Basic realm="reports"')
            return _answer(request, {"ok": False, "error": "who are you?"}, 401)
        path = request.path.decode("utf-8", "replace")
        try:
            return _answer(request, receiver.take(path, body))
        except NotAReport as error:
            return _answer(request, {"ok": False, "error": f"not a report: {error}"}, 400)
        except OSError as error:
            _log.error("a report could not be written down: {error}", error=error)
            return _answer(request, {"ok": False, "error": "cannot keep the report"}, 503)

    def attachment(self, request: Any, name: str) -> Any:
        """Give the file *name* out: any there may be, each with contents of its own."""
        self.note_fetch(request, name, "200")
        return self.file(name)

    def token(self, request: Any) -> Any:
        """Give a token out (RFC 6749, section 5.1), a new one each time."""
        request.setHeader("content-type", "application/json")
        return self.new_token()

    def file(self, name: str) -> bytes:
        """The contents of the file *name*."""
        return f"The file {name}.\n".encode()

    def new_token(self) -> bytes:
        self._tokens += 1
        token = f"token-{self._tokens}"
        return msgspec.json.encode(
            {"access_token": token, "token_type": "Bearer", "expires_in": 3600}
        )

    def note_fetch(self, request: Any, name: str, told: str) -> None:
        """Write down that the file *name* was asked for, and what was answered."""
        self._fetches += 1
        scheme = (request.getHeader("authorization") or "").partition(" ")[0]
        self._fetched.append(
            {
                "n": self._fetches,
                "time": self._house.clock.now(),
                "method": request.method.decode("ascii", "replace"),
                "path": request.path.decode("utf-8", "replace"),
                "file": name,
                "authorization": scheme,
                "answer": told,
            }
        )

    def render_GET(self, request: Request) -> Any:
        match request.path.decode("utf-8", "replace").strip("/").split("/"):
            case ["messages"]:
                return self._messages(request)
            case ["messages", number] if number.isascii() and number.isdigit():
                return self._message(request, int(number))
            case ["copies"]:
                return self._copies(request)
            case ["reports"]:
                calls = self._receiver.kept(_query(request, b"id"))
                counts, repeats = self._receiver.counts(), self._receiver.repeats()
                return _answer(request, {**counts, "repeats": repeats, "reports": calls})
            case ["files", *words] if words:
                return self.attachment(request, "/".join(words))
            case ["fetches"]:
                fetches = [
                    each for each in self._fetched if _query(request, b"file") in each["file"]
                ]
                return _answer(request, {"fetches": self._fetches, "kept": fetches})
            case ["stats"]:
                return _answer(request, self._stats())
            case ["certificate"] if self._certificate:
                request.setHeader("content-type", "application/x-pem-file")
                return self._certificate.encode()
        return _answer(request, {"ok": False, "error": "Not Found"}, 404)

    def close_all(self) -> None:
        """Break off every answer that is still to come; none is, as things are."""

    def render_DELETE(self, request: Request) -> bytes:
        acts = {
            b"/messages": self._ledger.forget,
            b"/reports": self._receiver.forget,
            b"/held": self._house.close_unanswered,
        }
        act = acts.get(request.path)
        if act is None:
            return _answer(request, {"ok": False, "error": "Not Found"}, 404)
        return _answer(request, {"ok": True, "removed": act()})

    def _messages(self, request: Request) -> bytes:
        found = self._ledger.messages(_query(request, b"id"), _query(request, b"recipient"))
        messages = [summary(copy, body) for copy, body in found]
        return _answer(request, {"accepted": self._ledger.accepted, "messages": messages})

    def _message(self, request: Request, number: int) -> bytes:
        found = self._ledger.message(number)
        if found is None:
            return _answer(request, {"ok": False, "error": "Not Found"}, 404)
        # Never shown as a page: what is in the message came from anywhere.
        request.setHeader("content-type", "message/rfc822")
        request.setHeader("x-content-type-options", "nosniff")
        request.setHeader("content-disposition", f'attachment; filename="{number}.eml"')
        return found[1]

    def _copies(self, request: Request) -> bytes:
        mail_id = _query(request, b"id")
        if mail_id:
            kept = [copy.n for copy, _ in self._ledger.messages(mail_id)]
            all_ = self._ledger.facts(mail_id)
            count = max(self._ledger.copies(mail_id), len(all_))
            return _answer(request, {"id": mail_id, "copies": count, "messages": kept, "all": all_})
        least = _query(request, b"min")
        copies = self._ledger.all_copies(int(least) if least.isdigit() else 1)
        return _answer(request, {"copies": copies})

    def _stats(self) -> dict[str, Any]:
        ledger, counts = self._ledger, self._house.counts
        return {
            "accepted": ledger.accepted,
            "recipients": ledger.recipients,
            "bytes": ledger.bytes,
            "kept": ledger.kept,
            "connections": counts.connections,
            "open": counts.open,
            "tls": counts.tls,
            "logins": counts.logins,
            "refused": {str(code): n for code, n in sorted(counts.refused.items())},
            "unanswered": counts.unanswered,
            "protocol_errors": counts.protocol_errors,
            "reports": self._receiver.counts(),
        }


def site(front: Front, reactor: Any, max_body: int = MAX_BODY) -> Site:
    """
    The HTTP server for *front*; requests are not logged.

    :param reactor: keeps the time-outs of its connections.
    :param max_body: octets in a request's body.
    """
    requests = partial(LimitedRequest, max_body=max_body)
    made = Site(front, requestFactory=requests, reactor=reactor)
    made.noisy = False
    made.log = lambda request: None  # type: ignore[method-assign]  # no access log
    return made


def summary(copy: Copy, body: bytes) -> dict[str, Any]:
    """*copy* for people: with its subject, decoded."""
    subject = header(body.partition(b"\r\n\r\n")[0], b"subject")
    with suppress(ValueError, LookupError):  # not RFC 2047: shown as it came
        subject = str(make_header(decode_header(subject)))
    return {**msgspec.structs.asdict(copy), "subject": subject}


def _wanted(body: bytes) -> str | None:
    """The file that a call for an attachment is about; None: it is no such call."""
    if len(body) > MAX_CALL or b'"storage_path"' not in body:
        return None
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    name = found.get("storage_path") if isinstance(found, dict) else None
    return name if isinstance(name, str) and "delivery_report" not in found else None


def _query(request: Request, name: bytes) -> str:
    values: list[bytes] = request.args.get(name, [])
    return values[0].decode("utf-8", "replace") if values else ""


def _answer(request: Request, content: Any, status: int = 200) -> bytes:
    request.setResponseCode(status)
    request.setHeader("content-type", "application/json")
    return msgspec.json.encode(content) + b"\n"
