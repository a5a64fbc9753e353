"""
A Genropy site with its ``email`` package, as far as mail goes.

The code of the package is the one that is installed (``requirements-peers.lock``), unmodified: the
client of our API, the page that takes our calls, the tables with their triggers. What they run in
is stood in for here: :mod:`tests.peers.genropy.framework` (the modules they import),
:mod:`tests.peers.genropy.tables` (the database), :mod:`tests.peers.genropy.site` (the web site).
"""
