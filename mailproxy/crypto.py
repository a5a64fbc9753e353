"""
Secrets: how they are sealed at rest, and how tokens are made, hashed and compared.

Accounts' passwords are written to the store only as a :class:`Sealer` gives them; API tokens only
as :func:`hash_token` gives them. Where keys and tokens come from is the business of
:mod:`mailproxy.config` and :mod:`mailproxy.config_secrets`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken

from mailproxy.errors import MailProxyError

#: What a key check value seals; it is no secret, only whether it can be read matters.
_CHECK = "mailproxy key check 1"

#: N, r and p of scrypt (RFC 7914, section 2): the interactive parameters of its author.
_SCRYPT = (2**14, 8, 1)

#: A hash that no password has, for work that is to take as long as if there were one.
NO_PASSWORD = f"scrypt${_SCRYPT[0]}${_SCRYPT[1]}${_SCRYPT[2]}${'00' * 16}${'00' * 32}"


class WrongKey(MailProxyError):
    """What was sealed cannot be opened with the keys at hand, or was tampered with."""


class Sealer:
    """
    Seals secrets with authenticated encryption, and opens what it or its forerunners sealed.

    To change the key, put the new one before the old one: the first seals, all open.

    :param keys: at least one key as :func:`new_key` makes it.
    :raises ValueError: if there is no key, or one is not a key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("at least one key is needed")
        self._keys = {_key_id(key): _fernet(key) for key in keys}
        self._first = next(iter(self._keys))

    def seal(self, secret: str) -> str:
        """*secret*, encrypted, with the id of its key before it: ``<key id>:<token>``."""
        token = self._keys[self._first].encrypt(secret.encode("utf-8", "surrogatepass"))
        return f"{self._first}:{token.decode('ascii')}"

    def open(self, sealed: str) -> str:
        """
        The secret that :meth:`seal` was given.

        :raises WrongKey: its key is not among ours, or the text was changed.
        """
        key_id, _, token = sealed.partition(":")
        fernet = self._keys.get(key_id)
        if fernet is None:
            raise WrongKey(f"sealed with a key that is not at hand (key id {key_id[:8]!a})")
        try:
            return fernet.decrypt(token.encode()).decode("utf-8", "surrogatepass")
        except InvalidToken:
            raise WrongKey(f"the sealed value is damaged (key id {key_id})") from None

    def current(self, sealed: str) -> bool:
        """Whether *sealed* was sealed with the first key."""
        return sealed.partition(":")[0] == self._first

    def knows(self, sealed: str) -> bool:
        """Whether the key that *sealed* was sealed with is at hand."""
        return sealed.partition(":")[0] in self._keys

    def check_value(self) -> str:
        """A value to store beside sealed data, for :meth:`verify` at the next start."""
        return self.seal(_CHECK)

    def verify(self, check: str) -> None:
        """
        Make sure that these keys open what lies beside *check*, a stored check value.

        :raises WrongKey: they do not.
        """
        if self.open(check) != _CHECK:
            raise WrongKey("the key check value is not ours")


def new_key() -> str:
    """A new key for a :class:`Sealer`: 32 random bytes in URL-safe base64 (44 characters)."""
    return Fernet.generate_key().decode("ascii")


def new_token() -> str:
    """A new API token: 32 random bytes as 64 hex digits."""
    return secrets.token_hex(32)


def hash_token(token: str) -> bytes:
    """
    What is stored of *token*: its SHA-256 (32 bytes).

    Tokens made here carry 256 random bits, so that a salt or a slow hash would add nothing.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def hash_password(password: str, salt: bytes | None = None) -> str:
    """
    What is stored of a *password* that people or programs chose: scrypt, salted.

    Takes some 30 ms of CPU and 16 MiB on purpose: call it in a thread.

    :param salt: 16 bytes; None: random ones.
    :return: ``scrypt$N$r$p$salt$hash``, salt and hash in hex.
    """
    cost, block, parallel = _SCRYPT
    salt = secrets.token_bytes(16) if salt is None else salt
    return f"scrypt${cost}${block}${parallel}${salt.hex()}${_scrypt(password, salt).hex()}"


def password_matches(password: str, stored: str) -> bool:
    """Whether *stored* is :func:`hash_password` of *password*; slow, in constant time."""
    kind, cost, block, parallel, salt, digest = stored.split("$")
    if (kind, int(cost), int(block), int(parallel)) != ("scrypt", *_SCRYPT):
        raise ValueError("a password hash of another kind")
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)), bytes.fromhex(digest))


def _scrypt(password: str, salt: bytes) -> bytes:
    cost, block, parallel = _SCRYPT
    data = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(data, salt=salt, n=cost, r=block, p=parallel, dklen=32, maxmem=2**26)


def same(a: str, b: str) -> bool:
    """Whether two tokens are equal, in a time that tells nothing of either, nor of its length."""
    return hmac.compare_digest(hash_token(a), hash_token(b))


def _key_id(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _fernet(key: str) -> Fernet:
    try:
        return Fernet(key)
    except ValueError:
        # Without the cause: its text may quote from the key.
        raise ValueError("a key is 32 bytes in URL-safe base64 (44 characters)") from None
