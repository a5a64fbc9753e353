"""The client's types and the API's: what is read is what is said."""

from __future__ import annotations

import msgspec
from msgspec.structs import fields
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api import (
    acts,
    acts_bulk,
    command_log,
    destinations,
    dkim,
    events,
    imports,
    instance,
    message,
    nodes,
    removal,
    shapes,
    shapes_accounts,
    shapes_explain,
    shapes_messages,
    shapes_tenants,
    submitters,
    suppressions,
)
from mailproxy.client import results_mail, results_service
from mailproxy.client.results import Result

#: What the API calls the client's types.
SAID: dict[type[msgspec.Struct], type[msgspec.Struct]] = {
    results_service.Status: shapes.ServiceStatus,
    results_service.Suspension: shapes.Suspended,
    results_service.Account: shapes_accounts.Account,
    results_service.AccountTaken: shapes_accounts.AccountTaken,
    results_service.AccountTest: shapes_accounts.AccountTested,
    results_service.Tenant: shapes_tenants.ShownTenant,
    results_service.TenantSync: shapes_tenants.TenantSync,
    results_service.SyncStatus: shapes_tenants.SyncStatus,
    results_service.SyncTest: shapes_tenants.SyncTested,
    results_service.Key: shapes_tenants.ShownKey,
    results_service.Credential: submitters.ShownCredential,
    results_service.DnsRecord: dkim.DnsRecord,
    results_service.DkimKey: dkim.ShownDkimKey,
    results_service.Node: nodes.ShownNode,
    results_service.Instance: instance.ShownInstance,
    results_service.Command: command_log.Command,
    results_mail.Rejection: shapes_messages.Rejection,
    results_mail.AddedItem: shapes_messages.AddedItem,
    results_mail.Added: shapes_messages.Added,
    results_mail.HistoryEvent: shapes_messages.HistoryEvent,
    results_mail.Message: shapes_messages.ShownMessage,
    results_mail.MessageView: message.OneMessage,
    results_mail.Kept: removal.Kept,
    results_mail.Deleted: removal.Deleted,
    results_mail.Removed: removal.CleanedUp,
    results_mail.ActResult: acts.ActAnswer,
    results_mail.GroupResult: acts_bulk.GroupAnswer,
    results_mail.Hold: acts_bulk.ShownHold,
    results_mail.PausedDomain: destinations.Paused,
    results_mail.DomainResult: destinations.Changed,
    results_mail.Suppression: suppressions.Suppressed,
    results_mail.SuppressionsAdded: suppressions.SuppressionsAdded,
    results_mail.SuppressionsImported: imports.Imported,
    results_mail.BadLine: imports.BadLine,
    results_mail.Event: events.EventItem,
    results_mail.Events: events.Events,
    results_mail.ExplainedRecipient: shapes_explain.ExplainedRecipient,
    results_mail.ExplainedEnvelope: shapes_explain.ExplainedEnvelope,
    results_mail.Explanation: shapes_explain.Explanation,
}


class DriftTests(SynchronousTestCase):
    def test_all_are_compared(self) -> None:
        """No type of the client is left out."""
        own = {
            each
            for module in (results_mail, results_service)
            for each in vars(module).values()
            if isinstance(each, type) and issubclass(each, Result) and each is not Result
        }
        self.assertEqual(own | {results_mail.Event}, set(SAID))

    def test_no_field_is_invented(self) -> None:
        """Every field that the client knows is one that the API has, and what it needs is there."""
        for own, said in SAID.items():
            there = {field.name: field for field in fields(said)}
            for field in fields(own):
                self.assertIn(field.name, there, own.__name__)
                if field.required:
                    may_lack = there[field.name].default is msgspec.UNSET
                    self.assertFalse(may_lack, f"{own.__name__}.{field.name}")
