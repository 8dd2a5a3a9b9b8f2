"""The proof's witness and ledger where the server's database is PostgreSQL: read by statements of their own."""

from simulator.processes import ProcessFailed
from simulator.proof import CloudLedger
from syncengine.clock import SystemClock
from syncengine.errors import SyncEngineError
from syncengine.server.console import tries_untold
from syncengine.server.databases import open_storage
from syncengine.server.storage import DatabaseUnavailable

WITNESS_SQL = """
CREATE TABLE witness (tenant TEXT, collection TEXT, key TEXT, version BIGINT);
CREATE FUNCTION note_in_witness() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO witness VALUES (NEW.tenant, NEW.collection, NEW.key, NEW.version);
  RETURN NEW;
END $$;
CREATE FUNCTION forget_in_witness() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM witness WHERE (tenant, collection, key, version) = (OLD.tenant, OLD.collection, OLD.key, OLD.version);
  RETURN OLD;
END $$;
CREATE TRIGGER witness_of_rows AFTER INSERT OR UPDATE ON document FOR EACH ROW EXECUTE FUNCTION note_in_witness();
CREATE TRIGGER witness_of_taken_back AFTER DELETE ON document FOR EACH ROW EXECUTE FUNCTION forget_in_witness();
"""


def place_witness_in(address: str) -> None:
    """Triggers note each writing of each row. Raises ProcessFailed where somebody's rows are there already, and
    where the database cannot be used."""
    try:
        with tries_untold():
            storage = open_storage(address, clock=SystemClock())
    except (SyncEngineError, DatabaseUnavailable) as error:
        raise ProcessFailed(str(error)) from error
    import psycopg

    try:
        if storage.users():
            raise ProcessFailed("The database has users already: give the demo an empty one.")
    finally:
        storage.close()
    with psycopg.connect(address) as connection:
        connection.execute(WITNESS_SQL)


def read_ledger_in(address: str, *, user: str) -> CloudLedger:
    """What the server's database says of one user, and what the witness in it has seen."""
    import psycopg

    with psycopg.connect(address) as connection:
        connection.execute("SELECT set_config('app.tenant', %s, true)", (user,))
        counted = connection.execute(
            "SELECT coalesce(sum(entries), 0), count(*) FILTER (WHERE outcome = 'rejected') FROM receipt"
        ).fetchone()
        effects = connection.execute(
            "SELECT collection, key, count(*) FROM witness WHERE tenant = %s GROUP BY collection, key", (user,)
        ).fetchall()
    receipts, rejected = counted or (0, 0)
    return CloudLedger(
        effects={(name, key): count for name, key, count in effects}, receipts=int(receipts), rejected=rejected
    )
