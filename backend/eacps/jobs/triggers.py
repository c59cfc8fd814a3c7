"""Database triggers on DBOS' workflow table, which tell our processes what changed.

On PostgreSQL they notify processes that a queue has work or that a workflow ended, so that nobody
has to poll. In both databases they note which jobs changed, for the job index.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from eacps.jobs import names

WORK_CHANNEL = "eacps_work"
"""Names queues that have work."""
ENDED_CHANNEL = "eacps_ended"
"""Names workflows that have ended."""
NAME = "eacps_changed_1"
"""When the SQL changes, increment the number and drop the triggers with the old one."""

_ENDED = ", ".join(f"'{status}'" for status in names.ENDED)
_JOBS = f"'{names.EDIT_TASK}', '{names.DELIVERY}'"

# Only what another process waits for is sent: PostgreSQL commits notifying transactions one after
# the other, and each notification costs every listening connection of the database a moment. What
# the orchestrator enqueues for itself, it knows. A notification has at most 8,000 bytes.
_POSTGRES = f"""
CREATE OR REPLACE FUNCTION dbos.{NAME}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF OLD.name IN ({_JOBS}) THEN
      INSERT INTO {{schema}}.eacps_changed_jobs (workflow) VALUES (OLD.workflow_uuid);
    END IF;
    RETURN NULL;
  END IF;
  IF TG_OP = 'UPDATE' THEN
    IF OLD.status IS NOT DISTINCT FROM NEW.status THEN
      RETURN NULL;
    END IF;
  END IF;
  IF NEW.status = 'ENQUEUED' AND NEW.name IN ('{names.EDIT_TASK}', '{names.BATCH}') THEN
    PERFORM pg_notify('{WORK_CHANNEL}', left(NEW.queue_name, 1000));
  ELSIF NEW.status = 'CANCELLED' OR (NEW.status IN ({_ENDED}) AND NEW.name = '{names.BATCH}') THEN
    PERFORM pg_notify('{ENDED_CHANNEL}', left(NEW.workflow_uuid, 1000));
  END IF;
  IF NEW.name IN ({_JOBS}) THEN
    INSERT INTO {{schema}}.eacps_changed_jobs (workflow) VALUES (NEW.workflow_uuid);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER {NAME} AFTER INSERT OR DELETE OR UPDATE OF status ON dbos.workflow_status
  FOR EACH ROW EXECUTE FUNCTION dbos.{NAME}();
"""  # noqa: S608 - only constants


def install(connection: sa.Connection) -> None:
    """Create the triggers, unless they exist, and note all jobs that were there before."""
    # Asked first, because creating a trigger waits for everybody who uses the table.
    if _exists(connection):
        return
    if connection.dialect.name == "sqlite":
        for statement in _sqlite():
            connection.exec_driver_sql(statement)
    else:
        schema = connection.execute(sa.select(sa.func.current_schema())).scalar()
        quoted = connection.dialect.identifier_preparer.quote(str(schema))
        connection.exec_driver_sql(_POSTGRES.replace("{schema}", quoted))
    note_all_jobs(connection)


def note_all_jobs(connection: sa.Connection) -> None:
    """Have the index of jobs made anew, for all jobs that are there."""
    table = "workflow_status" if connection.dialect.name == "sqlite" else "dbos.workflow_status"
    connection.exec_driver_sql(
        f"INSERT INTO eacps_changed_jobs (workflow) SELECT workflow_uuid FROM {table} "  # noqa: S608
        f"WHERE name = '{names.EDIT_TASK}'"
    )


def _exists(connection: sa.Connection) -> bool:
    sqlite = f"SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = '{NAME}_insert'"  # noqa: S608
    postgres = f"SELECT 1 FROM pg_trigger WHERE tgname = '{NAME}'"  # noqa: S608
    question = sqlite if connection.dialect.name == "sqlite" else postgres
    return connection.exec_driver_sql(question).first() is not None


def _sqlite() -> Sequence[str]:
    note = "BEGIN INSERT INTO eacps_changed_jobs (workflow) VALUES ({row}.workflow_uuid); END"
    kinds = (
        ("insert", "INSERT", "NEW", ""),
        ("update", "UPDATE OF status", "NEW", " AND OLD.status IS NOT NEW.status"),
        ("delete", "DELETE", "OLD", ""),
    )
    return [
        f"CREATE TRIGGER {NAME}_{event} AFTER {when} ON workflow_status "
        f"WHEN {row}.name IN ({_JOBS}){condition} {note.format(row=row)}"
        for event, when, row, condition in kinds
    ]
