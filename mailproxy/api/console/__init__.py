"""
The operator's page at ``/console``: who is logged in, what is shown live, and the files themselves.

The page talks to the same endpoints as everybody, below ``/console/api/``, with the rights of the
token that was given at its login.
"""
