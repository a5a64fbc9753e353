"""
The durable queue.

* ``embedded``: the store's face, ``EmbeddedStore``; ``options``: what can be set on it.
* ``schema``, ``migrate``, ``migrations``: the tables, and how a database comes to them.
* ``database``, ``boot``: the file, its lock and connections, and what is looked at when it opens.
* ``writer``, ``works``, ``transaction``: the one thread that writes, and its group commit;
  ``readers``: those that read beside it.
* ``compiling``, ``statements``, ``statements_intake``: SQLAlchemy Core, compiled once.
* What each call does: ``intake``, ``again`` (an id that is known), ``elements``, ``directory``;
  ``queue`` (claim, intent, release), ``outcomes``, ``bodies``; ``reports``, ``wording``;
  ``accounts``, ``suspensions``; ``listing``; ``upkeep``, ``retention``.
"""
