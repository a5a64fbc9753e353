"""
Access tokens for accounts that log in with one: fetched from the account's authorization server
(OAuth 2.0, RFC 6749, sections 4.4 and 6), and kept until shortly before they expire.

Whoever may declare an account names the server, so it is called like any URL a client names: over
TLS that verifies, at public addresses unless the operator allows others, without redirects, and
only so much of its answer is read. Why no token could be had is told as an
:class:`~mailproxy.errors.AccountFault` of the phase *auth*; no text made here holds a secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable
from typing import Any, Protocol
from urllib.parse import urlencode

import attrs
import msgspec
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailproxy.delivery.attachments.exchange import Answer, Exchanges, Request
from mailproxy.delivery.attachments.guard import Guard
from mailproxy.delivery.attachments.source import Spool, Trouble
from mailproxy.delivery.auth import HIDDEN
from mailproxy.delivery.replies import readable
from mailproxy.errors import AccountFault, StoreError
from mailproxy.logins import CLIENT_CREDENTIALS, REFRESH_TOKEN, Auth, Secrets, auth_of, secrets_of
from mailproxy.model import Account
from mailproxy.states import Phase
from mailproxy.urls import parse

_log = Logger()

#: Seconds from the call to the whole answer.
DEADLINE = 30.0

#: Bytes of an answer's body.
MOST = 65536

#: Seconds a token is taken to be valid for if nothing is said, and at most whatever is said.
UNSAID, LONGEST = 300.0, 86_400.0

#: Seconds before it expires from which a token is not used any more, but half its life at most.
MARGIN = 60.0

#: Characters of a token; as a line of AUTH it must not pass RFC 4954's limit.
MOST_TOKEN = 8192

#: Seconds after which another node has stored what it was given before we were refused.
SETTLING = 2.0

#: Statuses that a refused grant is answered with (RFC 6749, section 5.2).
REFUSALS = (400, 401)

_token = re.compile(r"[\x21-\x7e]+").fullmatch
_HEADERS = {
    b"User-Agent": b"mailproxy",
    b"Accept": b"application/json",
    b"Accept-Encoding": b"identity",
    b"Content-Type": b"application/x-www-form-urlencoded",
}


class Refused(Trouble):
    """The authorization server does not take what it was shown."""


class Stored(Protocol):
    """The part of the store that is needed here."""

    def account(self, pk: int) -> Awaitable[Account | None]: ...  # pragma: no cover - a type

    def renew_secret(
        self, pk: int, version: int, used: str, secret: str
    ) -> Awaitable[bool]: ...  # pragma: no cover - a type


@attrs.define(eq=False)
class _Entry:
    """
    The token of one version of an account.

    :ivar until: monotonic seconds until when it is used.
    :ivar waiting: those who wait for the fetch that is under way; None: there is none.
    """

    version: int
    token: str = attrs.field(default="", repr=False)
    until: float = -math.inf
    waiting: list[Deferred[str]] | None = None


class Tokens:
    """
    :param exchanges: makes the calls.
    :param guard: judges the addresses that are called.
    :param store: where secrets are read afresh, and kept when the server renews them.
    :param deadline: seconds for one call as a whole.
    """

    def __init__(
        self,
        exchanges: Exchanges,
        guard: Guard,
        store: Stored,
        clock: IReactorTime,
        *,
        deadline: float = DEADLINE,
    ) -> None:
        self._exchanges = exchanges
        self._guard = guard
        self._store = store
        self._clock = clock
        self._deadline = deadline
        self._entries: dict[int, _Entry] = {}
        self._calls: set[Deferred[Any]] = set()

    def token(self, account: Account, refused: str = "") -> Deferred[str]:
        """
        A token of *account*; there is never more than one call for it at a time.

        Cancelling the Deferred leaves a call that is under way to the others who wait for it.

        :param refused: a token that the upstream did not take, so that it is not given again.
        :raises AccountFault: (by the Deferred) there is none to be had.
        """
        entry = self._entry(account)
        fresh = entry.token not in ("", refused) and self._clock.seconds() < entry.until
        if entry.waiting is None and fresh:
            return succeed(entry.token)
        waiting: Deferred[str] = Deferred()
        if entry.waiting is not None:
            entry.waiting.append(waiting)
            return waiting
        entry.waiting = [waiting]
        call = Deferred.fromCoroutine(self._fetch(account, entry))
        self._calls.add(call)
        late = self._clock.callLater(self._deadline, call.cancel)

        def over(result: Any) -> None:
            self._calls.discard(call)
            if late.active():
                late.cancel()
            told, entry.waiting = entry.waiting or [], None
            for each in told:
                if not each.called:
                    each.callback(result if not isinstance(result, Failure) else _again(result))

        call.addBoth(over)
        return waiting

    def close(self) -> None:
        """Break off what is under way."""
        for call in tuple(self._calls):
            call.cancel()

    def _entry(self, account: Account) -> _Entry:
        entry = self._entries.get(account.pk)
        if entry is None or entry.version < account.version:
            now = self._clock.seconds()
            for pk, each in tuple(self._entries.items()):
                if each.waiting is None and each.until <= now:
                    del self._entries[pk]  # accounts come and go
            entry = self._entries[account.pk] = _Entry(account.version)
        elif entry.version > account.version:
            return _Entry(account.version)
        return entry

    async def _fetch(self, account: Account, entry: _Entry) -> str:
        auth, secrets = auth_of(account.options), Secrets()
        began = self._clock.seconds()
        try:
            used = await self._secret(account)
            secrets = secrets_of(used)
            try:
                content = await self._call(auth, secrets)
            except Refused:
                if (other := await self._renewed_elsewhere(account, auth, used)) is None:
                    raise
                used, secrets = other, secrets_of(other)
                content = await self._call(auth, secrets)
            token = self._taken(content)
            seconds = _seconds(content.get("expires_in"))
            await self._keep(account, used or "", content.get("refresh_token"))
        except (CancelledError, Trouble) as error:
            if isinstance(error, CancelledError) or self._clock.seconds() - began >= self._deadline:
                raise _fault(f"no answer within {self._deadline:g} s") from None
            raise _fault(_discreet(error.problem, secrets)) from None
        entry.token = token
        entry.until = self._clock.seconds() + seconds - min(MARGIN, seconds / 2)
        return token

    async def _secret(self, account: Account) -> str | None:
        """It may have been renewed since *account* was read."""
        try:
            stored = await self._store.account(account.pk)
        except StoreError:
            stored = None
        if stored is None or stored.version != account.version:
            return account.password
        return stored.password

    async def _renewed_elsewhere(
        self, account: Account, auth: Auth, used: str | None
    ) -> str | None:
        """
        What another node had put in the place of a secret before it was refused to us.

        Whoever used it first has its answer before us, but may have not stored it yet.

        :return: None: nothing.
        """
        if auth.grant != REFRESH_TOKEN:
            return None
        secret = await self._secret(account)
        if secret == used:
            await deferLater(self._clock, SETTLING)
            secret = await self._secret(account)
        return None if secret == used else secret

    async def _call(self, auth: Auth, secrets: Secrets) -> dict[str, Any]:
        if not auth.token_url or not (secrets.client_secret or secrets.valid_token):
            raise Trouble("the account's secrets have to be given again", transient=False)
        body = urlencode(_form(auth, secrets)).encode()
        request = Request(parse(auth.token_url), _HEADERS, self._guard, body, refusals=True)
        spool = Spool(MOST)
        try:
            answer = await self._exchanges.run(request, spool)
            return _read(answer, spool.read())
        finally:
            spool.close()

    def _taken(self, content: dict[str, Any]) -> str:
        token, kind = content.get("access_token"), content.get("token_type", "Bearer")
        if not isinstance(token, str) or len(token) > MOST_TOKEN or not _token(token):
            raise Trouble("its answer has no token in it", transient=True)
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise Trouble("its token is of a kind that cannot be used", transient=True)
        return token

    async def _keep(self, account: Account, used: str, renewed: Any) -> None:
        """
        Keep the refresh token that came in the other's place (RFC 6749, section 6).

        Where another node has kept one for the same place, that one is used from now on.
        """
        secrets = secrets_of(used)
        if not isinstance(renewed, str) or not 0 < len(renewed) <= MOST_TOKEN:
            return
        if not secrets.refresh_token or renewed == secrets.valid_token:
            return
        dumped = attrs.evolve(secrets, renewed=renewed).dump()
        try:
            await self._store.renew_secret(account.pk, account.version, used, dumped)
        except StoreError as error:
            _log.error(
                "the refresh token of {tenant}/{id} was renewed and could not be stored: {error}",
                tenant=account.tenant_id,
                id=account.id,
                error=error,
            )


def _form(auth: Auth, secrets: Secrets) -> dict[str, str]:
    """The parameters of the request (RFC 6749, sections 2.3.1, 4.4.2 and 6)."""
    fields = {"grant_type": auth.grant, "client_id": auth.client_id}
    if secrets.client_secret:
        fields["client_secret"] = secrets.client_secret
    if auth.grant != CLIENT_CREDENTIALS:
        fields["refresh_token"] = secrets.valid_token
    if auth.scope:
        fields["scope"] = auth.scope
    return fields


def _read(answer: Answer, body: bytes) -> dict[str, Any]:
    """
    :raises Trouble: it is a refusal, or nothing that can be read.
    """
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        content = None
    if 200 <= answer.status < 300:
        if isinstance(content, dict):
            return content
        raise Trouble("its answer is no JSON object", transient=True)
    said = [str(answer.status)]
    if isinstance(content, dict):
        parts = (content.get("error"), content.get("error_description"))
        said += [part[:200] for part in parts if isinstance(part, str)]
    kind = Refused if answer.status in REFUSALS else Trouble
    raise kind(
        f"it answered {readable(': '.join(said).encode('utf-8', 'replace'))}", transient=True
    )


def _seconds(said: Any) -> float:
    try:
        seconds = float(said)
    except (TypeError, ValueError):
        return UNSAID
    return min(seconds, LONGEST) if seconds > 0 else UNSAID


def _discreet(text: str, secrets: Secrets) -> str:
    for secret in (secrets.client_secret, secrets.refresh_token, secrets.renewed):
        if secret:
            text = text.replace(secret, HIDDEN)
    return text


def _fault(why: str) -> AccountFault:
    return AccountFault(Phase.AUTH, f"no token from the authorization server: {why}")


def _again(failure: Failure) -> Failure:
    """An error of its own for each who waits: none shall hold on to another's frames."""
    error = failure.value
    if isinstance(error, AccountFault):
        return Failure(AccountFault(error.phase, error.reason, error.code))
    _log.failure("fetching a token raised", failure)
    return Failure(_fault("an internal error; see the log"))
