"""``/account`` and ``/accounts``."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api.account_fields import FIELDS, OPTIONS, tls
from mailproxy.errors import StoreUnavailable
from mailproxy.logins import Secrets, secrets_of
from mailproxy.model import Account
from mailproxy.records import AccountSpec, AccountTest
from mailproxy.states import OnUncertain, TlsMode
from tests.api.door import ACCOUNT, Door, Reply, message
from tests.build import new_message
from tests.fakes import result

CANARY = "canary8f3a"


def certificate() -> tuple[str, str]:
    """A self-signed certificate and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    now = datetime(2025, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=9))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), secret.decode()


class AccountTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()

    def put(self, **fields: Any) -> Account:
        """Declare the account and return what is stored of it."""
        reply = self.door.put_account(**fields)
        self.assertEqual((200, True), (reply.status, reply.json["ok"]), reply.body)
        (account,) = result(self.door.store.accounts(None))
        return account

    def shown(self) -> dict[str, Any]:
        accounts = self.door.call("GET", "/accounts").json["accounts"]
        (shown,) = [each for each in accounts if each["id"] == "smtp-main"]
        assert isinstance(shown, dict)
        return shown

    def problems(self, reply: Reply) -> list[tuple[str, str]]:
        self.assertEqual(422, reply.status, reply.body)
        self.assertNotIn("rejected", reply.json)
        self.assertNotIn(CANARY, reply.body.decode())
        for problem in reply.json["detail"]:
            self.assertEqual({"type", "loc", "msg"}, set(problem))
        return [(".".join(p["loc"]), p["msg"]) for p in reply.json["detail"]]


class PutTests(AccountTests):
    def test_minimal(self) -> None:
        """Id and host are enough; the answer is just ok."""
        reply = self.door.call("POST", "/account", {"id": "a", "host": "relay.example"})
        self.assertEqual((200, {"ok": True}), (reply.status, reply.json))
        (account,) = result(self.door.store.accounts(None))
        self.assertEqual(("default", "a", 25), (account.tenant_id, account.id, account.port))
        self.assertEqual((30.0, 300.0, 8), (account.timeout, account.ttl, account.max_sessions))
        self.assertEqual(OnUncertain.RETRY, account.on_uncertain)
        self.assertIsNone(account.user)

    def test_seed(self) -> None:
        """The account of the seed's own documentation requires verified STARTTLS."""
        account = self.put(
            host="smtp.gmail.com",
            port=587,
            user="your-email@gmail.com",
            password="app-specific-password",
            use_tls=False,
        )
        self.assertEqual((TlsMode.STARTTLS, False), (account.tls_mode, account.use_tls))
        self.assertEqual("app-specific-password", account.password)

    def test_everything(self) -> None:
        """Every field that is in force gets where it belongs."""
        pem, _ = certificate()
        account = self.put(
            name="Main",
            host=" SMTP.Example.net ",
            port="2525",
            user="u",
            password=" p ",
            use_tls=True,
            tls_mode="plain",
            allow_plaintext_auth=True,
            timeout=12.5,
            ttl="60",
            max_sessions="3",
            batch_size="20",
            on_uncertain="HOLD",
            retry_delays=[5, "10", 20.5],
            max_age_seconds=3600,
            ca_pem=pem,
            is_default=1,
        )
        self.assertEqual(
            ("Main", "SMTP.Example.net", 2525), (account.name, account.host, account.port)
        )
        self.assertEqual(("u", " p ", True), (account.user, account.password, account.use_tls))
        self.assertEqual((TlsMode.PLAIN, True), (account.tls_mode, account.allow_plaintext_auth))
        self.assertEqual((12.5, 60.0, 3, 20), _numbers(account))
        self.assertEqual((OnUncertain.HOLD, True), (account.on_uncertain, account.is_default))
        self.assertEqual((5.0, 10.0, 20.5), account.retry_delays)
        self.assertEqual((3600.0, pem), (account.max_age_seconds, account.ca_pem))

    def test_nulls(self) -> None:
        """A field that is null says the same as one that is not there."""
        nulls = {name: None for name in (*FIELDS, *OPTIONS) if name not in ACCOUNT}
        reply = self.door.put_account(**nulls)
        self.assertEqual({"ok": True}, reply.json)

    def test_limits(self) -> None:
        """Limits are kept and shown; zero and less is none."""
        reply = self.door.put_account(
            limit_per_minute="10", limit_per_hour=0, limit_per_day=-5, limit_behavior="reject"
        )
        self.assertEqual({"ok": True}, reply.json)
        shown = self.shown()
        self.assertEqual(
            (10, None, None), tuple(shown[f"limit_per_{u}"] for u in ("minute", "hour", "day"))
        )
        self.assertEqual("reject", shown["limit_behavior"])
        self.assertEqual({"per_minute": 0}, shown["used"])
        self.assertEqual((None, None), (shown["limited_until"], shown["limited_reason"]))

    def test_limited(self) -> None:
        """What was handed over is shown, and until when and why a limit has no room."""
        self.door.put_account(limit_per_minute=5, limit_per_hour=1)
        store, now = self.door.store, self.door.clock.now()
        result(store.enqueue([new_message(id="m1")], now, 5.0))
        (account,) = result(store.accounts(None))
        (claimed,) = result(store.claim(account.pk, 10, now))
        result(store.begin([(claimed.pk, claimed.token)], account.id, now))
        shown = self.shown()
        self.assertEqual({"per_minute": 1, "per_hour": 1}, shown["used"])
        self.assertEqual(
            (now + 3600, "rate limit exceeded (per hour)"),
            (shown["limited_until"], shown["limited_reason"]),
        )

    def test_a_login_with_a_token(self) -> None:
        """OAuth: everything but the secrets is shown; these are kept while who gets them stays."""
        auth = {
            "method": "XOAUTH2",
            "grant": "refresh_token",
            "token_url": "https://login.example/token",
            "client_id": "id",
            "scope": "mail",
        }
        secrets = {"client_secret": CANARY, "refresh_token": f"{CANARY}-2"}
        fields: dict[str, Any] = {"user": "me@example.com", "password": None}
        reply = self.door.put_account(**fields, auth={**auth, **secrets})
        self.assertEqual({"ok": True}, reply.json)
        self.assertEqual({**auth, "method": "xoauth2"}, self.shown()["auth"])
        (account,) = result(self.door.store.accounts(None))
        self.assertNotIn(CANARY, repr(account))
        self.assertEqual(Secrets(CANARY, f"{CANARY}-2"), secrets_of(account.password))

        self.assertEqual(200, self.door.put_account(**fields, auth=auth).status)
        elsewhere = {**auth, "token_url": "https://evil.example/"}
        reply = self.door.put_account(**fields, auth=elsewhere)
        self.assertEqual([("body.auth", "its secrets are required")], self.problems(reply))
        self.assertEqual({**auth, "method": "xoauth2"}, self.shown()["auth"])

    def test_fields_that_need_each_other(self) -> None:
        """A token needs a user, and no password; a pin needs TLS."""
        token = {
            "method": "xoauth2",
            "grant": "client_credentials",
            "token_url": "https://login.example/",
            "client_id": "id",
            "client_secret": CANARY,
        }
        for fields, where in (
            ({"auth": token, "user": None, "password": None}, "user"),
            ({"auth": token, "user": "u", "password": CANARY}, "password"),
            ({"auth": {**token, "user": "v"}, "user": "u", "password": None}, "auth"),
            ({"pin": "0" * 64, "tls_mode": "plain"}, "pin"),
            ({"pin": "0" * 64, "tls_mode": "opportunistic"}, "pin"),
        ):
            reply = self.door.put_account(**fields)
            self.assertEqual([f"body.{where}"], [name for name, _ in self.problems(reply)], fields)
        reply = self.door.put_account(auth={**token, "user": "v"}, user=None, password=None)
        self.assertEqual(("v", 200), (self.shown()["user"], reply.status))

    def test_pins(self) -> None:
        """A pin may be written in many ways, is shown in one, and requires TLS by itself."""
        digest = bytes(range(32))
        pair = digest.hex(":").upper()
        base64 = b64encode(digest).decode()
        for pin in (digest.hex(), pair, base64, f"sha256//{base64}", [f"SHA256:{pair}", base64]):
            self.door.put_account(pin=pin, port=25, use_tls=False)
            shown = self.shown()
            self.assertEqual(([digest.hex()], "starttls"), (shown["pin"], shown["tls_mode"]))
        empty: list[Any] = ["", []]
        for none in empty:
            self.door.put_account(pin=none)
            self.assertEqual([], self.shown()["pin"])

    def test_a_mechanism_to_insist_on(self) -> None:
        """PLAIN or LOGIN can be insisted on; *password* means the better one that is offered."""
        for auth, shown in (
            ("plain", {"method": "plain"}),
            ({"method": "LOGIN"}, {"method": "login"}),
            ("password", None),
            ("", None),
            ({}, None),
        ):
            self.assertEqual(200, self.door.put_account(auth=auth).status)
            self.assertEqual(shown, self.shown()["auth"])

    def test_routes(self) -> None:
        """The accounts that may step in or share are kept in order, each once, and shown."""
        for name in ("b", "c"):
            self.door.put_account(id=name)
        for names, shown in (
            ("b", ["b"]),
            ("b, c,b", ["b", "c"]),
            (["c", "b", "c"], ["c", "b"]),
            (["smtp-main", "b"], ["b"]),
            ([], None),
        ):
            reply = self.door.put_account(fallback=names)
            self.assertNotIn("warnings", reply.json, names)
            self.assertEqual(shown, self.shown()["fallback"])
        for weights, shares in (
            ({"b": "3", "c": 0}, {"b": 3, "c": 0}),
            ("b = 3, smtp-main=1", {"b": 3, "smtp-main": 1}),
            ({}, None),
        ):
            reply = self.door.put_account(weights=weights)
            self.assertNotIn("warnings", reply.json, weights)
            self.assertEqual(shares, self.shown()["weights"])

    def test_routes_to_nowhere(self) -> None:
        """An account that is not there, or another tenant's, is taken with a warning."""
        self.door.add_key("other", "k" * 64)
        self.door.call("POST", "/account?tenant_id=other", {"id": CANARY, "host": "a.example"})
        for fields in ({"fallback": [CANARY]}, {"weights": {CANARY: 1}}):
            reply = self.door.put_account(**fields)
            (field,) = fields
            self.assertEqual(
                [f"{field}: names an account that is not there (yet); it is passed over"],
                reply.json["warnings"],
            )
        self.door.put_account(id=CANARY)
        self.assertNotIn("warnings", self.door.put_account(fallback=[CANARY]).json)

    def test_limit_behavior(self) -> None:
        """Drop means reject; other words mean defer, with a warning."""
        for word, meaning, warned in (
            ("drop", "reject", False),
            ("Reject", "reject", False),
            ("defer", "defer", False),
            (CANARY, "defer", True),
        ):
            reply = self.door.put_account(limit_behavior=word)
            self.assertEqual(warned, "warnings" in reply.json)
            self.assertNotIn(CANARY.encode(), reply.body)
            self.assertEqual(meaning, self.shown()["limit_behavior"])

    def test_older_fields(self) -> None:
        """Fields of older clients, and others we do not know, are ignored."""
        older = {"account_name": 5, "use_ssl": [], "from_address": {}, "system_bcc": "x", "z": 1}
        self.assertEqual({"ok": True}, self.door.put_account(**older).json)

    def test_password_kept(self) -> None:
        """Without a password the stored one stays, as long as host and user do."""
        self.put(user="u", password="p")
        self.assertEqual("p", self.put(user="u", port=2525).password)
        self.assertEqual("p", self.put(user="u", password="").password)
        for change in ({"user": "v"}, {"user": "u", "host": "other.example"}):
            problems = self.problems(self.door.put_account(**change))
            self.assertEqual([("body.password", "password required")], problems)
        self.assertIsNone(self.put(user=None).password)

    def test_password_required(self) -> None:
        """A user without a password is a 422; without a user no password is needed, nor kept."""
        problems = self.problems(self.door.put_account(user="u"))
        self.assertEqual([("body.password", "password required")], problems)
        self.assertIsNone(self.put(password=CANARY).password)

    def test_wrong_fields(self) -> None:
        """Each wrong field is named, without its value."""
        pem, key = certificate()
        x = CANARY
        token = {
            "method": "xoauth2",
            "grant": "client_credentials",
            "token_url": "https://login.example/",
            "client_id": "id",
            "client_secret": x,
        }
        wrong: dict[str, list[Any]] = {
            "id": ["", None, 5, "x" * 256, f"{x}\n", [x]],
            "host": [
                "",
                None,
                " ",
                5,
                f"{x} {x}",
                f"{x}/x",
                f"{x}:25",
                f"{x}\r\n",
                "x" * 254,
                "a..b",
                "-a.b",
                "https://a.b",
                "ü" * 300,
                "a@b",
            ],
            "port": [0, 65536, -1, "0", x, "", 25.5, True, [25], {}],
            "user": [f"{x}\x00", 5, "x" * 256, [x]],
            "password": [f"{x}\x00", f"{x}\r\n", 5, [x], "x" * 4097],
            "name": [5, f"{x}\n", "x" * 256],
            "use_tls": [x, 2, [], {}, 1.5],
            "tls_mode": [x, "", 5, "ssl", ["plain"]],
            "allow_plaintext_auth": [x, 5],
            "is_default": [x, 5],
            "timeout": [0, -1, x, 1e9, "1e3", True, [5]],
            "ttl": [-1, x, 1e9, True],
            "max_sessions": [0, 1001, x, 2.5],
            "batch_size": [x, 2.5, True],
            "on_uncertain": [x, 5, ""],
            "retry_delays": [[], x, [x], [0], [-1], [1] * 51, {}, [True], "", "1,,2", [1e300]],
            "max_age_seconds": [0, -5, x],
            "ca_pem": [
                x,
                5,
                key,
                pem + key,
                "-----BEGIN CERTIFICATE-----\n!\n",
                "ü",
                "x" * 100_001,
            ],
            "limit_per_minute": [x, 1.5, True, [], 10**13],
            "limit_behavior": [5, []],
            "fallback": [5, [5], {}, "", "a,,b", "a" * 256, [str(n) for n in range(101)], [""]],
            "weights": [
                5,
                ["a"],
                x,
                "",
                f"{x}=",
                "=1",
                "a=1,",
                f"a={x}",
                {"a": -1},
                {"a": 1001},
                {"a": 1.5},
                {"a": None},
                {"a": True},
                {"": 1},
                {f"{x}\n": 1},
                {"a": 0},
                {str(n): 1 for n in range(101)},
            ],
            "auth": [
                5,
                [x],
                x,
                "cram-md5",
                {"method": 5},
                {"method": f"{x}\n"},
                {"method": "plain", "client_secret": x},
                "xoauth2",
                {**token, "grant": x},
                {**token, "token_url": x},
                {**token, "token_url": "http://login.example/"},
                {**token, "token_url": f"https://{x}:{x}@login.example/"},
                {**token, "client_id": ""},
                {**token, "client_id": f"{x}\x7f"},
                {**token, "scope": f"{x}\n"},
                {**token, "client_secret": x * 1000},
                {**token, "refresh_token": x},
                {**token, "grant": "refresh_token"},
                {**token, "user": 5},
                {**token, x: x},
            ],
            "pin": ["sha256//abc", ["sha256//abc"], 5, x, "0" * 63, ["0" * 64] * 21, [5]],
            "tenant_id": ["", 5, f"{x}\n"],
        }
        for name, values in wrong.items():
            for value in values:
                reply = self.door.put_account(**{name: value})
                self.assertEqual(422, reply.status, (name, value))
                problems = self.problems(reply)
                self.assertEqual([f"body.{name}"], [where for where, _ in problems], value)
        self.assertEqual([], result(self.door.store.accounts(None)))

    def test_all_problems_at_once(self) -> None:
        """Everything that is wrong is told in one answer."""
        reply = self.door.call("POST", "/account", {"port": 0, "ttl": "x", "tls_mode": "x"})
        where = [loc for loc, _ in self.problems(reply)]
        self.assertEqual(["body.id", "body.host", "body.port", "body.tls_mode", "body.ttl"], where)
        self.assertIn("body.port: expected 1 to 65535", reply.json["error"])

    def test_not_an_object(self) -> None:
        """A body that is no JSON object is a 422."""
        for body in (
            b"",
            b"[]",
            b"5",
            b"{",
            b"\xff",
            b"NaN",
            b'{"id":NaN}',
            b"[" * 100_000,
            b'{"id":"\\ud800"}',
            b'{"id":"\xff"}',
            b"null",
            b'{"a":' * 50_000,
        ):
            reply = self.door.call("POST", "/account", body)
            self.assertEqual("body", self.problems(reply)[0][0], body[:20])

    def test_too_large(self) -> None:
        """A declaration of more than 256 kB is not read."""
        reply = self.door.put_account(other="x" * 256 * 1024)
        self.assertEqual(413, reply.status)

    def test_hosts(self) -> None:
        """Names, addresses and names outside ASCII are hosts."""
        for host, kept in (
            ("localhost", "localhost"),
            ("a_b.example.", "a_b.example."),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("bücher.example", "xn--bcher-kva.example"),
        ):
            self.assertEqual(kept, self.put(host=host).host)

    def test_store_error(self) -> None:
        """What is not stored is a 503."""
        self.door.store.fail_next(StoreUnavailable("full"))
        reply = self.door.put_account()
        self.assertEqual((503, "5"), (reply.status, reply.headers["retry-after"]))

    def test_metrics_from_the_start(self) -> None:
        """An account's series are there before anything happened to it."""
        self.put()
        body = self.door.call("GET", "/metrics").body
        for name in ("sent", "errors", "deferred", "rate_limited"):
            line = f'gmp_{name}_total{{account_id="smtp-main",tenant_id="default"}} 0.0'
            self.assertIn(line.encode(), body)

    @given(
        st.dictionaries(
            st.sampled_from([*FIELDS, *OPTIONS, "other"]),
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=5).map(lambda text: text + CANARY)
            | st.lists(st.integers() | st.text(max_size=3), max_size=2)
            | st.dictionaries(st.just("method"), st.integers() | st.text(max_size=3), max_size=1),
        )
    )
    @settings(deadline=None, max_examples=120)
    def test_anything(self, fields: dict[str, Any]) -> None:
        """Whatever fields come, the account is taken or its wrong fields are named."""
        door = Door()
        reply = door.call("POST", "/account", json.dumps({**ACCOUNT, **fields}).encode())
        self.assertIn(reply.status, (200, 422))
        self.assertNotIn(CANARY.encode(), reply.body)
        if reply.status == 200:
            self.assertEqual(200, door.call("GET", "/accounts").status)


def _numbers(account: Account) -> tuple[Any, ...]:
    return account.timeout, account.ttl, account.max_sessions, account.batch_size


class TlsTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Every row of the contract's table of use_tls, port and credentials."""
        user = {"user": "u"}
        for fields, mode, port in (
            ({"use_tls": True, "port": 465}, "implicit", 465),
            ({"use_tls": False, "port": 465}, "implicit", 465),
            ({"port": 465}, "implicit", 465),
            ({"use_tls": True, "port": 25}, "starttls", 25),
            ({"use_tls": True, "port": 587}, "starttls", 587),
            ({"use_tls": True, "port": 587, **user}, "starttls", 587),
            ({"use_tls": False, "port": 587, **user}, "starttls", 587),
            ({"port": 587, **user}, "starttls", 587),
            ({"port": 587}, "opportunistic", 587),
            ({"use_tls": False, "port": 587}, "opportunistic", 587),
            ({"use_tls": False, "port": 25}, "opportunistic", 25),
            ({"port": 25, **user}, "opportunistic", 25),
            ({"port": 2525}, "opportunistic", 2525),
            ({"use_tls": True}, "implicit", 465),
            ({}, "opportunistic", 25),
            ({"use_tls": False, **user}, "opportunistic", 25),
            ({"tls_mode": "implicit"}, "implicit", 465),
            ({"tls_mode": "starttls"}, "starttls", 587),
            ({"tls_mode": "plain"}, "plain", 25),
            ({"tls_mode": "opportunistic"}, "opportunistic", 25),
            ({"tls_mode": "plain", "use_tls": True, "port": 465}, "plain", 465),
            ({"tls_mode": "starttls", "port": 465}, "starttls", 465),
            ({"tls_mode": "implicit", "port": 25, "use_tls": False}, "implicit", 25),
            ({"tls_mode": "plain", "use_tls": True}, "plain", 25),
        ):
            self.assertEqual((TlsMode(mode), port), tls(fields), fields)


class ListTests(AccountTests):
    def test_every_field_but_secrets(self) -> None:
        """The list shows every field of the contract, when it was made and changed, no password."""
        self.put(user="u", password=CANARY)
        self.door.clock.advance(60)
        self.put(user="u")

        reply = self.door.call("GET", "/accounts")

        self.assertNotIn(CANARY.encode(), reply.body)
        (shown,) = reply.json["accounts"]
        named = set(FIELDS) | set(OPTIONS)
        self.assertEqual(named - {"password"}, named & set(shown))
        self.assertIs(False, shown["declared"])
        self.assertEqual("2025-06-15T15:06:40+00:00", shown["created_at"])
        self.assertEqual("2025-06-15T15:07:40+00:00", shown["updated_at"])
        self.assertEqual(("u", 25, None), (shown["user"], shown["port"], shown["use_tls"]))

    def test_a_parked_account_shows_why_and_until_when(self) -> None:
        """Its state, the reason, since when, and when it is tried again; nothing of it else."""
        account = self.put()
        (shown,) = self.door.call("GET", "/accounts").json["accounts"]
        self.assertEqual(
            ("active", None, None, None),
            tuple(shown[name] for name in ("state", "parked_reason", "parked_since", "probe_at")),
        )
        now = self.door.clock.now()
        parking = self.door.store.park_account(
            account.pk, account.version, "auth: 535", now + 60, now
        )
        result(parking)
        (shown,) = self.door.call("GET", "/accounts").json["accounts"]
        self.assertEqual(("parked", "auth: 535"), (shown["state"], shown["parked_reason"]))
        self.assertEqual((now, now + 60), (shown["parked_since"], shown["probe_at"]))

    def test_declared_again(self) -> None:
        """What the list shows can be posted again, and changes nothing but the time."""
        pem, _ = certificate()
        self.put(
            user="u",
            password="p",
            limit_per_hour=5,
            fallback=["x"],
            weights={"x": 2, "y": 0},
            ca_pem=pem,
            retry_delays=[60],
        )
        before = self.shown()
        reply = self.door.call("POST", "/account", msgspec.json.encode(before))
        self.assertEqual(200, reply.status, reply.body)
        self.assertEqual(before, self.shown())

    def test_none(self) -> None:
        """Without accounts the list is empty."""
        reply = self.door.call("GET", "/accounts?tenant_id=default")
        self.assertEqual({"ok": True, "accounts": []}, reply.json)


class TestTests(AccountTests):
    def test_tested(self) -> None:
        """What trying it came to; what was not learnt is null."""
        self.put()
        control = self.door.control
        control.account_test = AccountTest(phase="auth", code=535, problem="no", seconds=0.12345)
        reply = self.door.call("POST", "/v1/accounts/smtp-main/test")
        self.assertEqual(
            {
                "ok": True,
                "works": False,
                "phase": "auth",
                "code": 535,
                "problem": "no",
                "peer": None,
                "tls": None,
                "logged_in": False,
                "offers": [],
                "notes": [],
                "seconds": 0.123,
            },
            reply.json,
        )
        self.assertEqual(["smtp-main"], control.tried)

    def test_unknown(self) -> None:
        """An account nobody has, or another tenant's, is not found."""
        self.put()
        self.door.call("POST", "/tenant", {"id": "acme"})
        for target in ("/v1/accounts/other/test", "/v1/accounts/smtp-main/test?tenant_id=acme"):
            reply = self.door.call("POST", target)
            self.assertEqual((404, "account not found"), (reply.status, reply.json["error"]))
        self.assertEqual([], self.door.control.tried)


class DeclaredTests(AccountTests):
    def setUp(self) -> None:
        super().setUp()
        spec = AccountSpec(
            "default", "smtp-main", "fixed.example", 25, TlsMode.PLAIN, declared=True
        )
        result(self.door.store.declare_accounts([spec], self.door.clock.now()))

    def test_read_only(self) -> None:
        """An account that the configuration declares cannot be changed nor deleted from here."""
        before = self.shown()
        for reply in (self.door.put_account(), self.door.call("DELETE", "/account/smtp-main")):
            self.assertEqual(
                (409, "declared in the configuration"), (reply.status, reply.json["detail"])
            )
        self.assertEqual(before, self.shown())
        self.assertEqual((True, "fixed.example"), (before["declared"], before["host"]))

    def test_sends(self) -> None:
        """Mail goes through it as through any other."""
        self.assertEqual(1, self.door.add(message(account_id="smtp-main")).json["queued"])

    def test_not_by_the_api(self) -> None:
        """That an account is declared cannot be said here."""
        self.door.put_account(id="b", declared=True)
        accounts = result(self.door.store.accounts(None))
        self.assertEqual(
            [("b", False), ("smtp-main", True)], [(each.id, each.declared) for each in accounts]
        )


class DeleteTests(AccountTests):
    def test_deleted(self) -> None:
        """A deleted account is gone from the list."""
        self.put()
        reply = self.door.call("DELETE", "/account/smtp-main")
        self.assertEqual((200, {"ok": True}), (reply.status, reply.json))
        self.assertEqual([], self.door.call("GET", "/accounts").json["accounts"])

    def test_deleted_while_parked(self) -> None:
        """A deleted account is no longer shown as one that needs a person; an unknown never was."""
        self.put()
        parked = self.door.metrics.accounts_parked
        parked.labels("default", "smtp-main").set(1)
        for id in ("smtp-main", "nobody"):
            self.door.call("DELETE", f"/account/{id}")
        (family,) = parked.collect()
        self.assertEqual(
            [("smtp-main", 0.0)], [(s.labels["account_id"], s.value) for s in family.samples]
        )

    def test_unknown(self) -> None:
        """An unknown account is a 404 where the tenant is named, else no error."""
        self.assertEqual(200, self.door.call("DELETE", "/account/nobody").status)
        reply = self.door.call("DELETE", "/account/nobody?tenant_id=default")
        self.assertEqual((404, "account not found"), (reply.status, reply.json["detail"]))
        reply = self.door.call("DELETE", "/account/nobody?tenant_id=nobody")
        self.assertEqual((404, "account not found"), (reply.status, reply.json["detail"]))

    def test_any_id(self) -> None:
        """An id may hold anything that a path can be made to carry."""
        for id, quoted in (("a/b", "a%2Fb"), ("ä b", "%C3%A4%20b"), ("a?b", "a%3Fb"), ("%", "%25")):
            self.put(id=id)
            self.assertEqual(
                200, self.door.call("DELETE", f"/account/{quoted}?tenant_id=default").status
            )

    def test_account_not_found_afterwards(self) -> None:
        """Mail for a deleted account is rejected."""
        self.put()
        self.door.call("DELETE", "/account/smtp-main")
        for fields in ({"account_id": "smtp-main"}, {}):
            reply = self.door.add(message(**fields))
            self.assertEqual("account not found", reply.json["rejected"][0]["reason"])
