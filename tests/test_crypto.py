"""Sealing secrets and comparing tokens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.crypto import Sealer, WrongKey, hash_token, new_key, new_token, same

OLD, NEW = new_key(), new_key()

#: Every string Python can hold, lone surrogates included.
ANY_TEXT = st.text(st.characters(codec=None))


class SealerTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=50)
    @given(ANY_TEXT)
    def test_round_trip(self, secret: str) -> None:
        """What was sealed is opened again, whatever characters it has."""
        sealer = Sealer([NEW])
        self.assertEqual(secret, sealer.open(sealer.seal(secret)))

    def test_the_secret_does_not_show(self) -> None:
        """A sealed value differs each time, shows nothing of the secret and is plain ASCII."""
        sealer = Sealer([NEW])
        first, second = sealer.seal("hunter2"), sealer.seal("hunter2")
        self.assertNotEqual(first, second)
        self.assertNotIn("hunter2", first)
        self.assertTrue(first.isascii())
        self.assertNotIn(NEW, repr(sealer) + repr(vars(sealer)))

    def test_rotation(self) -> None:
        """With the new key before the old one, old values open and new ones need the new key."""
        old = Sealer([OLD])
        both = Sealer([NEW, OLD])
        self.assertEqual("pw", both.open(old.seal("pw")))
        self.assertEqual("pw", Sealer([NEW]).open(both.seal("pw")))
        with self.assertRaises(WrongKey):
            old.open(both.seal("pw"))

    def test_current(self) -> None:
        """It is known whether something was sealed with the first key, an older one, or neither."""
        old, new = new_key(), new_key()
        before, both = Sealer([old]), Sealer([new, old])

        self.assertFalse(both.current(before.seal("secret")))
        self.assertTrue(both.current(both.seal("secret")))
        self.assertTrue(both.knows(before.seal("secret")))
        self.assertFalse(before.knows(both.seal("secret")))

    def test_key_id_is_visible(self) -> None:
        """The id of the key stands before the colon, so that a missing key is told as one."""
        sealed = Sealer([OLD]).seal("pw")
        key_id = sealed.partition(":")[0]
        self.assertEqual(8, len(key_id))
        with self.assertRaisesRegex(WrongKey, key_id):
            Sealer([NEW]).open(sealed)

    def test_damage_is_noticed(self) -> None:
        """A changed value is refused; no part of it is given out."""
        sealer = Sealer([NEW])
        sealed = sealer.seal("password")
        middle = len(sealed) // 2
        flipped = sealed[:middle] + ("A" if sealed[middle] != "A" else "B") + sealed[middle + 1 :]
        for damaged in (flipped, sealed[:-6], sealed.partition(":")[0] + ":", "", "é:ü", "plain"):
            with self.subTest(damaged), self.assertRaises(WrongKey):
                sealer.open(damaged)

    def test_check_value(self) -> None:
        """A stored check value verifies with its key, before and after a rotation, and with no
        other; a sealed password is no check value."""
        check = Sealer([OLD]).check_value()
        Sealer([OLD]).verify(check)
        Sealer([NEW, OLD]).verify(check)
        with self.assertRaises(WrongKey):
            Sealer([NEW]).verify(check)
        with self.assertRaises(WrongKey):
            Sealer([OLD]).verify(Sealer([OLD]).seal("something else"))

    def test_bad_keys(self) -> None:
        """No key, or a text that is none, is refused without quoting it."""
        for keys in ([], [""], ["not-a-key"], [NEW, NEW[:-4]], ["ü" * 44]):
            with self.subTest(keys), self.assertRaises(ValueError) as caught:
                Sealer(keys)
            if keys and keys[-1]:
                self.assertNotIn(keys[-1], str(caught.exception))
                self.assertIsNone(caught.exception.__cause__)


class TokenTests(SynchronousTestCase):
    def test_new_tokens(self) -> None:
        """A token is 64 hex digits and no two are equal."""
        tokens = {new_token() for _ in range(100)}
        self.assertEqual(100, len(tokens))
        for token in tokens:
            self.assertRegex(token, "^[0-9a-f]{64}$")

    def test_hash(self) -> None:
        """A token's hash is 32 bytes and the same in every process."""
        self.assertEqual(
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            hash_token("abc").hex(),
        )

    @settings(deadline=None)
    @given(ANY_TEXT, ANY_TEXT)
    def test_same_is_equality(self, a: str, b: str) -> None:
        """Comparing tokens agrees with comparing strings, non-ASCII ones included."""
        self.assertEqual(a == b, same(a, b))
        self.assertTrue(same(a, a))
