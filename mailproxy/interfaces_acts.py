"""
The seam towards those who decide over stored messages: a part of :mod:`mailproxy.interfaces`.
"""

from __future__ import annotations

from zope.interface import Interface

from mailproxy.acts import Acted, Operation


class IActs(Interface):
    """
    What an operator does to messages.

    As with every work of the store, an intent is either before an act, then the answer says that
    the body has *begun*, or after it, then it is refused where the act forbids it.
    """

    async def act(tenant_id: str, message_id: str, operation: Operation) -> Acted | None:
        """
        Do *operation* to one message; its event is stored with it.

        Repeated, it changes nothing more. What cannot be done to a message in its state changes
        nothing either, and the answer says why. The age of a message does not run while it is held.

        :return: None: there is no such message.
        :raises StoreError: nothing was done.
        """
