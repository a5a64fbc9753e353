"""The address parser against arbitrary text: nothing fools it; its short cut changes nothing."""

from __future__ import annotations

import re

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.address import (
    MAX_ADDR,
    MAX_LOCAL,
    envelope_address,
    format_mailbox,
    parse_mailbox,
    parse_mailbox_slowly,
    parse_mailboxes,
)
from mailproxy.errors import BadAddress
from mailproxy.model import Mailbox

_ATEXT = "abcXYZ019!#$%&'*+/=?^_`{|}~-"
_DOMAINS = ("b.c", "example.com", "localhost", "x.test", "xn--bcher-kva.example", "[192.0.2.1]")

#: What a RCPT TO may carry, written from RFC 5321, section 4.1.2, and RFC 6531, section 3.3.
_ATOM = rf"[{re.escape(_ATEXT)}A-Za-z0-9\x80-\U0010ffff]+"
_WIRE = re.compile(
    rf'(?:{_ATOM}(?:\.{_ATOM})*|"(?:[ !#-\[\]-~\x80-\U0010ffff]|\\[ -~])+")'
    r"@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
    r"|\[[0-9.]+\]|\[IPv6:[0-9a-f:.]+\])"
)

# Text in which everything that means something to the parser is likely.
_PIECES = st.sampled_from(
    [
        *'"\\()<>@,:; []',
        "a",
        "b.c",
        "a@b.c",
        "<a@b.c>",
        '"x y"',
        "=?utf-8?q?",
        "=3C",
        "?=",
        "ü",
        "--",
    ]
)
awkward = st.lists(_PIECES | st.characters(), max_size=16).map("".join)

printable = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
displays = st.text(printable, max_size=30).map(lambda text: re.sub(" +", " ", text).strip(" "))
atoms = st.text(_ATEXT, min_size=1, max_size=10)
dot_atoms = st.lists(atoms, min_size=1, max_size=3).map(".".join)
contents = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=20)


def quoted(content: str) -> str:
    return '"' + content.replace("\\", "\\\\").replace('"', '\\"') + '"'


locals_ = dot_atoms | contents.map(quoted)
labels = st.text("abcXYZ019-", min_size=1, max_size=12)
common = st.builds(
    "{}@{}".format,
    dot_atoms | st.text(_ATEXT + ".", max_size=70),
    st.lists(labels, min_size=1, max_size=5).map(".".join),
)


def outcome(parse: object, text: str) -> Mailbox | None:
    assert callable(parse)
    try:
        return parse(text)  # type: ignore[no-any-return]
    except BadAddress:
        return None


class ParserProperties(SynchronousTestCase):
    @given(common | awkward)
    @example("a@" + "b" * 63 + ".c")
    @example("a@" + "b" * 64 + ".c")
    @example("a" * 65 + "@b.c")
    @example("a@xn--a")
    @example("a@ab--c.d")
    @example("A@B.C")
    @settings(max_examples=800, deadline=None)
    def test_the_short_cut_changes_nothing(self, text: str) -> None:
        """The short cut accepts nothing that the long way refuses, and means the same."""
        self.assertEqual(outcome(parse_mailbox_slowly, text), outcome(parse_mailbox, text))

    @given(awkward)
    @settings(max_examples=800, deadline=None)
    def test_only_legal_addresses_come_out(self, text: str) -> None:
        """Whatever goes in, what comes out may stand in RCPT TO, and parses to itself."""
        mailbox = outcome(parse_mailbox, text)
        if mailbox is None:
            return
        self.assertTrue(_WIRE.fullmatch(mailbox.addr), mailbox)
        self.assertLessEqual(len(mailbox.local.encode()), MAX_LOCAL)
        self.assertLessEqual(len(mailbox.addr.encode()), MAX_ADDR)
        self.assertEqual(mailbox, parse_mailbox(format_mailbox(mailbox)))
        self.assertEqual(mailbox.addr, envelope_address(mailbox.addr))

    @given(displays, locals_, st.sampled_from(_DOMAINS))
    @settings(max_examples=500, deadline=None)
    def test_every_mailbox_can_be_written(self, display: str, local: str, domain: str) -> None:
        """A display name of any characters survives being written and read."""
        assume(len(local) <= MAX_LOCAL)
        mailbox = Mailbox(display, parse_mailbox(f"{local}@{domain}").local, domain)
        self.assertEqual(mailbox, parse_mailbox(format_mailbox(mailbox)))

    @given(st.lists(st.tuples(displays, locals_, st.sampled_from(_DOMAINS)), max_size=6))
    @settings(max_examples=200, deadline=None)
    def test_a_list_in_one_string(self, parts: list[tuple[str, str, str]]) -> None:
        """Addresses joined by commas are the same addresses, whatever commas are in them."""
        assume(all(len(local) <= MAX_LOCAL for _, local, _ in parts))
        written = [
            format_mailbox(Mailbox(display, local, domain)) for display, local, domain in parts
        ]
        self.assertEqual(parse_mailboxes(written), parse_mailboxes(", ".join(written)))
        self.assertEqual(len(parts), len(parse_mailboxes(",".join(written))))

    @given(awkward)
    @settings(max_examples=500, deadline=None)
    def test_any_list(self, text: str) -> None:
        """A string is read as a list where a single address is read, and with the same meaning."""
        try:
            found = parse_mailboxes(text)
        except BadAddress:
            found = None
        single = outcome(parse_mailbox, text)
        if single is not None:
            self.assertEqual((single,), found)
        for mailbox in found or ():
            self.assertTrue(_WIRE.fullmatch(mailbox.addr), mailbox)

    @given(locals_)
    @settings(max_examples=300, deadline=None)
    def test_the_local_part_is_exact(self, local: str) -> None:
        """A local part keeps its case and its characters; only needless quotes go."""
        assume(len(local) <= MAX_LOCAL)
        read = parse_mailbox(f"{local}@b.c").local
        if read != local:
            self.assertEqual(f'"{read}"', local)
