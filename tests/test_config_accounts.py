"""Accounts that are declared in the configuration."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mailproxy.account_fields import FIELDS, OPTIONS
from mailproxy.config import load
from mailproxy.errors import ConfigurationError
from mailproxy.logins import Auth, Secrets, auth_of, secrets_of
from mailproxy.pins import pins_of
from mailproxy.records import AccountSpec
from mailproxy.states import OnUncertain, TlsMode
from tests.test_config import ConfigCase, make_ca

CANARY = "canary-8f3a"


class AccountsCase(ConfigCase):
    def ini(self, text: str, **environ: str) -> tuple[AccountSpec, ...]:
        """The accounts of this ``config.ini``."""
        self.write("config.ini", text)
        return self.load(environ).accounts

    def refusal(self, text: str, **environ: str) -> ConfigurationError:
        self.write("config.ini", text)
        error = self.refused(environ)
        self.assertNotIn(CANARY, str(error))
        return error


class IniTests(AccountsCase):
    def test_all_fields(self) -> None:
        """An account's section takes the fields of the API, as text."""
        (account,) = self.ini(
            "[account main]\ntenant = shop\nname = The shop's\nhost = SMTP.example\nport = 587\n"
            "user = u\npassword_env = SHOP_SMTP\nuse_tls = yes\nttl = 60\nmax_sessions = 3\n"
            "on_uncertain = hold\nretry_delays = 1, 2, 3\nis_default = on\nlimit_per_hour = 10\n"
            "batch_size = 7\nmax_age_seconds = 600\ntimeout = 5\nallow_plaintext_auth = no\n",
            SHOP_SMTP=CANARY,
        )
        self.assertEqual(
            AccountSpec(
                tenant_id="shop",
                id="main",
                host="SMTP.example",
                port=587,
                tls_mode=TlsMode.STARTTLS,
                user="u",
                password=CANARY,
                name="The shop's",
                use_tls=True,
                timeout=5.0,
                ttl=60.0,
                max_sessions=3,
                batch_size=7,
                on_uncertain=OnUncertain.HOLD,
                retry_delays=(1.0, 2.0, 3.0),
                max_age_seconds=600.0,
                is_default=True,
                options='{"limit_per_hour":10}',
                declared=True,
            ),
            account,
        )
        self.assertNotIn(CANARY, repr(account))

    def test_routes(self) -> None:
        """Accounts that step in or share are lists of names and of names with weights."""
        (account,) = self.ini(
            "[account main]\nhost = relay\nfallback = b, c\nweights = main=3, b = 1\n"
        )
        self.assertEqual(
            '{"fallback":["b","c"],"weights":{"main":3,"b":1}}',
            account.options,
        )

    def test_a_login_with_a_token(self) -> None:
        """OAuth is declared in fields of its own; its secrets stand elsewhere."""
        self.write("secret.txt", CANARY)
        text = (
            "[account main]\nhost = h\nuser = me@h\nauth = xoauth2\nauth_grant = refresh_token\n"
            "auth_token_url = https://login.example/token\nauth_client_id = c\n"
            "auth_scope = mail\nauth_refresh_token_env = TOKEN\n"
        )
        (account,) = self.ini(f"{text}auth_client_secret_file = secret.txt\n", TOKEN="r0")
        auth = Auth("xoauth2", "refresh_token", "https://login.example/token", "c", "mail")
        self.assertEqual(auth, auth_of(account.options))
        self.assertEqual(Secrets(CANARY, "r0"), secrets_of(account.password))
        self.assertNotIn(CANARY, repr(account))
        for lines, field in (
            ("", "auth_refresh_token_env"),
            ("password_env = TOKEN\n", "password"),
            (f"auth_client_secret = {CANARY}\n", "auth_client_secret"),
            ("auth_refresh_token_file = secret.txt\n", "auth_refresh_token_env"),
        ):
            environ = {"TOKEN": "r0"} if lines else {}
            error = self.refusal(text + lines, **environ)
            self.assertEqual(f"[account main] {field}", error.variable)
        error = self.refusal(text.replace("auth_refresh_token_env = TOKEN\n", ""))
        self.assertEqual("[account main] auth", error.variable)

    def test_pins(self) -> None:
        """Pins may be separated by commas."""
        (account,) = self.ini(f"[account main]\nhost = h\npin = {'0' * 64}, {'1' * 64}\n")
        self.assertEqual({"0" * 64, "1" * 64}, pins_of(account.options))
        self.assertEqual(TlsMode.STARTTLS, account.tls_mode)

    def test_the_least(self) -> None:
        """A host is enough: the tenant is the default one, the id the section's name."""
        (account,) = self.ini("[account out going]\nhost = relay\n")
        self.assertEqual(("default", "out going"), (account.tenant_id, account.id))
        self.assertEqual((25, None), (account.port, account.password))
        self.assertTrue(account.declared)

    def test_several(self) -> None:
        """There may be many; one id may be used by several tenants, which then say ``id``."""
        accounts = self.ini(
            "[account b]\nhost = h\n[account a]\nhost = h\n"
            "[account shop a]\nhost = h\nid = a\ntenant = shop\n"
        )
        found = [(account.tenant_id, account.id) for account in accounts]
        self.assertEqual([("default", "a"), ("default", "b"), ("shop", "a")], found)

    def test_password_file(self) -> None:
        """A password's file is read without the line's end; relative paths start as all do."""
        self.write("secret", f"{CANARY}\n")
        (account,) = self.ini("[account a]\nhost = h\nuser = u\npassword_file = secret\n")
        self.assertEqual(CANARY, account.password)

    def test_certificates(self) -> None:
        """The certificate authorities of an account are named by their file."""
        pem = make_ca(self.cwd)
        (account,) = self.ini(f"[account a]\nhost = h\nca_pem_file = {pem.name}\n")
        self.assertEqual(pem.read_text(), account.ca_pem)
        error = self.refusal("[account a]\nhost = h\nca_pem_file = config.ini\n")
        self.assertEqual("[account a] ca_pem_file", error.variable)

    def test_an_empty_field_is_absent(self) -> None:
        """An empty value counts as not given, as everywhere in the configuration."""
        (account,) = self.ini("[account a]\nhost = h\nport =\nuser =\npassword_env =\n")
        self.assertEqual((25, None), (account.port, account.user))

    def test_no_warning(self) -> None:
        """The sections of accounts are no strangers in the ini file."""
        self.write("config.ini", "[account a]\nhost = h\n[acount b]\nhost = h\n")
        (warning,) = self.load().warnings
        self.assertIn("[acount b] host", warning)

    def test_not_asked_for(self) -> None:
        """Who does not ask for the accounts needs none of their secrets."""
        self.write("config.ini", "[account a]\nhost = h\nuser = u\npassword_env = NOT_HERE\n")
        found = load({}, cwd=self.cwd, hostname=lambda: "mx.example", accounts=False)
        self.assertEqual((), found.accounts)


class RefusalTests(AccountsCase):
    def test_a_wrong_field_names_section_and_field(self) -> None:
        """Each wrong field ends the start with one line: section, field, problem, file."""
        for fields, name, problem in (
            ("port = 0", "port", "expected 1 to 65535"),
            ("port = canary-8f3a", "port", "expected an integer"),
            ("host = two words", "host", "not a host name or IP address"),
            ("use_tls = canary-8f3a", "use_tls", "expected true or false"),
            ("tls_mode = canary-8f3a", "tls_mode", "expected one of"),
            ("prot = 25", "prot", "unknown field; did you mean port?"),
            ("tenant_id = shop", "tenant_id", "did you mean tenant?"),
            ("canary = 1", "canary", "unknown field"),
            ("password = canary-8f3a", "password", "use password_env or password_file"),
            ("user = u", "user", "has no password"),
            ("password_env = SET", "user", "missing, but there is a password"),
            ("user = u\npassword_env = UNSET", "password_env", "is not set"),
            ("user = u\npassword_env = SET\npassword_file = f", "password_env", "given twice"),
            ("user = u\npassword_file = no-such", "password_file", "No such file"),
            ("tenant = " + "x" * 256, "tenant", "at most 255 characters"),
            ("ca_pem = canary-8f3a", "ca_pem", "not a certificate in PEM"),
        ):
            with self.subTest(fields):
                error = self.refusal(f"[account main]\nhost = h\n{fields}\n"
                                     .replace("host = h\nhost", "host"), SET=CANARY)  # fmt: skip
                self.assertEqual(f"[account main] {name}", error.variable)
                self.assertIn(problem, error.problem)
                if name != "password_file":
                    self.assertIn("config.ini", error.problem)

    def test_missing_host(self) -> None:
        """An account without a host is named."""
        error = self.refusal("[account main]\nport = 25\n")
        self.assertEqual(("[account main] host", "required"), (error.variable, error.problem[:8]))

    def test_twice(self) -> None:
        """An account that is declared twice, also in two files, ends the start."""
        file = self.write("more.ini", "[account b]\nid = a\nhost = h\n")
        self.write("config.ini", "[account a]\nhost = h\n")
        error = self.refused({"GMP_ACCOUNTS_FILE": str(file)})
        self.assertEqual("[account b] id", error.variable)
        self.assertIn("more.ini", error.problem)

    @settings(deadline=None, max_examples=60)
    @given(
        st.dictionaries(
            st.sampled_from([*FIELDS, *OPTIONS, "tenant", "password_env", "password_file"]),
            st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12)
            | st.sampled_from(["1", "25", "host.example", "HOME", "true", "hold"]),
        )
    )
    def test_any_section(self, fields: dict[str, str]) -> None:
        """Whatever a section says, its account is made or refused with one printable line."""
        lines = [f"{name} = {value}" for name, value in fields.items()]
        self.write("config.ini", "\n".join(["[account main]", "host = h", *lines]))
        try:
            self.load({"HOME": "x"})
        except ConfigurationError as error:
            self.assertTrue(str(error).isprintable(), str(error))


class FileTests(AccountsCase):
    def accounts(self, name: str, text: str, **environ: str) -> tuple[AccountSpec, ...]:
        return self.load({"GMP_ACCOUNTS_FILE": str(self.write(name, text)), **environ}).accounts

    def wrong(self, name: str, content: Any) -> ConfigurationError:
        text = content if isinstance(content, str) else json.dumps(content)
        error = self.refused({"GMP_ACCOUNTS_FILE": str(self.write(name, text))})
        self.assertNotIn(CANARY, str(error))
        return error

    def test_ini(self) -> None:
        """A file of accounts has the form of the ini file; both may declare some."""
        self.write("config.ini", "[account a]\nhost = h\n")
        found = self.accounts("more.ini", "[account b]\nhost = h\n")
        self.assertEqual(["a", "b"], [account.id for account in found])

    def test_json(self) -> None:
        """A file whose name ends in .json holds a list of objects, bare or as ``accounts``."""
        account = {"id": "a", "host": "h", "port": 2525, "user": "u", "password_env": "PW",
                   "retry_delays": [1, 2.5], "use_tls": False}  # fmt: skip
        for content in ([account], {"accounts": [account]}):
            (found,) = self.accounts("more.json", json.dumps(content), PW=CANARY)
            self.assertEqual((2525, CANARY, (1.0, 2.5)),
                             (found.port, found.password, found.retry_delays))  # fmt: skip

    def test_strange_sections(self) -> None:
        """A file of accounts holds nothing else: a mistyped section is not passed over."""
        error = self.wrong("more.ini", "[account a]\nhost = h\n[acount b]\nhost = h\n")
        self.assertEqual("GMP_ACCOUNTS_FILE", error.variable)
        self.assertIn("[acount b] host", error.problem)

    def test_strange_json(self) -> None:
        """What is not a list of accounts is refused with one line that shows no value."""
        for content, variable in (
            ("{", "GMP_ACCOUNTS_FILE"),
            ("[" * 100_000, "GMP_ACCOUNTS_FILE"),
            ('"canary-8f3a"', "GMP_ACCOUNTS_FILE"),
            ({"accounts": {}}, "GMP_ACCOUNTS_FILE"),
            (["canary-8f3a"], "GMP_ACCOUNTS_FILE"),
            ([{"host": "h"}], "account no. 1 id"),
            ([{"id": 7, "host": "h"}], "account no. 1 id"),
            ([{"id": "a", "host": {"x": CANARY}}], "account 'a' host"),
            ([{"id": "a", "host": "h", "password": CANARY}], "account 'a' password"),
            ([{"id": "a", "host": "h", "password_env": 5}], "account 'a' password_env"),
            ([{"id": "a", "host": "h", "tenant": ["x"]}], "account 'a' tenant"),
        ):
            with self.subTest(str(content)[:40]):
                self.assertEqual(variable, self.wrong("more.json", content).variable)

    def test_not_an_ini_file(self) -> None:
        """A file that is no ini file is named by the variable that names it."""
        self.assertEqual("GMP_ACCOUNTS_FILE", self.wrong("more.ini", "host = h\n").variable)
