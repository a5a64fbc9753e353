"""What is said of wrong settings: refusals and warnings."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mailproxy.config import VARIABLES
from mailproxy.crypto import new_key
from mailproxy.errors import ConfigurationError
from tests.test_config import SAMPLES, TOKEN, ConfigCase

#: What an environment can hold: anything but NUL, and bytes that are not UTF-8 as surrogates.
ENVIRONMENT_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.characters(categories=["Cs"])
    .filter(lambda c: "\udc80" <= c <= "\udcff")
)  # fmt: skip
NAMES = [*SAMPLES, *(f"{name}_FILE" for name in SAMPLES), "GMP_CONFIG"]
VALUES = ENVIRONMENT_TEXT | st.sampled_from([*SAMPLES.values()])

#: A wrong value for every variable that can have one.
WRONG = {
    "GMP_HOST": "not a host",
    "GMP_PORT": "65536",
    "GMP_HTTP_LISTEN": "carrier-pigeon:1",
    "GMP_API_TOKEN": "two words",
    "GMP_METRICS_TOKEN": "zweiwörter",
    "GMP_ALLOW_NO_TOKEN": "maybe",
    "GMP_TRUSTED_PROXIES": "10.0.0.0/8, proxy",
    "GMP_CA_FILE": "no-such.pem",
    "GMP_DB_PATH": "postgresql://user:hunter2@db:port/mail",
    "GMP_DB_CHECK_SECONDS": "-1",
    "GMP_DATA_DIR": "a\nb",
    "GMP_ENCRYPTION_KEY": "hunter2",
    "GMP_NODE_LEASE_SECONDS": "1",
    "GMP_SCHEDULER_ACTIVE": "2",
    "GMP_CLIENT_SYNC_URL": "https://user:hunter2@app.example/",
    "GMP_CLIENT_SYNC_USER": "a\x00b",
    "GMP_CLIENT_SYNC_PASSWORD": "hunter2\nX-Header: 1",
    "GMP_CLIENT_SYNC_TOKEN": "hunter2 hunter2",
    "GMP_CLIENT_SYNC_TIMEOUT": "nan",
    "GMP_CLIENT_SYNC_INTERVAL": "-1",
    "GMP_SEND_LOOP_INTERVAL": "0",
    "GMP_TEST_MODE": "t",
    "GMP_DEFAULT_PRIORITY": "4",
    "GMP_BATCH_SIZE_PER_ACCOUNT": "0",
    "GMP_RETRY_DELAYS": "60,,300",
    "GMP_MAX_AGE_SECONDS": "1d",
    "GMP_ACCOUNT_FAULT_MAX_AGE_SECONDS": "inf",
    "GMP_HELO_NAME": "under_score.example",
    "GMP_DRAIN_SECONDS": "1e9",
    "GMP_DELIVERY_REPORT_RETENTION_SECONDS": "x",
    "GMP_IDEMPOTENCY_SECONDS": "1_000",
    "GMP_REPORT_MAX_AGE_SECONDS": "0",
    "GMP_MAX_REQUEST_BYTES": "64M",
    "GMP_MAX_BATCH": "1.5",
    "GMP_MAX_MESSAGE_BYTES": "1",
    "GMP_MAX_RECIPIENTS": "-3",
    "GMP_ACCOUNTS_FILE": "no-such.ini",
    "GMP_OAUTH_ALLOW": "10.0.0.0/33",
    "GMP_REPLY_RULES": "no-such.toml",
    "GMP_SMTP_LISTEN": "tcp:2525 carrier-pigeon:1",
    "GMP_SMTP_TLS_CERT": "a\nb",
    "GMP_SMTP_TLS_KEY": "a\nb",
    "GMP_SMTP_ALLOW": "0.0.0.0/0",
    "GMP_SMTP_PLAINTEXT_AUTH": "localhost",
    "GMP_SMTP_MAX_CONNECTIONS": "0",
    "GMP_SMTP_MAX_PER_PEER": "many",
    "GMP_CACHE_MEMORY_MAX_MB": "50M",
    "GMP_CACHE_MEMORY_TTL_SECONDS": "-1",
    "GMP_CACHE_DISK_DIR": "a\nb",
    "GMP_CACHE_DISK_MAX_MB": "0",
    "GMP_CACHE_DISK_TTL_SECONDS": "long",
    "GMP_ATTACHMENT_ROOTS": "/srv/files,/",
    "GMP_ATTACHMENT_ALLOW": "10.0.0.0/33",
    "GMP_ATTACHMENT_MAX_BYTES": "25M",
    "GMP_ALLOW_EPHEMERAL": "perhaps",
    "GMP_LOG_LEVEL": "LOUD",
    "GMP_LOG_FORMAT": "xml",
    "GMP_LOG_DELIVERY_ACTIVITY": "nope",
}


class RefusalTests(ConfigCase):
    def test_samples_are_complete(self) -> None:
        """Every variable has a wrong value in these tests."""
        self.assertEqual({variable.name for variable in VARIABLES}, set(WRONG))

    def test_every_wrong_value_names_its_variable(self) -> None:
        """A bad value stops the start with one line that names the variable; secrets never show."""
        for name, text in WRONG.items():
            with self.subTest(name):
                error = self.refused({name: text})
                self.assertEqual(name, error.variable)
                self.assertNotIn("hunter2", str(error))

    @settings(deadline=None, max_examples=150)
    @given(st.dictionaries(st.sampled_from(NAMES) | ENVIRONMENT_TEXT, VALUES, max_size=6))
    def test_any_environment(self, environ: dict[str, str]) -> None:
        """Whatever is in the environment, the settings are made or refused with one line."""
        try:
            warnings = self.load(environ).warnings
        except ConfigurationError as error:
            self.assertTrue(str(error).isprintable(), ascii(str(error)))
        else:
            self.assertTrue(all(warning.isprintable() for warning in warnings))

    def test_the_source_is_named(self) -> None:
        """A wrong value says which option or ini entry it came from."""
        self.assertEqual("GMP_PORT (--port)", self.refused({}, {"port": "x"}).variable)
        self.write("config.ini", "[server]\nport = x\n")
        variable = self.refused({}).variable
        self.assertTrue(variable.startswith("GMP_PORT ([server] port in "), variable)

    def test_secret_given_twice(self) -> None:
        """A secret and a file for it in one source contradict each other."""
        error = self.refused({"GMP_API_TOKEN": TOKEN, "GMP_API_TOKEN_FILE": "f"})
        self.assertEqual("GMP_API_TOKEN", error.variable)
        self.assertNotIn(TOKEN, str(error))

    def test_secret_files(self) -> None:
        """A secret's file that is missing, empty, binary or huge is refused by its name."""
        (self.cwd / "binary").write_bytes(b"\xff\xfe")
        self.write("empty", " \n")
        self.write("huge", "x" * 70_000)
        for name in ("missing", "binary", "empty", "huge"):
            with self.subTest(name):
                error = self.refused({"GMP_API_TOKEN_FILE": name})
                self.assertEqual("GMP_API_TOKEN_FILE", error.variable)
                self.assertIn(name, str(error))

    def test_ini_files(self) -> None:
        """A named ini file that is missing or broken is refused, without quoting its lines."""
        self.write("broken.ini", "[client]\nclient_sync_password hunter2\n")
        self.write("early.ini", "client_sync_password = hunter2\n")
        self.write("twice.ini", "[server]\nport = 1\nport = 2\n")
        (self.cwd / "binary.ini").write_bytes(b"\xff\xfe")
        names = ("missing.ini", "broken.ini", "early.ini", "twice.ini", "binary.ini", ".")
        for name in names:
            with self.subTest(name):
                error = self.refused({"GMP_CONFIG": name})
                self.assertEqual("GMP_CONFIG", error.variable)
                self.assertNotIn("hunter2", str(error))

    def test_sync_credentials_come_in_pairs(self) -> None:
        """A user without a password, or the reverse, stops the start and names what is missing."""
        url = {"GMP_CLIENT_SYNC_URL": "http://app/"}
        self.assertEqual(
            "GMP_CLIENT_SYNC_PASSWORD", self.refused({**url, "GMP_CLIENT_SYNC_USER": "u"}).variable
        )
        self.assertEqual(
            "GMP_CLIENT_SYNC_USER", self.refused({**url, "GMP_CLIENT_SYNC_PASSWORD": "p"}).variable
        )
        with_colon = {**url, "GMP_CLIENT_SYNC_USER": "a:b", "GMP_CLIENT_SYNC_PASSWORD": "p"}
        self.assertEqual("GMP_CLIENT_SYNC_USER", self.refused(with_colon).variable)

    def test_databases(self) -> None:
        """What is neither a file nor the URL of a PostgreSQL database is told apart."""
        wrong = {
            "postgresql://user:hunter2@db": "database is missing",
            "postgresql:///": "server is missing",
            "postgresql://user:hunt/er2@db/mail": "%2F",
            "postgresql://user:hunter2@db/mail/x": "slash",
            "postgresql://user:hunter2@db:0/mail": "port 0",
            "postgresql://user:hunter2@[db/mail": "not a URL",
            "postgresql://user:hunter 2@db/mail": "white space",
            "postgresql+psycopg://db/x": "SQLite file or a postgresql:// URL",
            "mysql://db/x": "SQLite file or a postgresql:// URL",
        }
        for url, problem in wrong.items():
            error = self.refused({"GMP_DB_PATH": url})
            self.assertEqual("GMP_DB_PATH", error.variable)
            self.assertIn(problem, error.problem)
        for path in (":memory:", "sqlite:///x.db", "some/dir/", "."):
            self.assertEqual("GMP_DB_PATH", self.refused({"GMP_DB_PATH": path}).variable)

    def test_nodes_are_given_their_secrets(self) -> None:
        """On a shared database each node would invent its own key and token: both are needed."""
        shared = {"GMP_DB_PATH": "postgresql://user:hunter2@db/mail"}
        self.assertEqual("GMP_ENCRYPTION_KEY", self.refused(shared).variable)
        shared["GMP_ENCRYPTION_KEY"] = new_key()
        self.assertEqual("GMP_API_TOKEN", self.refused(shared).variable)

    def test_no_token_needs_a_loopback_bind(self) -> None:
        """Serving without a token is refused unless only this machine can connect."""
        free = {"GMP_ALLOW_NO_TOKEN": "1"}
        self.assertEqual("GMP_ALLOW_NO_TOKEN", self.refused(free).variable)
        self.assertEqual("GMP_ALLOW_NO_TOKEN", self.refused({**free, "GMP_HOST": "::"}).variable)
        for host in ("127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"):
            self.assertTrue(self.load({**free, "GMP_HOST": host}).allow_no_token)
        self.load({**free, "GMP_API_TOKEN": TOKEN})
        listen = {**free, "GMP_HOST": "127.0.0.1", "GMP_HTTP_LISTEN": "tcp:8000"}
        self.refused(listen)


class WarningTests(ConfigCase):
    def test_unknown_names(self) -> None:
        """An unknown GMP_ name is a warning, with the name that was probably meant."""
        warnings = self.load({"GMP_PROT": "1", "GMP_CLIENT_SYNC_ULR": "x", "OTHER": "1"}).warnings
        self.assertEqual(2, len(warnings))
        self.assertIn("did you mean GMP_CLIENT_SYNC_URL?", warnings[0])
        self.assertTrue(warnings[1].startswith("GMP_PROT: unknown"))

    def test_a_file_for_what_is_no_secret(self) -> None:
        """NAME_FILE is read for secrets only."""
        self.assertIn("GMP_PORT_FILE", self.load({"GMP_PORT_FILE": "x"}).warnings[0])

    def test_unknown_ini_entries(self) -> None:
        """An ini entry that is not read is a warning that names it."""
        self.write("config.ini", "[server]\nprot = 1\n[smtp]\nlisen = x\n")
        warnings = self.load().warnings
        self.assertEqual(2, len(warnings))
        self.assertTrue(warnings[0].startswith("[server] prot in "))

    def test_warnings_are_one_line(self) -> None:
        """A name cannot smuggle a line break into a warning."""
        for warning in self.load({"GMP_\n\x1b[31mX": "1"}).warnings:
            self.assertTrue(warning.isprintable())

    def test_short_token(self) -> None:
        """A token that can be guessed is served, with a warning that does not show it."""
        settings = self.load({"GMP_API_TOKEN": "hunter2"})
        self.assertEqual("hunter2", settings.api_token)
        self.assertIn("GMP_API_TOKEN", settings.warnings[0])
        self.assertNotIn("hunter2", settings.warnings[0])

    def test_credentials_without_url(self) -> None:
        """Report credentials without a report URL are pointed out."""
        self.assertIn("GMP_CLIENT_SYNC_URL", self.load({"GMP_CLIENT_SYNC_TOKEN": "x"}).warnings[0])
