"""Keys that sign mail: which are taken, and what the DNS has to say of them."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dkim_keys import (
    MAX_PEM,
    Algorithm,
    BadDkimKey,
    DkimKey,
    check_selector,
    generate,
    read_pem,
)

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
PKCS1 = serialization.PrivateFormat.TraditionalOpenSSL
PLAIN = serialization.NoEncryption()

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()


class KeyTests(SynchronousTestCase):
    def refused(self, text: str) -> str:
        error = self.assertRaises(BadDkimKey, read_pem, text)
        self.assertNotIn(text[40:60] or "?", str(error))
        return str(error)

    def test_rsa(self) -> None:
        """An RSA key is taken as PKCS #1 and #8; its record has the whole public structure."""
        der = RSA.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for form in (PKCS1, PKCS8):
            pair = read_pem(f"\n {RSA.private_bytes(PEM, form, PLAIN).decode()} \n")
            self.assertEqual(Algorithm.RSA, pair.algorithm)
            self.assertEqual(der, base64.b64decode(pair.public))

    def test_ed25519(self) -> None:
        """Of an Ed25519 key the record has the 32 bytes alone."""
        pair = read_pem(ED25519.private_bytes(PEM, PKCS8, PLAIN).decode())
        self.assertEqual(Algorithm.ED25519, pair.algorithm)
        self.assertEqual(ED25519.public_key().public_bytes_raw(), base64.b64decode(pair.public))

    def test_generated(self) -> None:
        """What is made here would be taken from outside."""
        for algorithm in Algorithm:
            pair = generate(algorithm)
            self.assertEqual(pair, read_pem(pair.private))
            self.assertNotEqual(pair, generate(algorithm))
            self.assertNotIn(pair.private[40:60], repr(pair))

    def test_refused(self) -> None:
        """What is small, encrypted, of another kind or no key is refused, and not quoted."""
        small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        curve = ec.generate_private_key(ec.SECP256R1())
        locked = serialization.BestAvailableEncryption(b"secret")
        public = RSA.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.assertIn("1024 bits", self.refused(small.private_bytes(PEM, PKCS8, PLAIN).decode()))
        self.assertIn(
            "RSA or Ed25519", self.refused(curve.private_bytes(PEM, PKCS8, PLAIN).decode())
        )
        self.assertIn("password", self.refused(RSA.private_bytes(PEM, PKCS8, locked).decode()))
        for text in (public.decode(), "", "x", "é", "\ud800", "-----BEGIN PRIVATE KEY-----\nAA=="):
            self.assertIn("PEM", self.refused(text))
        self.assertIn("characters", self.refused("x" * (MAX_PEM + 1)))

    def test_too_large(self) -> None:
        """More than verifiers have to check is refused."""
        large = rsa.generate_private_key(public_exponent=65537, key_size=4104)
        self.assertIn("4104 bits", self.refused(large.private_bytes(PEM, PKCS8, PLAIN).decode()))

    def test_selector(self) -> None:
        """A selector is one or more labels, in lower case, and leaves room for the domain."""
        for text in ("a", "S2026", "mail-1", "a.b.c", "x" * 63):
            self.assertEqual(text.lower(), check_selector(text, "example.com"))
        for text in ("", ".", "a.", ".a", "-a", "a-", "a_b", "a b", "é", "x" * 64, "a\n"):
            self.assertRaises(BadDkimKey, check_selector, text, "example.com")
        domain = ".".join(("d" * 60,) * 4)[:230]
        self.assertRaises(BadDkimKey, check_selector, "s" * 20, domain)

    def test_record(self) -> None:
        """The record says version, kind and public half, under selector and domain."""
        pair = generate(Algorithm.ED25519)
        key = DkimKey("acme", "example.com", "s1", pair.algorithm, pair.private, pair.public)
        self.assertEqual("s1._domainkey.example.com", key.record_name)
        self.assertEqual(f"v=DKIM1; k=ed25519; p={pair.public}", key.record)
        self.assertNotIn(pair.private[40:60], repr(key))
