-- Types that no client of Socket.IO can be told of under their own name: the server's and the client's own words, besides those
-- that were refused from the beginning. What was published before keeps its type; edges emit it with rowcast. in front.
CREATE OR REPLACE FUNCTION rowcast.type_fault(type text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN type IS NULL OR octet_length(type) NOT BETWEEN 1 AND 150 THEN 'it must have 1 to 150 bytes'
        WHEN type IN (
            'connect', 'disconnect', 'connected', 'connect_error', 'disconnecting', 'newListener', 'removeListener', 'resync'
        ) THEN 'Socket.IO keeps it for itself'
        WHEN starts_with(type, 'rowcast.') THEN 'names that begin with "rowcast." are Rowcast''s own'
        WHEN type ~ '[[:cntrl:]]' THEN 'it must not contain control characters'
    END
$$;
