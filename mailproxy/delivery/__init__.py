"""
One message leaves: composed, over a warm session, with every reply kept.

What a service has to put together::

    pool = Pool(Connector(reactor), clock, helo_name, metrics, extra_ca=pem, trace=debug)
    courier = Courier(pool, clock, store.contents, in_thread, metrics)

``courier`` carries the mail (:mod:`~mailproxy.delivery.carry`) of one account over sessions of the
:mod:`~mailproxy.delivery.pool`; a :mod:`~mailproxy.delivery.session` opens a connection
(:mod:`~mailproxy.delivery.opening`, :mod:`~mailproxy.delivery.tls`,
:mod:`~mailproxy.delivery.auth`) and runs transactions (:mod:`~mailproxy.delivery.pipeline`).
"""
