"""
How ``twist`` and ``twistd`` run the service: options in, service out.

Importing this module must not import the reactor, or ``--reactor`` could not choose one: the
service, and what it is made of, is imported when it is made. Nothing is opened or locked here
either; a daemon forks, and takes its user, between :func:`makeService` and the service's start.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

from twisted.application.service import IService, MultiService
from twisted.logger import Logger, LogLevel
from twisted.python import usage

from mailproxy import __version__
from mailproxy.config import VARIABLES, Settings, load
from mailproxy.config_sources import Variable
from mailproxy.crash import arm
from mailproxy.errors import ConfigurationError
from mailproxy.log import LEVELS, basic_credentials, hide, observer_of, screen

_log = Logger()


def _flag(variable: Variable) -> str:
    return variable.option.replace("_", "-")


class Options(usage.Options):
    """The command line: one option for each variable; for a secret, the file that holds it."""

    longdesc = (
        "Each option can be given as the environment variable in brackets as well, or in the ini "
        "file named by GMP_CONFIG."
    )
    optParameters = [
        ["config", None, None, "Ini file to read."],
        *([_flag(variable), None, None, variable.says] for variable in VARIABLES),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.environ = dict(os.environ)
        self.docs["config"] += f" [GMP_CONFIG={self.environ.get('GMP_CONFIG', '')}]"
        for variable in VARIABLES:
            self.docs[_flag(variable)] += f" [{self._now(variable)}]"

    def _now(self, variable: Variable) -> str:
        """The variable and what it would be without the option; no secret."""
        if variable.secret:
            return f"{variable.name}_FILE"
        try:
            text = self.environ.get(variable.name, "").strip()
            value = variable.kind.read(text, Path.cwd()) if text else variable.default_text
        except ValueError:
            value = "not valid"
        return f"{variable.name}={value}"

    def given(self) -> dict[str, str | None]:
        """What stood on the command line, by the names that ``load`` knows."""
        return {name.replace("-", "_"): self[name] for name in self.defaults}

    def opt_version(self) -> None:
        """Display the version and exit."""
        print(f"mailproxy {__version__}")
        raise SystemExit(0)


class CannotStart(Exception):
    """The start failed for a reason that is not ours; the text is one line for the operator."""


class Starter(MultiService):
    """
    Lets a start that fails end the program in a way that ``twistd`` understands.

    A daemon's parent waits to hear how the start went, and is told of an Exception only; the
    SystemExit of a service would leave it waiting.
    """

    def startService(self) -> None:
        """:raises CannotStart: a service raised SystemExit."""
        try:
            super().startService()
        except SystemExit as end:
            raise CannotStart(str(end.code)) from None


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends the program is shown as ever, but :class:`CannotStart` without a traceback."""
    if isinstance(error, CannotStart):
        # Not sys.stderr: that is the log by now.
        print(error, file=sys.__stderr__)
    else:
        sys.__excepthook__(kind, error, trace)


def makeService(options: Options) -> IService:
    """
    The service, ready to be started.

    :raises SystemExit: a setting is wrong; one line on the standard error says which.
    """
    start, given = Path.cwd(), options.given()

    def read() -> Settings:
        return load(options.environ, given, start)

    try:
        settings = read()
        arm(options.environ)
    except ConfigurationError as error:
        raise SystemExit(f"mailproxy: {error}") from None
    _set_up_log(settings, options)
    for warning in settings.warnings:
        _log.warn("{warning}", warning=warning)

    from twisted.internet import reactor

    from mailproxy.service import assemble

    if options.parent is not None and options.parent.get("uid") is not None:
        # Once root is given up, what is imported late may not be readable any more.
        import mailproxy.store.migrating  # noqa: F401

    sys.excepthook = _one_line
    starter = Starter()
    assemble(reactor, settings, read).setServiceParent(starter)
    return starter


def _set_up_log(settings: Settings, options: Options) -> None:
    """Screen the log, and have ``twist`` write it as the settings ask for."""
    hide(
        settings.api_token,
        settings.metrics_token,
        settings.client_sync_password,
        settings.client_sync_token,
        *settings.encryption_key,
        *(account.password for account in settings.accounts),
    )
    if settings.client_sync_user and settings.client_sync_password:
        hide(basic_credentials(settings.client_sync_user, settings.client_sync_password))
    screen(settings.log_level, form=settings.log_format)
    # twist has a filter of its own, INFO unless it was told otherwise, and a form of its own, by
    # default the same as our auto; twistd has neither.
    twist = options.parent
    if twist is not None and "logFormat" in twist:
        if twist["logLevel"] is LogLevel.info:
            twist["logLevel"] = LEVELS[settings.log_level]
        form = twist["logFormat"] if settings.log_format == "auto" else settings.log_format
        twist["fileLogObserverFactory"] = observer_of(form)
