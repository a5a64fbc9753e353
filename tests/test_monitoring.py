"""What Prometheus is asked and warned of, in its own program."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.metrics import Metrics
from tests.need import need_program
from tests.promql import Query, read
from tests.scratch import scratch
from tests.test_architecture import ROOT
from tests.test_docs import heading_anchor

PLACE = ROOT / "deploy" / "prometheus"

#: What Prometheus itself knows of what it scrapes.
OWN = {"up": frozenset[str]()}

#: Labels that every series has, from the scrape.
SCRAPED = frozenset(("job", "instance"))


def series() -> dict[str, frozenset[str]]:
    """The name of every series that we make, with its labels."""
    found = dict(OWN)
    for value in vars(Metrics()).values():
        for family in value.describe() if hasattr(value, "labels") else ():
            labels = frozenset(value._labelnames)
            if family.type == "counter":
                found[f"{family.name}_total"] = labels
            elif family.type == "histogram":
                found[f"{family.name}_bucket"] = labels | {"le"}
                found[f"{family.name}_sum"] = found[f"{family.name}_count"] = labels
            else:
                found[family.name] = labels
    return found


def unknown(query: Query, known: Mapping[str, frozenset[str]]) -> set[str]:
    """Metrics and labels of a query that are none of ours."""
    wrong = {name for name in query.metrics if name not in known}
    allowed = SCRAPED.union(*(known.get(name, frozenset()) for name in query.metrics))
    for name, labels in query.matched:
        wrong |= {f"{name}: {label}" for label in labels - known.get(name, frozenset()) - SCRAPED}
    return wrong | {f"by: {label}" for label in query.grouped - allowed}


def promtool(*arguments: object, cwd: Path | None = None) -> str:
    """What ``promtool`` says. :raises AssertionError: it fails."""
    argv = [need_program("promtool"), *map(str, arguments)]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise AssertionError(f"{argv}: {done.stdout}{done.stderr}")
    return done.stdout


class QueryTests(SynchronousTestCase):
    def test_read(self) -> None:
        """Names, labels and groups of a query are found; functions and numbers are none."""
        query = read(
            'sum by (le, instance) (rate(a_bucket{x="1", y!~"by (z) b{"}[5m])) > 1e3 '
            "and on (w) b unless c offset 1h or histogram_quantile(0.9, d) == bool 1"
        )
        self.assertEqual({"a_bucket", "b", "c", "d"}, query.metrics)
        self.assertEqual({("a_bucket", frozenset(("x", "y")))}, query.matched)
        self.assertEqual({"le", "instance", "w"}, query.grouped)

    def test_what_is_not_ours(self) -> None:
        """A metric or label that we do not have is found."""
        wrong = unknown(
            read('sum by (hue) (gmp_sent_total{colour="red"}) + gmp_send_total'), series()
        )
        self.assertEqual({"gmp_send_total", "gmp_sent_total: colour", "by: hue"}, wrong)


class AlertTests(SynchronousTestCase):
    rules: ClassVar[list[dict[str, Any]]]

    @classmethod
    def setUpClass(cls) -> None:
        (group,) = yaml.safe_load((PLACE / "alerts.yml").read_text())["groups"]
        cls.rules = group["rules"]

    def test_taken(self) -> None:
        """Prometheus takes the configuration and the rules."""
        promtool("check", "config", PLACE / "prometheus.yml")

    def test_metrics_exist(self) -> None:
        """Every rule asks for what is measured, by labels that it has."""
        known = series()
        for rule in self.rules:
            self.assertEqual(set(), unknown(read(rule["expr"]), known), rule["alert"])

    def test_what_to_do(self) -> None:
        """Every alert has a severity, a line for people, and a section that says what to do."""
        page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
        headings = re.findall(r"(?m)^## (.*)$", page)
        self.assertEqual([rule["alert"] for rule in self.rules], headings)
        for rule in self.rules:
            self.assertIn(rule["labels"]["severity"], ("critical", "warning"))
            notes = rule["annotations"]
            self.assertTrue(notes["summary"] and notes["description"])
            self.assertEqual(
                f"docs/alerts.md#{heading_anchor(rule['alert'])}", notes["runbook_url"]
            )


ACCOUNT = 'tenant_id="shop", account_id="main"'

#: Both nodes up and nothing to complain of, a sample each minute.
WELL = {
    'up{job="mailproxy", instance="node1:8000"}': "1x90",
    'up{job="mailproxy", instance="node2:8000"}': "1x90",
    f"gmp_sent_total{{{ACCOUNT}}}": "0+60x90",
    f"gmp_errors_total{{{ACCOUNT}}}": "0+1x90",
    "gmp_pending_messages": "100x90",
    f"mailproxy_accounts_parked{{{ACCOUNT}}}": "0x90",
    f"mailproxy_account_breaker{{{ACCOUNT}}}": "0x90",
    "mailproxy_queue_oldest_due_seconds": "3x90",
    "mailproxy_report_lag_seconds": "20x90",
    "mailproxy_quarantined_total": "0x90",
    'mailproxy_store_failures_total{instance="node1:8000"}': "0x90",
    'mailproxy_store_commit_seconds_bucket{instance="node1:8000", le="0.1"}': "0+60x90",
    'mailproxy_store_commit_seconds_bucket{instance="node1:8000", le="1"}': "0+60x90",
    'mailproxy_store_commit_seconds_bucket{instance="node1:8000", le="+Inf"}': "0+60x90",
    'mailproxy_http_requests_total{route="/status", status="200"}': "0+10x90",
    'mailproxy_submission_refused_total{reason="login"}': "0+0.1x90",
}

#: For each alert what is otherwise than in :data:`WELL` after a while.
ILL: dict[str, dict[str, str]] = {
    "MailproxyNodeDown": {'up{job="mailproxy", instance="node1:8000"}': "1x9 0x80"},
    "MailproxyAccountParked": {f"mailproxy_accounts_parked{{{ACCOUNT}}}": "0x9 1x80"},
    "MailproxyAccountLeftAlone": {f"mailproxy_account_breaker{{{ACCOUNT}}}": "0x9 2x80"},
    "MailproxySessionsFail": {
        f'mailproxy_smtp_session_failures_total{{{ACCOUNT}, phase="connect"}}': "0x9 0+2x80"
    },
    "MailproxyMailFails": {f"gmp_errors_total{{{ACCOUNT}}}": "0+1x9 10+40x80"},
    "MailproxyQueueStuck": {"mailproxy_queue_oldest_due_seconds": "3x9 3+60x80"},
    "MailproxyQueueGrows": {"gmp_pending_messages": "100x9 100+500x80"},
    # A counter that is there only once it has counted.
    "MailproxyUncertain": {f"mailproxy_uncertain_total{{{ACCOUNT}}}": "_x40 1x50"},
    "MailproxyQuarantined": {"mailproxy_quarantined_total": "0x40 1x50"},
    "MailproxyReportsNotTaken": {"mailproxy_report_lag_seconds": "20x9 20+60x80"},
    "MailproxyReportsRefused": {'mailproxy_parked_events_total{tenant_id="shop"}': "_x40 2x50"},
    "MailproxyStoreFails": {'mailproxy_store_failures_total{instance="node1:8000"}': "0x66 0+1x20"},
    "MailproxyStoreSlow": {
        'mailproxy_store_commit_seconds_bucket{instance="node1:8000", le="0.1"}': "0x90"
    },
    "MailproxyApiFails": {'mailproxy_http_requests_total{route="/x", status="503"}': "0+5x90"},
    "MailproxyGuessing": {'mailproxy_submission_refused_total{reason="login"}': "0x9 0+10x80"},
}


class FiringTests(SynchronousTestCase):
    def firing(self, series: Mapping[str, str], minute: int = 75) -> dict[str, Any]:
        """One case for ``promtool test rules``; what fires is filled in by the caller."""
        return {
            "interval": "1m",
            "input_series": [{"series": key, "values": text} for key, text in series.items()],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": f"{minute}m",
                    "exp_samples": [],
                }
            ],
        }

    def run_cases(self, cases: list[dict[str, Any]]) -> None:
        file = scratch(self) / "test.yml"
        rules = [str(PLACE / "alerts.yml")]
        plan = {"rule_files": rules, "evaluation_interval": "1m", "tests": cases}
        file.write_text(yaml.safe_dump(plan))
        promtool("test", "rules", file)

    def test_each_fires(self) -> None:
        """While all is well nothing fires; of each thing that goes wrong its own alert tells."""
        cases = [self.firing(WELL)]
        for alert, change in ILL.items():
            cases.append(self.firing(WELL | change))
            cases[-1]["promql_expr_test"][0]["exp_samples"] = [
                {"labels": f'{{alertname="{alert}"}}', "value": 1}
            ]
        self.run_cases(cases)

    def test_nobody_there(self) -> None:
        """That no node answers is told even where they are not known at all."""
        down = {key: "1x9 0x80" for key in WELL if key.startswith("up{")}
        case = self.firing(WELL | down)
        both = [
            {"labels": '{alertname="MailproxyDown"}', "value": 1},
            {"labels": '{alertname="MailproxyNodeDown"}', "value": 2},
        ]
        case["promql_expr_test"][0]["exp_samples"] = both
        gone = self.firing({}, 30)
        gone["promql_expr_test"][0]["exp_samples"] = both[:1]
        self.run_cases([case, gone])

    def test_a_wrong_expectation_is_found(self) -> None:
        """The cases can fail."""
        case = self.firing(WELL)
        case["promql_expr_test"][0]["exp_samples"] = [{"labels": '{alertname="X"}', "value": 1}]
        with self.assertRaises(AssertionError):
            self.run_cases([case])

    def test_every_alert_is_tried(self) -> None:
        """No alert is without a case."""
        (group,) = yaml.safe_load((PLACE / "alerts.yml").read_text())["groups"]
        self.assertEqual({rule["alert"] for rule in group["rules"]}, {*ILL, "MailproxyDown"})


class DashboardTests(SynchronousTestCase):
    """The dashboard for Grafana: every query of it, and whether one sees it all."""

    board: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        cls.board = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())

    def queries(self) -> dict[str, str]:
        """Every query, by panel and target."""
        found = {}
        for panel in self.board["panels"]:
            for target in panel.get("targets", ()):
                found[f"{panel['title']} {target['refId']}"] = target["expr"]
        return found

    def test_metrics_exist(self) -> None:
        """Every query asks for what is measured, by labels that it has; Prometheus takes it."""
        known = series()
        rules: list[dict[str, str]] = []
        for name, text in self.queries().items():
            plain = text.replace("$__rate_interval", "5m")
            plain = plain.replace("$tenant", ".*").replace("$account", ".*")
            self.assertNotIn("$", plain)
            query = read(plain)
            self.assertTrue(query.metrics, name)
            self.assertEqual(set(), unknown(query, known), name)
            rules.append({"record": f"panel:{len(rules)}", "expr": plain})
        self.assertGreater(len(rules), 20)
        file = scratch(self) / "rules.yml"
        file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
        promtool("check", "rules", file)

    def test_names_of_series(self) -> None:
        """What a legend names is a label that the query keeps."""
        for panel in self.board["panels"]:
            for target in panel.get("targets", ()):
                for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                    self.assertIn(label, read(target["expr"]).grouped, panel["title"])

    def test_variables(self) -> None:
        """The choices on top are made from labels that there are, and each is used."""
        known = series()
        text = " ".join(self.queries().values())
        for variable in self.board["templating"]["list"]:
            (asked, label) = re.fullmatch(
                r"label_values\((.*), (\w+)\)", variable["query"]["query"]
            ).groups()  # type: ignore[union-attr]
            (name,) = read(asked).metrics
            self.assertIn(label, known[name])
            self.assertIn(f"${variable['name']}", text)

    def test_nothing_is_hidden(self) -> None:
        """No panel lies over another, none leaves the page, and each has its own number."""
        taken: set[tuple[int, int]] = set()
        for panel in self.board["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
            self.assertEqual(set(), cells & taken, panel["title"])
            self.assertLessEqual(at["x"] + at["w"], 24)
            taken |= cells
        numbers = [panel["id"] for panel in self.board["panels"]]
        self.assertEqual(len(numbers), len(set(numbers)))

    def test_source(self) -> None:
        """Every panel asks the source that Grafana is given."""
        place = ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml"
        (source,) = yaml.safe_load(place.read_text())["datasources"]
        wanted = {"type": source["type"], "uid": source["uid"]}
        for panel in self.board["panels"]:
            for each in (panel, *panel.get("targets", ())):
                self.assertEqual(wanted, each.get("datasource", wanted))
