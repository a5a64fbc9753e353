"""
A scenario: how a sink shall behave, read from a TOML file.

``docs/sink.md`` describes every key. A scenario is a value; what a run remembers of it is in
:class:`mailproxy.proving.rules.Rules`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import attrs

from mailproxy.proving.acts import CERTIFICATES, Act, HttpAct
from mailproxy.proving.house import Terms
from mailproxy.proving.rules import Rule
from mailproxy.proving.scenario_fields import BadScenario as BadScenario
from mailproxy.proving.scenario_fields import Source, Table
from mailproxy.proving.scenario_rules import http_rule, smtp_rule

#: Octets of a scenario file; tables of one kind in it.
MOST_TEXT, MOST_RULES = 1 << 20, 1000

#: TLS versions that can be the only one, as they are written.
TLS_VERSIONS = ("1.0", "1.1", "1.2", "1.3")

#: What a name may lead to instead of addresses.
NAME_FAULTS = ("nxdomain", "servfail", "timeout", "empty")


@attrs.frozen
class Server:
    """
    What the SMTP server offers, where the scenario says so; None: as the sink was started.

    :param auth: mechanisms; with none, those of the sink, if it has a user.
    :param certificate: one of :data:`mailproxy.proving.acts.CERTIFICATES`.
    :param tls: the only TLS version, one of :data:`TLS_VERSIONS`; empty: any that is safe.
    :param refuse_for: seconds after the start for which connections are refused.
    """

    host: str | None = None
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    starttls: bool | None = None
    require_tls: bool | None = None
    max_size: int | None = None
    max_recipients: int | None = None
    close_after: int | None = None
    hold: float | None = None
    timeout: float | None = None
    auth: tuple[str, ...] = ()
    certificate: str = "good"
    tls: str = ""
    refuse_for: float = 0.0

    def over(self, terms: Terms) -> Terms:
        """*terms*, with what is said here in place of what they say."""
        names = (
            *("host", "user", "password", "require_tls", "max_size", "max_recipients"),
            *("close_after", "hold", "timeout"),
        )
        said = {name: getattr(self, name) for name in names}
        return attrs.evolve(terms, **{k: value for k, value in said.items() if value is not None})


@attrs.frozen
class Scenario:
    """
    :param faults: the rows of the fault table it is about.
    :param seed: of its dice; None: the sink's.
    :param names: host names, each with its addresses or one of :data:`NAME_FAULTS`. For the
        resolver of what is tried; the sink itself does not answer DNS.
    :param rules: of the SMTP server.
    :param reports: of the report receiver.
    :param attachments: of the attachment endpoint.
    :param tokens: of the endpoint that gives tokens out.
    """

    title: str
    faults: tuple[str, ...] = ()
    seed: int | None = None
    server: Server = Server()
    names: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    rules: tuple[Rule[Act], ...] = ()
    reports: tuple[Rule[HttpAct], ...] = ()
    attachments: tuple[Rule[HttpAct], ...] = ()
    tokens: tuple[Rule[HttpAct], ...] = ()

    @classmethod
    def parse(cls, text: str, name: str = "scenario") -> Scenario:
        """
        :param text: TOML.
        :param name: what it is called in messages.
        :raises BadScenario: with the line and the key.
        """
        if len(text) > MOST_TEXT:
            raise BadScenario(name, f"longer than {MOST_TEXT} characters")
        try:
            fields = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise BadScenario(name, f"not TOML: {error}") from None
        return _scenario(fields, Source(name, text))

    @classmethod
    def load(cls, path: str | Path) -> Scenario:
        """
        Read the file *path*.

        :raises BadScenario: it cannot be read, or is not a scenario.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadScenario(str(path), f"cannot be read: {error}") from None
        return cls.parse(text, str(path))

    @classmethod
    def shipped(cls, name: str) -> Scenario:
        """The scenario of that name which comes with the program. :raises BadScenario: none."""
        if name not in shipped_names():
            raise BadScenario(name, "no file, and not the name of a shipped scenario")
        file = resources.files("mailproxy.proving") / "scenarios" / f"{name}.toml"
        return cls.parse(file.read_text(encoding="utf-8"), f"{name}.toml")


def shipped_names() -> list[str]:
    """The names of the scenarios that come with the program."""
    folder = resources.files("mailproxy.proving") / "scenarios"
    if not folder.is_dir():
        return []
    names = (each.name for each in folder.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def find(name: str) -> Scenario:
    """
    The scenario in the file *name*, or the shipped one that is called so.

    :raises BadScenario: there is neither, or it is not a scenario.
    """
    path = Path(name)
    if path.name == name and not path.suffix and not path.exists():
        return Scenario.shipped(name)
    return Scenario.load(path)


def _scenario(fields: Mapping[str, Any], source: Source) -> Scenario:
    table = Table(fields, lambda key: source.place("", 1, key))
    made = Scenario(
        title=table.text("title"),
        faults=table.texts("faults"),
        seed=table.whole("seed"),
        server=_server(table.take("server") or {}, source),
        names=_names(table.take("names") or {}, source),
        rules=tuple(smtp_rule(each) for each in _tables(table, "rule", source)),
        reports=tuple(http_rule(each) for each in _tables(table, "report", source)),
        attachments=tuple(http_rule(each) for each in _tables(table, "attachment", source)),
        tokens=tuple(http_rule(each) for each in _tables(table, "token", source)),
    )
    table.done()
    if not made.title:
        raise BadScenario(source.place("", 1, "title"), "title: missing")
    return made


def _tables(table: Table, kind: str, source: Source) -> Sequence[Table]:
    found = table.take(kind) or []
    if not isinstance(found, list) or len(found) > MOST_RULES:
        raise table.wrong(kind, f"expected up to {MOST_RULES} tables [[{kind}]]")
    return [Table(each, partial(source.place, kind, n)) for n, each in enumerate(found, 1)]


def _server(fields: object, source: Source) -> Server:
    table = Table(fields, partial(source.place, "server", 1))
    server = Server(
        host=table.text("host") or None,
        user=table.text("user") or None,
        password=table.text("password") or None,
        starttls=table.flag("starttls"),
        require_tls=table.flag("require_tls"),
        max_size=table.whole("max_size", 1),
        max_recipients=table.whole("max_recipients", 1),
        close_after=table.whole("close_after"),
        hold=table.number("hold") if table.has("hold") else None,
        timeout=table.number("timeout", least=0.01) if table.has("timeout") else None,
        auth=table.texts("auth", ("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER")),
        certificate=table.text("certificate", "good", CERTIFICATES),
        tls=table.text("tls", "", TLS_VERSIONS),
        refuse_for=table.number("refuse_for"),
    )
    table.done()
    if (server.user is None) != (server.password is None):
        raise table.wrong("user", "user and password go together")
    return server


def _names(fields: object, source: Source) -> Mapping[str, tuple[str, ...]]:
    table = Table(fields, partial(source.place, "names", 1))
    assert isinstance(fields, dict)
    return {name: table.texts(name) for name in fields}
