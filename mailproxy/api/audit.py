"""
The command log is written here: one line for each call that changed something.

What a line tells of the request is chosen by name: values that are known to be harmless, a mask for
what is known to be a secret, the number of entries of a list. What is not known by name is left
out, its name too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from twisted.logger import Logger

from mailproxy.api.call import Call, Route
from mailproxy.api.tenant_fields import MASK
from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock
from mailproxy.interfaces_tenants import ITenants
from mailproxy.tenancy import CommandEntry

#: What changes nothing, or is told elsewhere: each message has a timeline of its own.
UNLOGGED = frozenset(
    (
        "/commands/add-messages",
        "/console/session",
        "/commands/run-now",
        "/v1/messages/raw",
        "/v1/explain",
        "/v1/tenants/<tenant_id>/test-sync",
        "/v1/accounts/<path:id>/test",
    )
)

#: A longer text is cut.
LONGEST = 200

_SECRET = frozenset(("password", "token", "signing_secret", "client_auth", "private_key"))

_SHOWN = frozenset(
    (
        *("id", "tenant_id", "name", "active", "label", "scopes", "networks", "test"),
        *("expires_at", "ttl", "host", "port", "user", "use_tls", "tls_mode", "timeout"),
        *("allow_plaintext_auth", "max_sessions", "batch_size", "batch_code", "is_default"),
        *("on_uncertain", "retry_delays", "max_age_seconds", "limit_behavior"),
        *("fallback", "weights"),
        *("limit_per_minute", "limit_per_hour", "limit_per_day", "rate_limits", "hourly", "daily"),
        *("retention_seconds", "older_than_seconds", "suppress_refused", "large_file_config"),
        *("bounces", "from_address"),
        *("enabled", "max_size_mb", "action", "file_ttl_days", "domain", "prefix", "since"),
        *("selector", "algorithm"),
        *("address", "client_sync_path", "client_attachment_path", "end", "code", "singly"),
    )
)

#: Lists that are told by how long they are.
_COUNTED = frozenset(("ids", "addresses", "entries"))

#: Told as being there: what stands in a URL may be a secret.
_PRESENT = frozenset(
    ("client_base_url", "client_sync_url", "client_attachment_url", "ca_pem", "reason")
)

_variable = re.compile(r"<(?:\w+:)?(\w+)>").sub

_log = Logger()


class Audit:
    """Writes the command log."""

    def __init__(self, store: ITenants, clock: IClock) -> None:
        self._store = store
        self._clock = clock

    async def note(self, route: Route, call: Call) -> None:
        """The *call* was a success. It stays one whatever becomes of its line."""
        if route.method == "GET" or route.path in UNLOGGED:
            return
        command, who = f"{route.method} {_pattern(route.path)}", call.caller.who
        try:
            await self._write(call, command, who)
        except StoreError as error:
            _log.error(
                "{command} by {who} is missing in the command log: {error}",
                command=command,
                who=who,
                error=str(error),
            )
        except Exception:
            _log.failure(
                "{command} by {who} is missing in the command log", command=command, who=who
            )

    async def _write(self, call: Call, command: str, who: str) -> None:
        values = _values(call)
        await self._store.log_command(
            CommandEntry(
                at=self._clock.now(),
                tenant_id=_tenant(call, values),
                command=command,
                who=who,
                detail=msgspec.json.encode(_masked(values)).decode(),
            )
        )


def _pattern(path: str) -> str:
    """A route's path as people write it: ``/account/{id}``."""
    return _variable(r"{\1}", path)


def _tenant(call: Call, values: Mapping[str, Any]) -> str | None:
    """The tenant it was about, as far as the call says one."""
    named = call.caller.tenant_id or values.get("tenant_id")
    if named is None and call.request.path == b"/tenant":
        named = values.get("id")
    return named if isinstance(named, str) else None


def _body(given: bytes) -> Mapping[str, Any]:
    if not given:
        return {}
    try:
        value = msgspec.json.decode(given)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _values(call: Call) -> dict[str, Any]:
    """All that the call says by a name: in the query, in the body, in the path."""
    query = {
        name.decode(): values[-1].decode("utf-8", "replace")
        for name, values in (call.request.args or {}).items()
        if name.isascii()
    }
    return {**query, **_body(call.given), **call.path}


def _masked(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in _SECRET:
            found[name] = value if value is None else MASK
        elif name in _PRESENT:
            found[name] = value if value is None else "given"
        elif name in _COUNTED:
            found[name] = len(value) if isinstance(value, list) else 1
        elif name in _SHOWN:
            found[name] = _brief(value)
    return found


def _brief(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{value[:LONGEST]}..."
    if isinstance(value, list):
        return [_brief(each) for each in value[:20]]
    return _masked(value) if isinstance(value, dict) else value
