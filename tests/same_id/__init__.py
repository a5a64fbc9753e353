"""
The same id again, through the whole program: front door, store, dispatcher, reporter.

``model`` is the table of the wire contract, ``world`` the program on a virtual clock between an
upstream and an application that do as told, ``machine`` the client that does everything wrong.
"""
