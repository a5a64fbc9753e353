"""
HTTP as the client speaks it: one request, repeated where that is safe, and one answer or one error.

What is *repeatable* is for the caller to say: whatever comes to the same when it is done twice.
"""

from __future__ import annotations

import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import urlsplit

import attrs
import msgspec
import requests
from requests.auth import AuthBase

from mailproxy import __version__
from mailproxy.client.errors import (
    BadAnswer,
    ClientError,
    Conflict,
    Forbidden,
    NotFound,
    Refused,
    ServerFault,
    Unauthorized,
    Unavailable,
    Untrusted,
)

#: Seconds to connect, and seconds for each piece of the answer: add-messages of 10 000 takes some.
DEFAULT_TIMEOUT = (5.0, 60.0)

#: Answers that say *not now*: the service's own 503 and 408, and those of what stands in between.
NOT_NOW = frozenset((408, 429, 502, 503, 504))

#: Of these nobody knows whether the service did what was asked; its own 503 says that it did not.
_LOST = frozenset((502, 504))

#: Characters of a foreign answer that are quoted.
_QUOTED = 200

_BY_STATUS: Mapping[int, type[ClientError]] = MappingProxyType(
    {401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict}
)

_visible = re.compile("[!-~]+").fullmatch

Timeout = float | tuple[float, float]


@attrs.frozen
class Retry:
    """
    How often and after what time a repeatable call is repeated.

    :param attempts: in all, at least 1.
    :param first: seconds before the second one; doubled for each further one, less up to a half
        by chance, so that many clients do not come back at once.
    :param longest: most seconds between two. A service that asks for more is not waited for.
    """

    attempts: int = attrs.field(default=5, validator=attrs.validators.ge(1))
    first: float = 0.5
    longest: float = 30.0

    def delay(self, made: int, asked: float | None, chance: float) -> float | None:
        """
        Seconds to wait before the next attempt; None: there is none.

        :param made: attempts so far, from 1.
        :param asked: seconds that the service asked for.
        :param chance: 0 to 1.
        """
        if made >= self.attempts:
            return None
        if asked is not None:
            return asked if asked <= self.longest else None
        return min(self.first * 2.0 ** (made - 1), self.longest) * (1.0 - chance / 2)


class _Token(AuthBase):
    """Adds the token to a request, and shows it nowhere else."""

    def __init__(self, token: str | None) -> None:
        self.__token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.__token:
            request.headers["X-API-Token"] = self.__token
        return request

    def __repr__(self) -> str:
        return "<token>"


class Transport:
    """
    The connections to one service. May be used as a context, at whose end they are closed.

    Proxies and passwords that the environment has for the world outside are not used, nor are
    redirections followed: the token goes to *url* only.

    :param url: ``http://host:port``, with the path prefix of a reverse proxy if there is one.
    :param token: the admin's, or a tenant's key; None or empty: none is sent.
    :param timeout: seconds to connect and for each piece of the answer, together or as a pair.
    :param session: for other certificates, adapters or proxies; it is used as it is. Default: a
        new one.
    :param sleep: waits some seconds.
    :raises ValueError: *url* or *token* cannot be one.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: Timeout = DEFAULT_TIMEOUT,
        retry: Retry | None = None,
        session: requests.Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = _checked_url(url)
        if token and not _visible(token):
            raise ValueError("the token has characters other than visible ASCII")
        self._auth = _Token(token)
        self._timeout = timeout
        self._retry = retry or Retry()
        self._session = session or _session()
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    def close(self) -> None:
        """Close its connections; a further call opens new ones."""
        self._session.close()

    def exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] = MappingProxyType({}),
        body: bytes | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        repeatable: bool = False,
    ) -> bytes:
        """
        Make a request, and return the content of its 2xx answer.

        :param path: begins with a slash; what is variable in it is quoted.
        :param query: parameters by name: texts, or lists of texts.
        :param repeatable: whether it may be made again when it is not known to be done.
        :raises ClientError: it was not granted.
        """
        made = 0
        while True:
            made += 1
            result = self._attempt(method, path, query, body, headers)
            if isinstance(result, bytes):
                return result
            if not repeatable or not isinstance(result, Unavailable):
                raise result
            delay = self._retry.delay(made, result.retry_after, random.random())
            if delay is None:
                raise result
            self._sleep(delay)

    def _attempt(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> bytes | ClientError:
        """An error is a value here: raised from outside, it drags no frame with the token along."""
        try:
            response = self._session.request(
                method,
                self.url + path,
                params=dict(query),
                data=body,
                headers=dict(headers),
                auth=self._auth,
                timeout=self._timeout,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            return _unanswered(self.url, error)
        if 200 <= response.status_code < 300:
            return response.content
        return _refusal(response)


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.headers["User-Agent"] = f"mailproxy-client/{__version__}"
    return session


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http or https URL with a host")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("the URL has a user, a query or a fragment")
    return url.rstrip("/")


def _unanswered(url: str, error: requests.RequestException) -> ClientError:
    """The error for a request that has no whole answer."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Untrusted(f"{url}: {cause.verify_message}")
    if isinstance(error, requests.Timeout):
        reason = "no answer in time"
    else:
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    connected = not isinstance(cause, ConnectionRefusedError | socket.gaierror)
    uncertain = connected and not isinstance(error, requests.ConnectTimeout)
    return Unavailable(f"{url}: {' '.join(reason.split())}", uncertain=uncertain)


def _cause(error: BaseException) -> BaseException:
    """What is at the bottom of *error*."""
    while True:
        deeper = error.__cause__ or error.__context__
        if deeper is None:
            return error
        error = deeper


def _refusal(response: requests.Response) -> ClientError:
    """The error that an answer other than 2xx stands for."""
    status = response.status_code
    try:
        told = msgspec.json.decode(response.content, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        told = None
    if told is None or status < 400:
        return _foreign(response)
    reason = str(told.get("error") or response.reason or "no reason given")
    detail = told.get("detail")
    if status in NOT_NOW:
        return Unavailable(reason, status, detail, retry_after=_retry_after(response))
    if status in _BY_STATUS:
        return _BY_STATUS[status](reason, status, detail)
    return (Refused if status < 500 else ServerFault)(reason, status, detail)


def _foreign(response: requests.Response) -> ClientError:
    """The error for an answer that the service itself did not give."""
    status = response.status_code
    if status in NOT_NOW:
        return Unavailable(
            str(response.reason or "not now"),
            status,
            uncertain=status in _LOST,
            retry_after=_retry_after(response),
        )
    said = " ".join(response.content[:_QUOTED].decode("ascii", "replace").split())
    return BadAnswer(f"not the answer of a mailproxy: {said}", status)


def _retry_after(response: requests.Response) -> float | None:
    """The seconds in the answer's Retry-After; None for none, and for a date."""
    text = response.headers.get("Retry-After", "")
    return float(text) if re.fullmatch("[0-9]{1,9}", text) else None
