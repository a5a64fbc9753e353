"""
Scenarios: the service as its users run it, in a process of its own, with real sockets and files.

Loopback only, every wait bounded, every process ended by its own id.
"""
