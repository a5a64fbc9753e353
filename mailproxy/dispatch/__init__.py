"""
The second stage: when a message leaves, through which account, and what follows from the answer.

:mod:`~mailproxy.dispatch.dispatcher` wakes accounts, :mod:`~mailproxy.dispatch.stream` is one
account's stream of messages: :mod:`~mailproxy.dispatch.claims` fills it,
:mod:`~mailproxy.dispatch.ready` orders it, :mod:`~mailproxy.dispatch.reach` says whether and how
widely its upstream can be reached. :mod:`~mailproxy.dispatch.judge` reads an upstream's replies,
:mod:`~mailproxy.dispatch.retry` says when to try again, and :mod:`~mailproxy.dispatch.recorder`
sees to it that no outcome is lost between here and the store.
"""
