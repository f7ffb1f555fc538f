"""The guards of SECURITY.md's section PostgreSQL: what the roles of the schema rowcast may do."""

from . import Mutant

ESCALATION = ["-p", "rowcast-store", "--test", "it", "--", "cases::escalation"]
RIGHTS = ["-p", "rowcast-store", "--test", "it", "--", "rights::"]

MUTANTS = [
    Mutant(
        "rights: the public may call nothing of the schema rowcast",
        "migrations/V3__watch.sql",
        "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA rowcast FROM PUBLIC;",
        "",
        RIGHTS,
    ),
    Mutant(
        "rights: generated trigger functions belong to the table's owner, whoever watches",
        "migrations/V3__watch.sql",
        "EXECUTE format('ALTER FUNCTION rowcast_triggers.%I() OWNER TO %s', name, owner);",
        "NULL;",
        ESCALATION,
    ),
    Mutant(
        "rights: nobody else may hang a generated function on a table",
        "migrations/V3__watch.sql",
        "    EXECUTE format('REVOKE EXECUTE ON FUNCTION rowcast_triggers.%I() FROM PUBLIC', name);\n",
        "",
        ESCALATION,
    ),
    Mutant(
        "rights: a generated function that hangs on another table does nothing",
        "migrations/V3__watch.sql",
        "                SELECT FROM above WHERE above.oid IN (%1$s, to_regclass(%2$L))) THEN",
        "                SELECT FROM above) THEN",
        ESCALATION,
    ),
    Mutant(
        "rights: nobody tells of somebody else's table that it is watched",
        "migrations/V1__schema.sql",
        "ALTER TABLE rowcast.watches ENABLE ROW LEVEL SECURITY;",
        "",
        ESCALATION,
    ),
    Mutant(
        "rights: a payload function must be the table owner's",
        "migrations/V3__watch.sql",
        "ELSIF proc.proowner <> class.relowner THEN",
        "ELSIF false THEN",
        ESCALATION,
    ),
    Mutant(
        "rights: a payload function that was given away is not called",
        "migrations/V3__watch.sql",
        "IS DISTINCT FROM (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user) THEN",
        "IS NULL THEN",
        ESCALATION,
    ),
    Mutant(
        "rights: generated functions look for names in pg_catalog alone",
        "migrations/V3__watch.sql",
        "            SET search_path = pg_catalog, pg_temp SET lock_timeout = ''100ms'' SET jit = off AS %L',",
        "            SET lock_timeout = ''100ms'' SET jit = off AS %L',",
        ESCALATION,
    ),
    Mutant(
        "rights: the names of generated functions cannot be taken beforehand",
        "migrations/V3__watch.sql",
        "name CONSTANT text := rowcast.free_name(watched.relation, operation);\n    target regclass;",
        "name CONSTANT text := format('t%s_%s', watched.relation::oid, operation);\n    target regclass;",
        ESCALATION,
    ),
    Mutant(
        "rights: Rowcast's own events cannot be forged by who may append",
        "migrations/V2__append.sql",
        "AND octet_length(type) BETWEEN 1 AND 150 AND NOT starts_with(type, 'rowcast.')",
        "AND octet_length(type) BETWEEN 1 AND 150",
        ESCALATION,
    ),
    Mutant(
        "rights: what writes into the outbox belongs to a role that can only add",
        "migrations/V2__append.sql",
        "        EXECUTE format('ALTER FUNCTION rowcast.%s OWNER TO rowcast_writer', f);",
        "        NULL;",
        RIGHTS,
    ),
    Mutant(
        "rights: the listener's role cannot write events",
        "migrations/V1__schema.sql",
        "GRANT SELECT, DELETE, UPDATE (tx) ON rowcast.outbox TO rowcast_listener;",
        "GRANT SELECT, INSERT, DELETE, UPDATE (tx) ON rowcast.outbox TO rowcast_listener;",
        RIGHTS,
    ),
    Mutant(
        "rights: switches are turned by operators alone",
        "migrations/V5__mirror.sql",
        "REVOKE EXECUTE ON FUNCTION rowcast.sheet_changed(), rowcast.set_switch(text, boolean) FROM PUBLIC;",
        "GRANT SELECT, UPDATE ON rowcast.switches TO PUBLIC;",
        ["-p", "rowcast-store", "--test", "it", "--", "switches::"],
    ),
]
