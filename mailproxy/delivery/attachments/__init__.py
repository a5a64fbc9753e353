"""
Attachments that did not come with their message, and those that are too large to go with it.

:mod:`~mailproxy.delivery.attachments.completion` completes messages for the courier; it asks
:mod:`~mailproxy.delivery.attachments.fetcher`, which knows the sources, each in a module of its
own, and the cache. What is too large to be sent is the business of
:mod:`~mailproxy.delivery.attachments.large`.
"""
