"""Offline-first local sync engine: migrations, outbox and cloud sync over one SQLite file.

The names below are loaded when they are first used: `import syncengine` alone costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from syncengine.callbacks import CallbackQueue
    from syncengine.clock import Clock, SystemClock
    from syncengine.engine import Engine
    from syncengine.errors import DataAtRisk, NeedsDeveloper, NeedsUser, SyncEngineError, WillRetry
    from syncengine.firestore.backend import FirestoreBackend
    from syncengine.firestore.older_tree import BroughtOver, OlderTree, OldRow
    from syncengine.local.keys import HostKey, KeyFile, KeyProvider, KeyringKey
    from syncengine.local.resealing import ResealReport
    from syncengine.local.restore_points import RestorePoint
    from syncengine.local.restoring import RestoreReport
    from syncengine.migrate.consent import ConsentRequest
    from syncengine.migrate.declared import add, archive, cast, declared, erase, rename
    from syncengine.migrate.definition import Item, MigrationDefinition, Put, Quarantine
    from syncengine.migrate.executor import BaseMigrationExecutor
    from syncengine.migrate.online import CloudChange, CloudMigrationExecutor, CloudRow, UploadExecutor, upload
    from syncengine.migrate.plan import Plan
    from syncengine.migrate.quarantine_desk import QuarantineDesk
    from syncengine.migrate.quarantine_item import QuarantineItem, RetryOutcome
    from syncengine.migrate.readiness import CollectionState
    from syncengine.migrate.registry import Collection, ListedMigration, MigrationRegistry
    from syncengine.migrate.repair import Repair, clamp, default, trim, using
    from syncengine.migrate.reporter import MigrationProgressReporter
    from syncengine.migrate.results import MigrationProgress, MigrationReport, MigrationResult, MigrationStatus
    from syncengine.migrate.rollback_plan import RollbackPlan
    from syncengine.migrate.rollback_report import RollbackReport
    from syncengine.migrate.row_migration import migration
    from syncengine.migrate.service import DataMigrationService
    from syncengine.migrate.statistics import MigrationStatistics
    from syncengine.migrate.tables import tables
    from syncengine.migrate.work import Work
    from syncengine.remote.http_backend import HttpBackend
    from syncengine.remote.tokens import RefreshableToken
    from syncengine.settings import Settings
    from syncengine.sources import open_source
    from syncengine.sources.source import Source
    from syncengine.vocabulary import SchemaVersion

_HOME = {
    "BaseMigrationExecutor": "migrate.executor",
    "BroughtOver": "firestore.older_tree",
    "CallbackQueue": "callbacks",
    "Clock": "clock",
    "CloudChange": "migrate.online",
    "CloudMigrationExecutor": "migrate.online",
    "CloudRow": "migrate.online",
    "Collection": "migrate.registry",
    "CollectionState": "migrate.readiness",
    "ConsentRequest": "migrate.consent",
    "DataAtRisk": "errors",
    "DataMigrationService": "migrate.service",
    "Engine": "engine",
    "FirestoreBackend": "firestore.backend",
    "HostKey": "local.keys",
    "HttpBackend": "remote.http_backend",
    "Item": "migrate.definition",
    "KeyFile": "local.keys",
    "KeyProvider": "local.keys",
    "KeyringKey": "local.keys",
    "ListedMigration": "migrate.registry",
    "MigrationDefinition": "migrate.definition",
    "MigrationProgress": "migrate.results",
    "MigrationProgressReporter": "migrate.reporter",
    "MigrationRegistry": "migrate.registry",
    "MigrationReport": "migrate.results",
    "MigrationResult": "migrate.results",
    "MigrationStatistics": "migrate.statistics",
    "MigrationStatus": "migrate.results",
    "NeedsDeveloper": "errors",
    "NeedsUser": "errors",
    "OldRow": "firestore.older_tree",
    "OlderTree": "firestore.older_tree",
    "Plan": "migrate.plan",
    "Put": "migrate.definition",
    "Quarantine": "migrate.definition",
    "QuarantineDesk": "migrate.quarantine_desk",
    "QuarantineItem": "migrate.quarantine_item",
    "RefreshableToken": "remote.tokens",
    "Repair": "migrate.repair",
    "ResealReport": "local.resealing",
    "RestorePoint": "local.restore_points",
    "RestoreReport": "local.restoring",
    "RetryOutcome": "migrate.quarantine_item",
    "RollbackPlan": "migrate.rollback_plan",
    "RollbackReport": "migrate.rollback_report",
    "SchemaVersion": "vocabulary",
    "Settings": "settings",
    "Source": "sources.source",
    "SyncEngineError": "errors",
    "SystemClock": "clock",
    "UploadExecutor": "migrate.online",
    "WillRetry": "errors",
    "Work": "migrate.work",
    "add": "migrate.declared",
    "archive": "migrate.declared",
    "cast": "migrate.declared",
    "clamp": "migrate.repair",
    "declared": "migrate.declared",
    "default": "migrate.repair",
    "erase": "migrate.declared",
    "migration": "migrate.row_migration",
    "open_source": "sources",
    "rename": "migrate.declared",
    "tables": "migrate.tables",
    "trim": "migrate.repair",
    "upload": "migrate.online",
    "using": "migrate.repair",
}

__all__ = [
    "BaseMigrationExecutor",
    "BroughtOver",
    "CallbackQueue",
    "Clock",
    "CloudChange",
    "CloudMigrationExecutor",
    "CloudRow",
    "Collection",
    "CollectionState",
    "ConsentRequest",
    "DataAtRisk",
    "DataMigrationService",
    "Engine",
    "FirestoreBackend",
    "HostKey",
    "HttpBackend",
    "Item",
    "KeyFile",
    "KeyProvider",
    "KeyringKey",
    "ListedMigration",
    "MigrationDefinition",
    "MigrationProgress",
    "MigrationProgressReporter",
    "MigrationRegistry",
    "MigrationReport",
    "MigrationResult",
    "MigrationStatistics",
    "MigrationStatus",
    "NeedsDeveloper",
    "NeedsUser",
    "OldRow",
    "OlderTree",
    "Plan",
    "Put",
    "Quarantine",
    "QuarantineDesk",
    "QuarantineItem",
    "RefreshableToken",
    "Repair",
    "ResealReport",
    "RestorePoint",
    "RestoreReport",
    "RetryOutcome",
    "RollbackPlan",
    "RollbackReport",
    "SchemaVersion",
    "Settings",
    "Source",
    "SyncEngineError",
    "SystemClock",
    "UploadExecutor",
    "WillRetry",
    "Work",
    "add",
    "archive",
    "cast",
    "clamp",
    "declared",
    "default",
    "erase",
    "migration",
    "open_source",
    "rename",
    "tables",
    "trim",
    "upload",
    "using",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'syncengine' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"syncengine.{home}"), name)
    globals()[name] = found
    return found
