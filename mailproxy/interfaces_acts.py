"""
The seam towards those who decide over stored messages: a part of :mod:`mailproxy.interfaces`.
"""

from __future__ import annotations

from zope.interface import Interface

from mailproxy.acts import Acted, ActedOnAll, Group, Hold, Operation


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

    async def act_on_all(
        group: Group, operation: Operation, *, since: float | None = None, singly: bool = False
    ) -> ActedOnAll | None:
        """
        Do *operation* to a whole group; costs the same whatever there is of it.

        A hold lies on the group: it stops what is there and what is new, at once, and a release
        takes it off; messages held one by one stay so, unless *singly* asks for them. A
        cancellation is about what is open now: none of it is begun any more. Everything else is
        begun with the answer, and done in the background, as one by one.

        :param since: of what ended, only what ended then or later is requeued.
        :param singly: a release lets those go as well that were held one by one.
        :return: None: there is no such account.
        :raises StoreError: nothing was done.
        """

    async def holds(tenant_id: str | None) -> list[Hold]:
        """The batches and accounts of a tenant (None: of all) that are held, in order."""
