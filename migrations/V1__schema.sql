-- Rowcast's tables, sequences and roles. The functions that write here are in the migrations that follow.
-- PostgreSQL 14 or newer.

CREATE SCHEMA IF NOT EXISTS rowcast;

-- The generated trigger functions live apart from everything that is called by name: whoever may create
-- functions here can then not shadow rowcast.watch() for a superuser.
CREATE SCHEMA rowcast_triggers;

REVOKE ALL ON SCHEMA rowcast, rowcast_triggers FROM PUBLIC;

-- Roles belong to the cluster: another database may have made them, or may be making them at this moment.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['rowcast_writer', 'rowcast_watcher', 'rowcast_publisher', 'rowcast_listener', 'rowcast_operator'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
END
$$;

-- One row an event, in the transaction that caused it. `tx` is what reading goes by: the order of ids is not the
-- order of commits.
CREATE TABLE rowcast.outbox (
    -- Defaults are evaluated in the order of columns: a transaction has its number before it draws an id, so that whoever
    -- had not begun at some moment draws ids above those given out by then. Windows begin by that.
    tx          xid8        NOT NULL DEFAULT pg_current_xact_id(),
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    truncated   boolean     NOT NULL DEFAULT false,
    room        text        NOT NULL,
    type        text        NOT NULL,
    data        json        NOT NULL,
    changed     text[],
    traceparent text        DEFAULT nullif(left(current_setting('rowcast.traceparent', true), 128), '')
);
CREATE INDEX outbox_tx ON rowcast.outbox (tx, id);
-- Rows live for milliseconds: what counts is that dead ones go, not what share of the table they are.
ALTER TABLE rowcast.outbox SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_threshold = 1000000000);

-- Watched tables, as they were given to rowcast.watch.
CREATE TABLE rowcast.watches (
    relation        regclass    PRIMARY KEY,
    merchant_column text        NOT NULL,
    type            text        NOT NULL,
    key_columns     text[]      NOT NULL,
    columns         text[]      NOT NULL,
    operations      text[]      NOT NULL,
    payload         regproc,
    on_error        text        NOT NULL CHECK (on_error IN ('warn', 'fail')),
    all_columns     boolean     NOT NULL,
    watched_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- Everybody who may watch sees all of them, and changes those of tables that are theirs: what is written here is
-- acted on by others.
ALTER TABLE rowcast.watches ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON rowcast.watches FOR SELECT USING (true);
CREATE POLICY added_by_owner ON rowcast.watches FOR INSERT WITH CHECK (
    pg_has_role((SELECT c.relowner FROM pg_class AS c WHERE c.oid = relation), 'USAGE'));
CREATE POLICY taken_by_owner ON rowcast.watches FOR DELETE USING (
    coalesce(pg_has_role((SELECT c.relowner FROM pg_class AS c WHERE c.oid = relation), 'USAGE'), true));

-- Failures inside triggers: of each table and operation about one a second, whatever their number
-- (rowcast.trigger_failures counts them). One that lost events is a hole in history until the leader has settled it.
CREATE TABLE rowcast.trigger_error (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    relation    oid         NOT NULL,
    table_name  text        NOT NULL,
    operation   text        NOT NULL,
    sqlstate    text        NOT NULL,
    message     text        NOT NULL,
    lost        boolean     NOT NULL,
    settled     boolean     NOT NULL DEFAULT false
);
CREATE INDEX trigger_error_time ON rowcast.trigger_error (occurred_at);
CREATE INDEX trigger_error_open ON rowcast.trigger_error (occurred_at) WHERE lost AND NOT settled;

-- Wishes that the generation be raised, from applications' transactions. They add rows and never update
-- rowcast.state: a long transaction would otherwise hold up the leader and every other TRUNCATE.
CREATE TABLE rowcast.raise_request (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    cause        text        NOT NULL
);

-- Rows that can not be encoded, with the reason.
CREATE TABLE rowcast.dead_letter (
    id          bigint      NOT NULL,
    occurred_at timestamptz NOT NULL,
    buried_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason      text        NOT NULL,
    room        text        NOT NULL,
    type        text        NOT NULL,
    data        json        NOT NULL,
    changed     text[],
    traceparent text,
    PRIMARY KEY (id, occurred_at)
);

-- What outlives every process: the number of this history, and whose it is.
CREATE TABLE rowcast.state (
    singleton         boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    generation        bigint      NOT NULL DEFAULT 1,
    raised_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_cause        text        NOT NULL DEFAULT 'installed',
    installation      text,
    system_identifier text,
    timeline          bigint,
    redis_run_ids     jsonb       NOT NULL DEFAULT '{}'
);
INSERT INTO rowcast.state DEFAULT VALUES;

-- Each leader draws its epoch here.
CREATE SEQUENCE rowcast.leader_epoch AS bigint;
-- Where a new leader begins: no row of the transactions that this snapshot sees is left, and those that had not begun by
-- then have ids above this one. It only follows what is durable. The row with the highest number counts.
CREATE TABLE rowcast.floor (
    n        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    snapshot pg_snapshot NOT NULL,
    id       bigint      NOT NULL
);
INSERT INTO rowcast.floor (snapshot, id) VALUES ('3:3:', 0);
-- Until when (ms since 1970) the leader sleeps and wants to be rung. A sequence, because it is not transactional.
CREATE SEQUENCE rowcast.doorbell AS bigint MINVALUE 0 START 0;
-- How many changed rows gave no event because their merchant was NULL or not 1 to 200 bytes long.
CREATE SEQUENCE rowcast.unusable_merchants AS bigint MINVALUE 0 START 0;
SELECT setval('rowcast.unusable_merchants', 0);
-- How many statements' triggers failed; how many of these could not even be recorded, and up to which of them the
-- leader has answered. Sequences, because no lock and no rollback stands in their way.
CREATE SEQUENCE rowcast.trigger_failures AS bigint MINVALUE 0 START 0;
SELECT setval('rowcast.trigger_failures', 0);
CREATE SEQUENCE rowcast.unrecorded_failures AS bigint MINVALUE 0 START 0;
SELECT setval('rowcast.unrecorded_failures', 0);
CREATE SEQUENCE rowcast.unrecorded_settled AS bigint MINVALUE 0 START 0;
SELECT setval('rowcast.unrecorded_settled', 0);

GRANT USAGE ON SCHEMA rowcast TO rowcast_writer, rowcast_watcher, rowcast_publisher, rowcast_listener;
GRANT USAGE, CREATE ON SCHEMA rowcast_triggers TO rowcast_watcher WITH GRANT OPTION;
GRANT USAGE ON SCHEMA rowcast TO rowcast_watcher WITH GRANT OPTION;

GRANT INSERT ON rowcast.outbox, rowcast.trigger_error, rowcast.raise_request TO rowcast_writer;
GRANT SELECT ON SEQUENCE rowcast.doorbell TO rowcast_writer;
GRANT USAGE ON SEQUENCE rowcast.unusable_merchants, rowcast.trigger_failures, rowcast.unrecorded_failures
    TO rowcast_writer;
-- To find a failure that another transaction has recorded a moment ago, and to hold it open (FOR SHARE asks for the
-- right to update something). Only rowcast.trigger_failed has this role's rights.
GRANT SELECT (id, occurred_at, relation, operation, lost, settled), UPDATE (id) ON rowcast.trigger_error TO rowcast_writer;

GRANT SELECT, INSERT, DELETE ON rowcast.watches TO rowcast_watcher;

GRANT SELECT, DELETE, UPDATE (tx) ON rowcast.outbox TO rowcast_listener;
GRANT SELECT, UPDATE ON rowcast.state TO rowcast_listener;
GRANT SELECT, INSERT ON rowcast.dead_letter TO rowcast_listener;
GRANT SELECT, DELETE ON rowcast.raise_request TO rowcast_listener;
GRANT SELECT, DELETE, UPDATE (settled) ON rowcast.trigger_error TO rowcast_listener;
GRANT SELECT ON rowcast.watches TO rowcast_listener;
GRANT SELECT, INSERT, DELETE ON rowcast.floor TO rowcast_listener;
GRANT USAGE, SELECT, UPDATE ON SEQUENCE rowcast.leader_epoch, rowcast.doorbell TO rowcast_listener;
GRANT SELECT ON SEQUENCE rowcast.outbox_id_seq TO rowcast_listener;
GRANT SELECT ON SEQUENCE rowcast.unusable_merchants, rowcast.trigger_failures, rowcast.unrecorded_failures
    TO rowcast_listener;
GRANT SELECT, UPDATE ON SEQUENCE rowcast.unrecorded_settled TO rowcast_listener;
