-- Which tokens count no more: a sheet that the leader mirrors into Redis for the edges (V5).

-- A token is revoked where it has the value and was issued (iat) before issued_before; 'infinity' revokes it whenever it was
-- issued, and a token without iat counts as older than any time. Kinds:
--   subject   the token's sub
--   token_id  the token's jti
--   room      a room that the token names, whatever others it names
CREATE TABLE rowcast.revocations (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text        NOT NULL CHECK (kind IN ('subject', 'token_id', 'room')),
    value         text        NOT NULL CHECK (octet_length(value) BETWEEN 1 AND 1024),
    issued_before timestamptz NOT NULL CHECK (issued_before = 'infinity' OR issued_before BETWEEN '1970-01-01 00:00+00' AND '9999-12-31 00:00+00'),
    -- When no token that it revokes can be alive any more, so that it may be forgotten; NULL for never.
    expires_at    timestamptz,
    reason        text        CHECK (octet_length(reason) <= 1024),
    -- When and by whom it was last said.
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by    text        NOT NULL DEFAULT session_user,
    UNIQUE (kind, value)
);
CREATE INDEX revocations_expires_at ON rowcast.revocations (expires_at);

INSERT INTO rowcast.mirror (sheet) VALUES ('revocations');
-- What a leader has told the edges of: whoever changes a sheet can wait for that.
ALTER TABLE rowcast.mirror ADD COLUMN told bigint NOT NULL DEFAULT 0;

-- For each statement, not for each row: many rows at once are one change.
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON rowcast.revocations
    FOR EACH STATEMENT EXECUTE FUNCTION rowcast.sheet_changed('revocations');

-- Forgets what has expired. Says how many these were.
CREATE FUNCTION rowcast.forget_revocations() RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    forgotten bigint := 0;
BEGIN
    -- A statement that deletes nothing would be a new version all the same.
    IF EXISTS (SELECT FROM rowcast.revocations WHERE expires_at <= clock_timestamp()) THEN
        DELETE FROM rowcast.revocations WHERE expires_at <= clock_timestamp();
        GET DIAGNOSTICS forgotten = ROW_COUNT;
    END IF;
    RETURN forgotten;
END
$$;

-- Revokes tokens. Without issued_before: a token id for good; a subject's or a room's tokens that were issued up to now. A
-- second is added to now: iat has whole seconds, and the issuer's clock may be somewhat ahead of this one.
-- Without keep it is forgotten after 366 days, but 'infinity' for a subject or a room is kept for good, as with a keep
-- of over 1,000 years. Said again, times only move forward: what was revoked stays so until it is lifted.
CREATE FUNCTION rowcast.revoke(
    kind text, value text, issued_before timestamptz DEFAULT NULL, reason text DEFAULT NULL, keep interval DEFAULT NULL,
    OUT id bigint, OUT version bigint
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
#variable_conflict use_column
DECLARE
    -- Above this, edges would be slow to load the sheet.
    most CONSTANT bigint := 250000;
    moment timestamptz;
    cut timestamptz := revoke.issued_before;
    expiry timestamptz;
    known bigint;
BEGIN
    IF revoke.kind IS NULL OR revoke.kind NOT IN ('subject', 'token_id', 'room') THEN
        RAISE EXCEPTION 'rowcast: what is revoked is a subject, a token_id or a room, not %', coalesce(quote_literal(revoke.kind), 'NULL')
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF revoke.value IS NULL OR octet_length(revoke.value) NOT BETWEEN 1 AND 1024 THEN
        RAISE EXCEPTION 'rowcast: the value of what is revoked has 1 to 1024 bytes' USING ERRCODE = 'invalid_parameter_value';
    ELSIF cut <> 'infinity' AND cut NOT BETWEEN '1970-01-01 00:00+00' AND '9999-12-31 00:00+00' THEN
        RAISE EXCEPTION 'rowcast: issued_before is infinity, or from 1970 to 9999' USING ERRCODE = 'invalid_parameter_value';
    ELSIF keep < interval '0' THEN
        RAISE EXCEPTION 'rowcast: keep is not negative' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- First of all, so that whoever revokes several things at once waits here and not crosswise.
    PERFORM FROM rowcast.mirror AS m WHERE m.sheet = 'revocations' FOR UPDATE;
    moment := clock_timestamp();
    cut := coalesce(cut, CASE revoke.kind WHEN 'token_id' THEN 'infinity' ELSE moment + interval '1 second' END);
    IF keep <= interval '1000 years' OR (keep IS NULL AND (cut <> 'infinity' OR revoke.kind = 'token_id')) THEN
        expiry := greatest(moment, CASE WHEN cut <> 'infinity' THEN cut END) + coalesce(keep, interval '366 days');
    END IF;
    PERFORM rowcast.forget_revocations();
    known := (SELECT r.id FROM rowcast.revocations AS r WHERE r.kind = revoke.kind AND r.value = revoke.value);
    IF known IS NULL AND (SELECT count(*) FROM rowcast.revocations) >= most THEN
        RAISE EXCEPTION 'rowcast: there are % revocations, and no more are taken', most
            USING ERRCODE = 'program_limit_exceeded',
                  HINT = 'Revoke by subject or room rather than by token id, keep each for a shorter time, or lift some.';
    END IF;
    -- Not in one statement, which would be two changes.
    IF known IS NOT NULL THEN
        UPDATE rowcast.revocations AS r
           SET issued_before = greatest(r.issued_before, cut),
               expires_at = CASE WHEN r.expires_at IS NOT NULL AND expiry IS NOT NULL THEN greatest(r.expires_at, expiry) END,
               reason = coalesce(revoke.reason, r.reason), created_at = moment, created_by = session_user
         WHERE r.id = known
        RETURNING r.id INTO revoke.id;
    ELSE
        INSERT INTO rowcast.revocations AS r (kind, value, issued_before, expires_at, reason, created_at)
        VALUES (revoke.kind, revoke.value, cut, expiry, revoke.reason, moment)
        RETURNING r.id INTO revoke.id;
    END IF;
    SELECT m.version INTO revoke.version FROM rowcast.mirror AS m WHERE m.sheet = 'revocations';
END
$$;

-- Lifts a revocation: tokens that it alone revoked count again. Says whether there was one.
CREATE FUNCTION rowcast.lift_revocation(kind text, value text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM rowcast.mirror AS m WHERE m.sheet = 'revocations' FOR UPDATE;
    IF NOT EXISTS (SELECT FROM rowcast.revocations AS r WHERE r.kind = lift_revocation.kind AND r.value = lift_revocation.value) THEN
        RETURN false;
    END IF;
    DELETE FROM rowcast.revocations AS r WHERE r.kind = lift_revocation.kind AND r.value = lift_revocation.value;
    RETURN FOUND;
END
$$;

REVOKE EXECUTE ON FUNCTION rowcast.forget_revocations(), rowcast.revoke(text, text, timestamptz, text, interval),
    rowcast.lift_revocation(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rowcast.forget_revocations(), rowcast.revoke(text, text, timestamptz, text, interval),
    rowcast.lift_revocation(text, text) TO rowcast_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON rowcast.revocations TO rowcast_operator;
GRANT SELECT ON rowcast.revocations TO rowcast_listener;
GRANT UPDATE (told) ON rowcast.mirror TO rowcast_listener;
