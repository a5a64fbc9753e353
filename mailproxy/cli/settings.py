"""The service's settings as options of a command."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

import click

from mailproxy.cli.group import Refused
from mailproxy.config import VARIABLES, Settings, load
from mailproxy.config_sources import DEFAULT_INI, Variable
from mailproxy.errors import ConfigurationError


def setting_options(only: Collection[str] = ()) -> list[click.Option]:
    """
    One option for each setting, and ``--config``. Values stay text: the settings check them.

    :param only: fields of the settings; empty: all.
    """
    config = click.Option(
        ["--config"], metavar="FILE", help=f"The ini file.  [default: {DEFAULT_INI}, if there]"
    )
    return [config, *(_option(each) for each in VARIABLES if not only or each.field in only)]


def load_settings(given: Mapping[str, str | None], *, accounts: bool = True) -> Settings:
    """
    The settings, with *given* (by option, underscores for dashes) on top of all other sources.

    :param accounts: whether accounts that are declared are read, too.
    :raises Refused: one of them is wrong.
    """
    try:
        return load(os.environ, given, accounts=accounts)
    except ConfigurationError as error:
        raise Refused(str(error)) from None


def _option(variable: Variable) -> click.Option:
    name = variable.option.replace("_", "-")
    says = f"A file with: {variable.says}" if variable.secret else variable.says
    default = variable.default_text
    return click.Option(
        [f"--{name}"],
        metavar="FILE" if variable.secret else "TEXT",
        help=f"{says}  [default: {default}]" if default else says,
    )
