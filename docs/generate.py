"""
Makes the pages of the reference that follow from the program itself.

``python docs/generate.py`` writes ``configuration.md``, ``metrics.md``, ``faults.md`` and
``openapi.md`` of ``docs/reference``; with ``--check`` it writes nothing and fails if they are not
as they would be written.
"""

from __future__ import annotations

import sys
from pathlib import Path

import endpoints

from mailproxy.config import VARIABLES
from mailproxy.config_sources import Variable
from mailproxy.dispatch.faults import ERRORS, OPENING, TABLE, Fault
from mailproxy.metrics import Metrics

REFERENCE = Path(__file__).parent / "reference"

_CONFIGURATION = """\
# Configuration

<!-- Made by `python docs/generate.py`; do not edit. -->

A value is taken from the first of these that has one:

1. the command line (`mailproxy serve`, `twist mailproxy`, `twistd mailproxy`),
2. the environment,
3. the ini file named by `--config` or `GMP_CONFIG`, or `config.ini` in the directory the service is
   started in, if it is there,
4. the default.

An empty value counts as not given. Relative paths start in the directory the service is started in.
A wrong value stops the start with one line that names the variable. A name beginning with `GMP_`
that is not known, and an ini entry that is not read, is a warning in the log.

A **secret** can be given as a file that holds it: `GMP_API_TOKEN_FILE` in the environment,
`api_token_file` in the ini file, `--api-token-file` on the command line. On the command line this
is the only way, since everybody can see the command line of a process.

"""

_SECTIONS = {
    "server": "The API",
    "storage": "Storage",
    "security": "Security",
    "scheduler": "Sending at all",
    "client": "Delivery reports",
    "delivery": "Delivery",
    "attachments": "Attachments",
    "smtp": "Mail handed in by SMTP",
    "limits": "Limits",
    "logging": "Logging",
}

_AFTER = """\
## Generated secrets

Without `GMP_API_TOKEN` a token is made at the first start and kept in the file `api-token` of the
data directory; without `GMP_ENCRYPTION_KEY` a key is made and kept in `encryption-key`. Both files
can be read by their owner only. The log tells their paths, never their content;
`mailproxy token` shows the token. A key is made only for a new database: if the key of an existing
one is lost, the start stops, because the passwords of the accounts cannot be read without it.

To **change the key**, make a new one with
`python -c "from mailproxy.crypto import new_key; print(new_key())"`, and put it before the old one
with a comma, a space or a line's end between them. Passwords are sealed with the first key from
then on; those sealed before are still opened with the second, until they are declared again.

## Declared accounts

Accounts can be declared here instead of by `POST /account`: as sections of the ini file, or in a
file of their own that `GMP_ACCOUNTS_FILE` names.

```ini
[account smtp-main]
host = smtp.example.com
port = 587
user = relay@example.com
password_file = /run/secrets/smtp-main

[account newsletter]
tenant = shop
host = smtp.example.net
user = news
password_env = NEWSLETTER_PASSWORD
max_sessions = 2
```

The fields are those of `POST /account`, and `tenant` (else `default`). The section's name is the
id; where two tenants have an account of the same id, `id` says it. Lists are separated by commas. A
file whose name ends in `.json` holds the same as a list of objects, each with its `id`.

A password never stands in the file: `password_env` names the environment variable that holds it,
`password_file` the file. Private certificate authorities of an account are named by `ca_pem_file`.

A login with a token is declared with `auth = xoauth2` and `auth_grant`, `auth_token_url`,
`auth_client_id`, `auth_scope`; its secrets are named by `auth_client_secret_env` or `..._file` and
`auth_refresh_token_env` or `..._file`.

A field that is wrong or unknown stops the start with one line that names section and field. On
`SIGHUP` all is read again, the files of passwords too; if anything is wrong, everything stays as it
was. A declared account can be read in the API, and not changed there. One that is declared no more
stays, and can be changed and deleted through the API.

## Roots of attachments

`GMP_ATTACHMENT_ROOTS=/srv/public,shop=/srv/shop` lets every tenant attach files below
`/srv/public`, and the tenant `shop` also those below `/srv/shop`. Without roots no file of the
machine can be attached.
"""

_METRICS = """\
# Metrics

<!-- Made by `python docs/generate.py`; do not edit. -->

`GET /metrics` answers in the Prometheus text format. It needs no token, unless `GMP_METRICS_TOKEN`
is set: then that token is needed. The names that begin with `gmp_` are those that older dashboards
use; they are there from the first scrape on, at 0 for every account.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def configuration() -> str:
    """The page about the variables."""
    parts = [_CONFIGURATION]
    for section, title in _SECTIONS.items():
        rows = [_row(variable) for variable in VARIABLES if variable.section == section]
        head = f"## {title}\n\n| variable | `[{section}]` | default | |\n|---|---|---|---|\n"
        parts.append(head + "".join(rows) + "\n")
    return "".join(parts) + _AFTER


def _row(variable: Variable) -> str:
    default = variable.default_text
    if default and not variable.shown:
        default = f"`{default}`"
    secret = " Secret." if variable.secret else ""
    kind = variable.kind.says[0].upper() + variable.kind.says[1:]
    return (
        f"| `{variable.name}` | `{variable.key}` | {default or 'none'} "
        f"| {variable.says}{secret} *{kind}.* |\n"
    )


def metrics() -> str:
    """The page about the metrics."""
    rows = []
    for value in vars(Metrics()).values():
        for family in value.describe() if hasattr(value, "labels") else ():
            suffix = "_total" if family.type == "counter" else ""
            labels = ", ".join(f"`{name}`" for name in value._labelnames)
            rows.append(
                f"| `{family.name}{suffix}` | {family.type} | {labels} | {family.documentation} |\n"
            )
    return _METRICS + "".join(rows)


_FAULTS = """\
# Whose fault it is

<!-- Made by `python docs/generate.py`; do not edit. -->

When mail does not leave, the phase of the session and the server's reply decide together whose
fault it is and what follows. The program decides by this same table
(`mailproxy/dispatch/faults.py`).

**Next step** of the message, or of the recipients it concerns:

| | |
|---|---|
| done | it was accepted, or taken back |
| fail | it fails at once; reported |
| retry | tried again on the retry schedule, or when the server asked for it, up to the age limit |
| repeat | tried again at once; no attempt is counted |
| wait | it stays due and has no attempt; it goes when the account works again |
| policy | nobody knows whether it was accepted: `on_uncertain` of the account decides |
| hold | put aside for a person |

What is the **account's** fault is waited for up to `GMP_ACCOUNT_FAULT_MAX_AGE_SECONDS`, everything
else up to the age limit of the message.

**The account**:

| | |
|---|---|
| untouched | nothing is concluded |
| works | strikes are forgotten; a parked account is resumed |
| slower | half the sessions, and one point towards being parked |
| strike | half the sessions, and five points; parked at once where the reply says for how long |
| parked | nothing but one probe at a time is sent |

`GET /accounts` shows of a parked account its `state`, `parked_reason`, `parked_since`, `probe_at`.

An account is parked at 25 points without a success between them. The first probe follows after the
first of its retry delays, the next ones after twice as long each time, up to five minutes, spread
by a tenth. As many good attempts as there are sessions give one session back.

## Before anything of a message was said

Where other sessions of the account are open, one that cannot be had, but for a refused login, only
means one session less.

| phase | the server says | fault | temporary | next step | account |
|---|---|---|---|---|---|
"""

_TRANSACTION = """
## In a transaction

| phase | the server says | fault | temporary | next step | account |
|---|---|---|---|---|---|
"""

_ERRORS = """
## Errors of other kinds

| error | fault | temporary | next step | account | |
|---|---|---|---|---|---|
"""


def faults() -> str:
    """The page about whose fault it is."""
    opening: list[str] = []
    transaction: list[str] = []
    for phase, row in TABLE.items():
        rows = opening if phase in OPENING else transaction
        rows += (f"| {phase} | {said} | {_fault(fault)} |\n" for said, fault in row.items())
    errors = (f"| {each.error} | {_fault(each.fault)} | {each.meaning} |\n" for each in ERRORS)
    return "".join((_FAULTS, *opening, _TRANSACTION, *transaction, _ERRORS, *errors))


def _fault(fault: Fault) -> str:
    temporary = "yes" if fault.temporary else "no"
    return f"{fault.blame} | {temporary} | {fault.step} | {fault.standing.name.lower()}"


PAGES = {
    "configuration.md": configuration,
    "metrics.md": metrics,
    "faults.md": faults,
    "openapi.md": endpoints.page,
}


def main(argv: list[str]) -> int:
    """Write the pages, or check them; the exit status."""
    stale = 0
    for name, make in PAGES.items():
        path = REFERENCE / name
        page = make()
        if "--check" not in argv:
            path.write_text(page, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != page:
            print(f"{path} is not up to date: python docs/generate.py", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
