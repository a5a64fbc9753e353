"""Where settings come from, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.config import VARIABLES, Settings, load
from mailproxy.config_check import is_local
from mailproxy.crypto import new_key
from mailproxy.errors import ConfigurationError
from tests.scratch import scratch

TOKEN = "t" * 40

#: Settings of which one without the other is a mistake.
TOGETHER = {
    "GMP_CLIENT_SYNC_USER",
    "GMP_CLIENT_SYNC_PASSWORD",
    "GMP_SMTP_TLS_CERT",
    "GMP_SMTP_TLS_KEY",
}

#: A right value for every variable, other than its default.
SAMPLES = {
    "GMP_HOST": "127.0.0.1",
    "GMP_PORT": "8025",
    "GMP_HTTP_LISTEN": "unix:/run/mailproxy.sock",
    "GMP_API_TOKEN": TOKEN,
    "GMP_METRICS_TOKEN": "metrics",
    "GMP_ALLOW_NO_TOKEN": "yes",
    "GMP_TRUSTED_PROXIES": "10.0.0.0/8,192.0.2.7",
    "GMP_CA_FILE": "ca.pem",
    "GMP_DB_PATH": "/var/lib/mailproxy/mail.db",
    "GMP_DB_CHECK_SECONDS": "2.5",
    "GMP_DATA_DIR": "/var/lib/other",
    "GMP_ALLOW_EPHEMERAL": "true",
    "GMP_ACCOUNTS_FILE": "accounts.ini",
    "GMP_REPLY_RULES": "rules.toml",
    "GMP_ENCRYPTION_KEY": f"{new_key()},{new_key()}",
    "GMP_NODE_LEASE_SECONDS": "20",
    "GMP_SCHEDULER_ACTIVE": "off",
    "GMP_CLIENT_SYNC_URL": "https://app.example/mail/proxy_sync",
    "GMP_CLIENT_SYNC_USER": "syncuser",
    "GMP_CLIENT_SYNC_PASSWORD": "syncpass",
    "GMP_CLIENT_SYNC_TOKEN": "synctoken",
    "GMP_CLIENT_SYNC_TIMEOUT": "20",
    "GMP_CLIENT_SYNC_INTERVAL": "30.5",
    "GMP_SEND_LOOP_INTERVAL": "0.25",
    "GMP_TEST_MODE": "1",
    "GMP_DEFAULT_PRIORITY": "0",
    "GMP_BATCH_SIZE_PER_ACCOUNT": "7",
    "GMP_RETRY_DELAYS": "1, 2.5,10",
    "GMP_MAX_AGE_SECONDS": "3600",
    "GMP_ACCOUNT_FAULT_MAX_AGE_SECONDS": "7200",
    "GMP_HELO_NAME": "relay.example",
    "GMP_DRAIN_SECONDS": "0",
    "GMP_DELIVERY_REPORT_RETENTION_SECONDS": "60",
    "GMP_IDEMPOTENCY_SECONDS": "61",
    "GMP_REPORT_MAX_AGE_SECONDS": "62",
    "GMP_MAX_REQUEST_BYTES": "4096",
    "GMP_MAX_BATCH": "10",
    "GMP_MAX_MESSAGE_BYTES": "2048",
    "GMP_MAX_RECIPIENTS": "3",
    "GMP_CACHE_MEMORY_MAX_MB": "0",
    "GMP_CACHE_MEMORY_TTL_SECONDS": "1.5",
    "GMP_CACHE_DISK_DIR": "/var/cache/mailproxy",
    "GMP_CACHE_DISK_MAX_MB": "4096",
    "GMP_CACHE_DISK_TTL_SECONDS": "86400",
    "GMP_ATTACHMENT_ROOTS": "/srv/all, shop=/srv/shop",
    "GMP_ATTACHMENT_ALLOW": "10.1.0.0/16, Files.Internal",
    "GMP_ATTACHMENT_MAX_BYTES": "1000000",
    "GMP_OAUTH_ALLOW": "10.2.0.0/16, Login.Internal",
    "GMP_SMTP_LISTEN": "tcp:2525:interface=127.0.0.1 haproxy:tcp:2526",
    "GMP_SMTP_TLS_CERT": "door.pem",
    "GMP_SMTP_TLS_KEY": "door.key",
    "GMP_SMTP_ALLOW": "192.0.2.0/24,127.0.0.1",
    "GMP_SMTP_PLAINTEXT_AUTH": "127.0.0.0/8",
    "GMP_SMTP_MAX_CONNECTIONS": "500",
    "GMP_SMTP_MAX_PER_PEER": "10",
    "GMP_LOG_LEVEL": "debug",
    "GMP_LOG_FORMAT": "JSON",
    "GMP_LOG_DELIVERY_ACTIVITY": "true",
}


class ConfigCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.cwd = scratch(self)

    def load(
        self, environ: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
    ) -> Settings:
        """Settings for this environment, on a machine without ``/data``, called ``mx.example``."""
        return load(
            environ or {},
            options,
            self.cwd,
            volume=self.cwd / "no-volume",
            hostname=lambda: "mx.example",
        )

    def write(self, name: str, text: str) -> Path:
        path = self.cwd / name
        path.write_text(text, encoding="utf-8")
        return path

    def refused(
        self, environ: Mapping[str, str], options: Mapping[str, str] | None = None
    ) -> ConfigurationError:
        """The error that a start with *environ* ends with; always one printable line."""
        with self.assertRaises(ConfigurationError) as caught:
            self.load(environ, options)
        error: ConfigurationError = caught.exception
        self.assertTrue(str(error).isprintable(), str(error))
        return error


class DefaultTests(ConfigCase):
    def test_defaults_of_the_contract(self) -> None:
        """Without any configuration the values are those the contract names."""
        settings = self.load()
        self.assertEqual(("0.0.0.0", 8000), (settings.host, settings.port))
        self.assertEqual(("tcp:8000:interface=0.0.0.0:backlog=1024",), settings.listen)
        self.assertIsNone(settings.api_token)
        self.assertFalse(settings.allow_no_token)
        self.assertEqual(self.cwd / "data/mail_service.db", settings.db_path)
        self.assertEqual(self.cwd / "data", settings.data_dir)
        self.assertTrue(settings.scheduler_active)
        self.assertEqual(
            (300.0, 300.0), (settings.client_sync_timeout, settings.client_sync_interval)
        )
        self.assertEqual(0.5, settings.send_loop_interval)
        self.assertEqual((2, 50), (settings.default_priority, settings.batch_size_per_account))
        self.assertEqual((60, 300, 900, 3600, 7200, 14400), settings.retry_delays)
        self.assertEqual(86400, settings.max_age_seconds)
        self.assertEqual(432000, settings.account_fault_max_age_seconds)
        self.assertEqual(("mx.example", 25), (settings.helo_name, settings.drain_seconds))
        self.assertEqual(604800, settings.delivery_report_retention_seconds)
        self.assertEqual(2592000, settings.idempotency_seconds)
        self.assertEqual(2592000, settings.report_max_age_seconds)
        self.assertEqual((67108864, 10000), (settings.max_request_bytes, settings.max_batch))
        self.assertEqual((52428800, 1000), (settings.max_message_bytes, settings.max_recipients))
        self.assertEqual(("INFO", False), (settings.log_level, settings.log_delivery_activity))
        self.assertEqual((50, 300), (settings.cache_memory_max_mb,
                                     settings.cache_memory_ttl_seconds))  # fmt: skip
        self.assertEqual((None, 500, 3600), (settings.cache_disk_dir, settings.cache_disk_max_mb,
                                             settings.cache_disk_ttl_seconds))  # fmt: skip
        self.assertEqual(((), ()), (settings.attachment_roots, settings.attachment_allow))
        self.assertEqual((26214400, ()), (settings.attachment_max_bytes, settings.accounts))
        self.assertEqual((), settings.warnings)

    def test_volume(self) -> None:
        """Where the volume exists the database lies on it, and the data directory with it."""
        volume = self.cwd / "volume"
        volume.mkdir()
        settings = load({}, cwd=self.cwd, volume=volume)
        self.assertEqual(volume / "mail_service.db", settings.db_path)
        self.assertEqual(volume, settings.data_dir)

    def test_data_dir_follows_the_database(self) -> None:
        """Token and key lie beside the database unless told otherwise; paths become absolute."""
        settings = self.load({"GMP_DB_PATH": "var/m.db"})
        self.assertEqual(self.cwd / "var", settings.data_dir)
        self.assertEqual(self.cwd / "var/api-token", settings.token_file)
        apart = self.load({"GMP_DB_PATH": "var/m.db", "GMP_DATA_DIR": "/etc/mailproxy"})
        self.assertEqual(Path("/etc/mailproxy/encryption-key"), apart.key_file)

    def test_unusable_host_name(self) -> None:
        """A host whose name is no domain calls itself localhost, and says so."""
        settings = load({}, cwd=self.cwd, hostname=lambda: "my_host")
        self.assertEqual("localhost", settings.helo_name)
        self.assertIn("GMP_HELO_NAME", settings.warnings[0])


class SourceTests(ConfigCase):
    def test_samples_are_complete(self) -> None:
        """Every variable has a sample in these tests."""
        names = {variable.name for variable in VARIABLES}
        self.assertEqual(names, set(SAMPLES))

    def test_every_setting_is_in_force(self) -> None:
        """Every setting is read by the program somewhere, not only by its configuration."""
        root = Path(__file__).parent.parent / "mailproxy"
        readers = (
            *("service", "service_parts", "service_attachments", "service_submission"),
            *("service_machine", "service_store"),
            *("tap", "config", "config_secrets", "cli/container"),
        )
        text = "".join((root / f"{name}.py").read_text() for name in readers)
        for variable in VARIABLES:
            if variable.field != "accounts_file":  # read where it is read
                self.assertRegex(text, rf"(settings|self)\.{variable.field}\b")

    def sample(self, name: str) -> str:
        if name == "GMP_CA_FILE":
            return str(make_ca(self.cwd))
        if name == "GMP_ACCOUNTS_FILE":
            self.write(SAMPLES[name], "[account main]\nhost = smtp.example\n")
        if name == "GMP_REPLY_RULES":
            self.write(SAMPLES[name], "[[rule]]\nname = 'n'\ncodes = ['421']\naction = 'slow'\n")
        if name in ("GMP_SMTP_TLS_CERT", "GMP_SMTP_TLS_KEY"):
            self.write(SAMPLES[name], "PEM\n")
        return SAMPLES[name]

    def test_every_variable_from_every_source(self) -> None:
        """Environment, ini file and command line give the same value, other than the default."""
        for variable in VARIABLES:
            if variable.name in TOGETHER:
                continue  # only together: see below
            text = self.sample(variable.name)
            extra = {"GMP_HOST": "127.0.0.1"} if variable.name == "GMP_ALLOW_NO_TOKEN" else {}
            with self.subTest(variable.name):
                default = getattr(self.load(extra), variable.field)
                by_env = getattr(self.load({**extra, variable.name: text}), variable.field)
                self.assertNotEqual(default, by_env)
                ini = self.write("my.ini", f"[{variable.section}]\n{variable.key} = {text}\n")
                by_ini = getattr(self.load({**extra, "GMP_CONFIG": str(ini)}), variable.field)
                self.assertEqual(by_env, by_ini)
                given = str(self.write("secret", text + "\n")) if variable.secret else text
                by_option = self.load(extra, {variable.option: given})
                self.assertEqual(by_env, getattr(by_option, variable.field))

    def test_all_at_once(self) -> None:
        """All variables can be set together, without a warning but the one that is deserved."""
        environ = {name: self.sample(name) for name in SAMPLES}
        settings = self.load(environ)
        self.assertEqual(("unix:/run/mailproxy.sock",), settings.listen)
        self.assertEqual(
            ("syncuser", "syncpass"), (settings.client_sync_user, settings.client_sync_password)
        )
        self.assertEqual((1.0, 2.5, 10.0), settings.retry_delays)
        self.assertEqual("DEBUG", settings.log_level)
        roots = ((None, Path("/srv/all")), ("shop", Path("/srv/shop")))
        self.assertEqual(roots, settings.attachment_roots)
        self.assertEqual(("10.1.0.0/16", "files.internal"), settings.attachment_allow)
        self.assertEqual(["main"], [account.id for account in settings.accounts])
        self.assertEqual((), settings.warnings)

    def test_order(self) -> None:
        """The command line wins over the environment, that over the ini file."""
        self.write("config.ini", "[server]\nport = 1\n")
        self.assertEqual(1, self.load().port)
        self.assertEqual(2, self.load({"GMP_PORT": "2"}).port)
        self.assertEqual(3, self.load({"GMP_PORT": "2"}, {"port": "3"}).port)

    def test_a_file_in_a_stronger_source_wins(self) -> None:
        """GMP_API_TOKEN_FILE in the environment beats a token in the ini file."""
        self.write("config.ini", "[server]\napi_token = weak\n")
        self.write("token", f"\n{TOKEN}\n")
        self.assertEqual(TOKEN, self.load({"GMP_API_TOKEN_FILE": "token"}).api_token)

    def test_ini_file_for_a_secret(self) -> None:
        """An ini entry may name a secret's file as well."""
        self.write("config.ini", "[server]\napi_token_file = token\n")
        self.write("token", TOKEN)
        self.assertEqual(TOKEN, self.load().api_token)

    def test_empty_means_absent(self) -> None:
        """An empty variable, as container descriptions leave behind, is as if it were not set."""
        settings = self.load({"GMP_PORT": "", "GMP_API_TOKEN": " ", "GMP_CLIENT_SYNC_URL": ""})
        self.assertEqual(self.load(), settings)

    def test_config_option(self) -> None:
        """--config names the ini file, and wins over GMP_CONFIG."""
        self.write("a.ini", "[server]\nport = 1\n")
        self.write("b.ini", "[server]\nport = 2\n")
        self.assertEqual(2, self.load({"GMP_CONFIG": "a.ini"}, {"config": "b.ini"}).port)

    def test_percent_signs(self) -> None:
        """A percent sign in an ini value is a percent sign."""
        self.write("config.ini", "[client]\nclient_sync_user=u\nclient_sync_password=a%b%(c)s\n")
        self.assertEqual("a%b%(c)s", self.load().client_sync_password)


class SettingsTests(ConfigCase):
    def test_secrets_do_not_show(self) -> None:
        """The repr of settings shows no secret."""
        environ = {
            variable.name: SAMPLES[variable.name] for variable in VARIABLES if variable.secret
        }
        text = repr(self.load({**environ, "GMP_CLIENT_SYNC_USER": "syncuser"}))
        for secret in environ.values():
            self.assertNotIn(secret, text)
        self.assertEqual(5, len(environ))

    def test_listen(self) -> None:
        """Host and port become an endpoint description, IPv6 and names included."""
        self.assertEqual(
            (r"tcp6:0:interface=\:\::backlog=1024",),
            self.load({"GMP_HOST": "::", "GMP_PORT": "0"}).listen,
        )
        (listen,) = self.load({"GMP_HOST": "localhost"}).listen
        self.assertIn("interface=localhost", listen)

    def test_several_doors(self) -> None:
        """The API listens wherever it is told to; it is local if all of its doors are."""
        text = "unix:/run/mailproxy.sock  tcp:0:interface=127.0.0.1"
        settings = self.load({"GMP_HTTP_LISTEN": text, "GMP_HOST": "0.0.0.0"})
        self.assertEqual(tuple(text.split()), settings.listen)
        self.assertTrue(settings.local)
        self.assertFalse(self.load({"GMP_HTTP_LISTEN": f"{text} tcp:0"}).local)

    def test_service_links(self) -> None:
        """What Kubernetes sets for a Service called ``gmp`` is refused, with the reason."""
        with self.assertRaises(ConfigurationError) as caught:
            self.load({"GMP_PORT": "tcp://10.0.0.7:8000"})
        self.assertIn("GMP_PORT", str(caught.exception))
        self.assertIn("enableServiceLinks: false", str(caught.exception))
        settings = self.load({"GMP_SERVICE_HOST": "10.0.0.7", "GMP_PORT_8000_TCP_PORT": "8000"})
        self.assertEqual(8000, settings.port)
        self.assertEqual(2, len(settings.warnings))

    def test_is_local(self) -> None:
        """Loopback addresses and Unix sockets are local; what is not known to be is not."""
        for listen in (
            "unix:/run/x.sock:mode=660",
            "tcp:8000:interface=127.0.0.1",
            r"tcp6:8000:interface=\:\:1:backlog=5",
            "haproxy:tcp:8000:interface=localhost",
            "haproxy:unix:/x",
        ):
            self.assertTrue(is_local(listen), listen)
        for listen in (
            "tcp:8000",
            "tcp:8000:interface=0.0.0.0",
            r"tcp6:8000:interface=\:\:",
            "tcp:8000:interface=10.0.0.1",
            "systemd:domain=INET:index=0",
            "haproxy:tcp:8000",
            "tcp:8000:interface=example.com",
        ):
            self.assertFalse(is_local(listen), listen)


def make_ca(directory: Path) -> Path:
    """A PEM file with one self-signed certificate."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test CA")])
    start = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    path = directory / "ca.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path
