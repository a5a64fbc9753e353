"""
SIGHUP: the configuration is read again.

A bad configuration is one line in the log, and the old one stays in force. Of a good one, what can
change while the service runs is taken over at once; the rest is named, and waits for a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from twisted.logger import Logger

from mailproxy.config import VARIABLES, Settings
from mailproxy.errors import ConfigurationError
from mailproxy.log import hide, set_level
from mailproxy.records import AccountSpec
from mailproxy.reply_rules import Rule

_log = Logger()

#: The settings that take effect at once.
AT_ONCE = frozenset(
    {"log_level", "log_delivery_activity", "reply_rules", "accounts_file", "accounts"}
)


@attrs.define
class Reload:
    """
    :param settings: in force now.
    :param read: reads the configuration as the start did.
    :param log_activity: has attempts and report calls logged, or not.
    :param declare: makes these the declared accounts; also if they are as before, since their
        secrets, or what the store made of them, may not be.
    :param know_replies: makes these the operator's rules for replies.
    """

    settings: Settings
    read: Callable[[], Settings]
    log_activity: Callable[[bool], None]
    declare: Callable[[Sequence[AccountSpec]], object]
    know_replies: Callable[[Sequence[Rule]], object]

    def __call__(self) -> None:
        """Read again, and take over what can be; never raises."""
        try:
            new = self.read()
        except ConfigurationError as error:
            _log.error("the configuration stays as it was: {error}", error=error)
            return
        except Exception:
            _log.failure("the configuration stays as it was: reading it raised")
            return
        changed = [
            variable
            for variable in VARIABLES
            if getattr(new, variable.field) != getattr(self.settings, variable.field)
        ]
        set_level(new.log_level)
        self.log_activity(new.log_delivery_activity)
        hide(*(account.password for account in new.accounts))
        self.declare(new.accounts)
        self.know_replies(new.reply_rules)
        now = {name: getattr(new, name) for name in AT_ONCE}
        self.settings = attrs.evolve(self.settings, **now)
        later = [variable.name for variable in changed if variable.field not in AT_ONCE]
        _log.info(
            "the configuration was read again: {count} changes; after a restart: {later}",
            count=len(changed),
            later=", ".join(later) or "none",
        )
