"""
The contract of :class:`~mailproxy.interfaces.IStore`, as tests that every store runs.

A backend writes a factory (:class:`~tests.contracts_base.StoreFactory`) and one class for each
contract listed in :data:`CONTRACTS`; ``tests/test_contracts.py`` does so for the fake. Only the
interface, a fake clock and the factory are used.

Where interface, design and wire contract leave room, the suite holds to this:

* Reasons of rejection: ``account not found``, ``tenant not found``, ``tenant inactive``. A sent or
  removed message posted with other content: *duplicate*, ``differs``.
* ``expires_at`` = max(accepted_at, not_before) + the age limit; the account's own limit wins. Time
  spent suspended is added. A new generation is accepted anew: its age and attempts start over.
* In flight and the same content: *queued*. With nothing changed a lease is kept; a changed
  priority, time or batch voids it. A retry is not brought forward by posting the id again.
* Failed, and everybody in the new element has accepted already: *queued* or *duplicate*, both count
  as queued; nothing is sent and the final event is offered again.
* An event that is reported again keeps its ``event_id`` and gets a new pk, so that the ack of a
  report that was open meanwhile does not cover it. The final event of a removed message is
  reported again from its tombstone.
* A removed message that was not accepted by all, posted again: *queued* for those who are left,
  with the same Message-ID.
* Who accepted in any generation is remembered over all later ones, and over removal; so is who may
  have, until an operator's resend or closing ends the doubt.
* The error of a final item begins with ``Record.reason`` if there is one; then each refused
  recipient with its reply; then who accepted.
* An unreported event keeps saying what it said when it was made, also after a new generation began.
* Which event is a message's newest is settled by the order in which they were made, not by a clock
  that may have been set back between two process starts.
* Mail of a deleted account that upkeep has not come to fails at once when its id is posted again;
  what is posted is a new generation on the account that is there now.
* A deferral that is not to be reported does not count as reported: its reason is still new.
* Late evidence is believed if it is of the last intent stored for the message, whatever has been
  decided in between, as long as the recipient is not final; a hold ends when nothing is in doubt.
* ``release`` does not take back an intent.
* A parked account is claimable, and begins, from its ``probe_at`` on.
* ``activate(tenant, None)`` ends the suspension of the tenant's single batches too;
  ``activate(None, None)`` does not end that of a tenant.
* A listing's "newest first" is by when the message ended.
"""

from __future__ import annotations

from tests.contracts_accounts import (
    AccountsContract,
    DefaultAccountContract,
    ParkingContract,
)
from tests.contracts_acts import ACT_CONTRACTS
from tests.contracts_acts_bulk import GROUP_CONTRACTS
from tests.contracts_base import StoreContract, StoreFactory
from tests.contracts_bounces import BouncesContract, QuietContract
from tests.contracts_declared import DeclaredContract
from tests.contracts_deleted import DeletedAccountContract
from tests.contracts_destinations import DestinationContract
from tests.contracts_dkim import SigningKeysContract
from tests.contracts_doubted import DoubtedAgainContract
from tests.contracts_ended import EndedAgainContract, RemovedAgainContract
from tests.contracts_eventlog import EventLogContract
from tests.contracts_files import FilesContract
from tests.contracts_intake import AgeContract, ClaimedContract, IntakeContract
from tests.contracts_items import DeferralItemContract, FinalItemContract
from tests.contracts_keys import CommandLogContract, KeysContract
from tests.contracts_leases import ReportLeaseContract
from tests.contracts_limits import LimitsContract, RejectingContract, TenantLimitsContract
from tests.contracts_not_after import NotAfterContract
from tests.contracts_once import MailTestContract, OnceContract
from tests.contracts_outcomes import OutcomeContract
from tests.contracts_overdue import OverdueContract
from tests.contracts_prepared import FetchedInVainContract, PreparedContract
from tests.contracts_queue import ClaimOrderContract, DueContract, IntentContract, LeaseContract
from tests.contracts_removal import CleanupContract, RememberedContract, RemoveContract
from tests.contracts_reports import AckContract
from tests.contracts_same_id import WaitingAgainContract
from tests.contracts_status import (
    CountsContract,
    ListingContract,
    NodesContract,
    RetentionContract,
)
from tests.contracts_submitters import SubmittersContract
from tests.contracts_suppressions import (
    RefusedContract,
    SuppressedContract,
    SuppressionListContract,
)
from tests.contracts_suspension import SuspensionContract
from tests.contracts_tenants import (
    InactiveTenantContract,
    TenantRetentionContract,
    TenantsContract,
)
from tests.contracts_tenants_deleted import DeletedTenantContract
from tests.contracts_through import ThroughContract
from tests.contracts_timeline import TimelineContract
from tests.contracts_uncertain import LateContract, UncertainContract

#: Every part of the contract.
CONTRACTS: tuple[type[StoreContract], ...] = (
    AccountsContract,
    DefaultAccountContract,
    ParkingContract,
    DeletedAccountContract,
    IntakeContract,
    ClaimedContract,
    AgeContract,
    WaitingAgainContract,
    EndedAgainContract,
    RemovedAgainContract,
    DoubtedAgainContract,
    ClaimOrderContract,
    DueContract,
    LeaseContract,
    IntentContract,
    OutcomeContract,
    UncertainContract,
    LateContract,
    FinalItemContract,
    DeferralItemContract,
    AckContract,
    ReportLeaseContract,
    SuspensionContract,
    CountsContract,
    NodesContract,
    ListingContract,
    RetentionContract,
    TenantsContract,
    InactiveTenantContract,
    TenantRetentionContract,
    DeletedTenantContract,
    KeysContract,
    SubmittersContract,
    SigningKeysContract,
    CommandLogContract,
    DeclaredContract,
    CleanupContract,
    RememberedContract,
    RemoveContract,
    EventLogContract,
    MailTestContract,
    OnceContract,
    FetchedInVainContract,
    PreparedContract,
    FilesContract,
    DestinationContract,
    BouncesContract,
    QuietContract,
    RefusedContract,
    SuppressedContract,
    SuppressionListContract,
    ThroughContract,
    NotAfterContract,
    OverdueContract,
    *ACT_CONTRACTS,
    *GROUP_CONTRACTS,
    TimelineContract,
    LimitsContract,
    RejectingContract,
    TenantLimitsContract,
)


def contract_tests(factory: type[StoreFactory], base: type, module: str) -> dict[str, type]:
    """
    One test class for each contract, to be put into a test module's namespace.

    :param factory: how the backend makes its store; a mixin.
    :param base: the ``TestCase`` to run under.
    :param module: ``__name__`` of the test module.
    """
    made = {}
    for contract in CONTRACTS:
        name = contract.__name__.removesuffix("Contract") + "Tests"
        body = {"__module__": module, "__doc__": contract.__doc__}
        made[name] = type(name, (factory, contract, base), body)
    return made


__all__ = ["CONTRACTS", "StoreContract", "StoreFactory", "contract_tests"]
