"""Calls: JSON in, JSON or a typed result out, for one tenant if the client is bound to one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from mailproxy.client.errors import BadAnswer
from mailproxy.client.transport import Transport

T = TypeVar("T")

JSON = "application/json"

#: Entries that are asked for at once where many may come.
PAGE = 500

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Caller(Transport):
    """
    Makes calls; see :class:`Transport` for the parameters.

    :param tenant_id: whose mail is meant; goes with every call that is not about another tenant.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        tenant_id: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(url, token, **options)
        self.tenant_id = tenant_id

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] = _NOTHING,
        json: Any = None,
        *,
        content: bytes | None = None,
        content_type: str = JSON,
        headers: Mapping[str, str] = _NOTHING,
        repeatable: bool | None = None,
    ) -> dict[str, Any]:
        """
        Call any endpoint.

        :param path: ``/status``; what is variable in it has to be quoted, see :func:`join`.
        :param query: by name: texts, numbers, booleans, lists of these; None is left out. A
            ``tenant_id`` in it, also None, is used in place of the client's own.
        :param json: the body, as JSON; None: there is none.
        :param content: the body as it is, of *content_type*, in place of *json*.
        :param repeatable: whether the call comes to the same when it is made twice. As usual,
            GET and PUT do.
        :return: the object that was answered.
        :raises ClientError: it was not granted; which one says why.
        """
        body = content if json is None else msgspec.json.encode(json)
        fields = dict(headers)
        if body is not None:
            fields["Content-Type"] = content_type
        raw = self.exchange(
            method,
            path,
            query=self._query(query),
            body=body,
            headers=fields,
            repeatable=method in ("GET", "PUT") if repeatable is None else repeatable,
        )
        return _decoded(raw)

    def ask(self, type: type[T], method: str, path: str, *args: Any, **options: Any) -> T:
        """:meth:`call`, and its answer as *type*. :raises BadAnswer: it is none."""
        return convert(self.call(method, path, *args, **options), type)

    def entries(self, type: type[T], path: str, name: str, **query: Any) -> list[T]:
        """The list *name* of what GET *path* answers."""
        return self._entries(self.call("GET", path, query), name, type)

    def paged(
        self, type: type[T], path: str, name: str, limit: int | None, **query: Any
    ) -> Iterator[T]:
        """The entries of a list that comes in pages; at most *limit* of them, None: all."""
        left = limit
        while left is None or left > 0:
            query["limit"] = PAGE if left is None else min(PAGE, left)
            answer = self.call("GET", path, query)
            found = self._entries(answer, name, type)
            yield from found
            if not answer.get("next"):
                return
            query["cursor"] = answer["next"]
            left = None if left is None else left - len(found)

    def _query(self, query: Mapping[str, Any]) -> dict[str, Any]:
        given = {"tenant_id": self.tenant_id, **query}
        return {name: _text(value) for name, value in given.items() if value is not None}

    def _entries(self, answer: Mapping[str, Any], name: str, type: type[T]) -> list[T]:
        """The list *name* of *answer*, each entry as *type*."""
        if name not in answer:
            raise BadAnswer(f"the answer has no {name}")
        return [convert(each, type) for each in convert(answer[name], list[Any])]


def convert(value: Any, type: type[T]) -> T:
    """A part of an answer as *type*. :raises BadAnswer: it is none."""
    return _judged(lambda: msgspec.convert(value, type))


def join(*parts: str) -> str:
    """
    A path of *parts*: the first as it is, further ones quoted as one segment each.

    :raises ValueError: one cannot be a segment: it is empty, ``.`` or ``..``.
    """
    first, *others = parts
    for each in others:
        if each in ("", ".", ".."):
            raise ValueError(f"{each!r} cannot be part of a path")
    return "/".join([first, *(quote(each, safe="") for each in others)])


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return [_text(each) for each in value]
    return str(value)


def _decoded(raw: bytes) -> dict[str, Any]:
    return _judged(lambda: msgspec.json.decode(raw, type=dict[str, Any]))


def _judged(read: Callable[[], T]) -> T:
    try:
        return read()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadAnswer(f"not the answer of a mailproxy: {error}") from None
