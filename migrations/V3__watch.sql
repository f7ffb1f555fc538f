-- Watching: rowcast.watch writes one trigger function an operation for a table, with its columns named statically.

-- A column's exact name, given as it is or quoted; NULL where the table has no such column.
CREATE FUNCTION rowcast.find_column(relation regclass, given text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_name text;
    unquoted   text;
BEGIN
    IF given LIKE '"%"' THEN
        unquoted := replace(substr(given, 2, length(given) - 2), '""', '"');
    END IF;
    SELECT a.attname INTO found_name
      FROM pg_attribute AS a
     WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attname::text IN (given, unquoted)
     ORDER BY a.attname::text <> given
     LIMIT 1;
    RETURN found_name;
END
$$;

-- The same, or an error that lists the columns there are.
CREATE FUNCTION rowcast.need_column(relation regclass, given text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_name text := rowcast.find_column(relation, given);
BEGIN
    IF found_name IS NULL THEN
        RAISE EXCEPTION 'rowcast: table % has no column "%"; its columns are: %', relation, given,
            (SELECT string_agg(a.attname::text, ', ' ORDER BY a.attnum) FROM pg_attribute AS a
              WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped)
            USING ERRCODE = 'undefined_column', HINT = 'Names are case-sensitive here; quotes are not needed.';
    END IF;
    RETURN found_name;
END
$$;

-- The table itself and everything below it: partitions and inheriting tables. Only the table that a statement names
-- fires, so all of them need the triggers.
CREATE FUNCTION rowcast.family(relation regclass) RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE below (oid) AS (
        SELECT relation::oid
        UNION
        SELECT i.inhrelid FROM pg_inherits AS i JOIN below ON i.inhparent = below.oid
    )
    SELECT oid::regclass FROM below
$$;

-- SQL that is true where two values differ in their image. For types whose equality is that of their images the
-- plain comparison is the same and ten times cheaper; elsewhere it fails (json) or misses changes (1.0 and 1.00,
-- nondeterministic collations).
CREATE FUNCTION rowcast.difference_of(relation regclass, column_name text, before text, after text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN t.oid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'bool'::regtype, 'uuid'::regtype,
                       'date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype, 'bytea'::regtype)
             OR t.typtype = 'e'
             OR (t.oid IN ('text'::regtype, 'varchar'::regtype) AND coalesce(c.collisdeterministic, false))
            THEN format('%s IS DISTINCT FROM %s', before, after)
        ELSE format('ROW(%s)::record *<> ROW(%s)::record', before, after)
    END
      FROM pg_attribute AS a
      JOIN pg_type AS t ON t.oid = a.atttypid
      LEFT JOIN pg_collation AS c ON c.oid = a.attcollation
     WHERE a.attrelid = relation AND a.attname = column_name
$$;

-- "c1, c2, …" of an alias as named columns: %I of each name; `prefix` is for instance "w.c".
CREATE FUNCTION rowcast.under_own_names(columns text[], prefix text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format('%s%s AS %I', prefix, n, name), ', ' ORDER BY n)
      FROM unnest(columns) WITH ORDINALITY AS c (name, n)
$$;

-- SQL for a column of a row t of a transition table. A virtual generated column is NULL there, so it is computed; its
-- expression names columns alone, so t must be the only table in its FROM.
CREATE FUNCTION rowcast.transition_column(relation regclass, column_name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((
        SELECT format('(%s)', pg_get_expr(d.adbin, d.adrelid))
          FROM pg_attribute AS a JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = relation AND a.attname = column_name AND a.attgenerated = 'v'), format('t.%I', column_name))
$$;

-- Where a trigger's events come from: a SELECT over its transition tables that yields room, type, data, changed and
-- the key columns k1, k2, …, in the order of the events. `payload` is NULL for plain columns. `shape` is
--
-- 'many', for any number of rows. OLD and NEW are paired by position, not by key: SET id = id + 1 would pair wrong
-- rows. All removals come first: moving the keys 1, 2 to 2, 3 must not remove the new 2. FULL JOIN, because it has no
-- nested loop, which a plan cached at one row would otherwise use for a million.
--
-- 'one', for an UPDATE of one row: the same without what pairs and sorts, in two thirds of the time.
--
-- 'nested': a trigger of the application has written to the same table from inside the statement, and its events came
-- first. What the transition tables hold may be outdated, so each row is read again by its key and sent as it is now.
-- A row that is gone is left out (its removal was told), unless this statement had moved it: its first place has not
-- heard of it yet.
CREATE FUNCTION rowcast.trigger_source(watched rowcast.watches, operation text, payload regproc, shape text)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    nested   CONSTANT boolean := shape = 'nested';
    columns  CONSTANT text[] := watched.columns;
    merchant CONSTANT text := array_position(columns, watched.merchant_column)::text;
    identity CONSTANT text[] := watched.key_columns || watched.merchant_column;
    picked   text;        -- the watched columns of a row of a transition table as c1, c2, …
    standing text;        -- the same of a row of the table itself
    whole    text := '';  -- the payload function's argument
    data     text := 'row_to_json(named.*)';
    changed  text;
    carried  text;        -- both images of a pair as o1, o2, …, w1, w2, …
    same_key text;        -- of a transition row r and the row t of the table
    fresh    text;        -- OLD rows of a deletion, else NEW rows: picked, whole; gone where nested; n to pair by
    moved    text;        -- whether the statement itself had moved a row that is gone
BEGIN
    SELECT string_agg(format('%s AS c%s', rowcast.transition_column(watched.relation, name), n), ', ' ORDER BY n),
           string_agg(format('t.%I AS c%s', name, n), ', ' ORDER BY n),
           string_agg(format('CASE WHEN %s THEN %L END',
                             rowcast.difference_of(watched.relation, name, 'o.c' || n, 'w.c' || n), name), ', ' ORDER BY n),
           string_agg(format('o.c%s AS o%s, w.c%s AS w%s', n, n, n, n), ', ' ORDER BY n),
           string_agg(rowcast.same_key(watched.relation, name, format('t.%I', name), format('r.%I', name)), ' AND ')
               FILTER (WHERE name = ANY (watched.key_columns)),
           string_agg(rowcast.difference_of(watched.relation, name, 'o.c' || n, 'w.r' || n), ' OR ')
               FILTER (WHERE name = ANY (identity))
      INTO picked, standing, changed, carried, same_key, moved
      FROM unnest(columns) WITH ORDINALITY AS c (name, n);
    changed := format('(SELECT array_remove(ARRAY[%s]::text[], NULL) AS changed OFFSET 0) AS d', changed);
    IF payload IS NOT NULL AND operation <> 'delete' THEN
        SELECT format(', ROW(%s)::%s AS whole', string_agg(
                   CASE WHEN nested THEN format('t.%I', a.attname)
                        ELSE rowcast.transition_column(watched.relation, a.attname) END, ', ' ORDER BY a.attnum),
                   watched.relation)
          INTO whole
          FROM pg_attribute AS a
         WHERE a.attrelid = watched.relation AND a.attnum > 0 AND NOT a.attisdropped;
        data := format('coalesce(CASE WHEN octet_length(%s%s::text) BETWEEN 1 AND 200 THEN %s(w.whole)::json END, row_to_json(named.*))',
                       CASE WHEN operation = 'update' AND shape <> 'one' THEN 'w.w' ELSE 'w.c' END, merchant,
                       (SELECT format('%I.%I', n.nspname, p.proname) FROM pg_proc AS p
                          JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE p.oid = payload));
    END IF;

    IF operation = 'delete' THEN
        fresh := format('SELECT %s FROM old_rows AS t', picked);
        IF nested THEN
            fresh := fresh || format(' WHERE NOT EXISTS (SELECT FROM %s AS r WHERE %s AND r.%I::text COLLATE "C" = t.%I::text COLLATE "C")',
                                     watched.relation, same_key, watched.merchant_column, watched.merchant_column);
        END IF;
    ELSIF NOT nested THEN
        fresh := format('SELECT %s%s FROM new_rows AS t', picked, whole);
    ELSE
        fresh := format(
            'SELECT r."rowcast n" AS n, t.%1$I IS NULL AS gone, %2$s%3$s, %4$s
               FROM (SELECT row_number() OVER () AS "rowcast n", t.* FROM new_rows AS t) AS r
               LEFT JOIN %5$s AS t ON %6$s',
            watched.key_columns[1], standing, whole,
            (SELECT string_agg(format('r.%I AS r%s', name, n), ', ' ORDER BY n)
               FROM unnest(columns) WITH ORDINALITY AS c (name, n) WHERE name = ANY (identity)),
            watched.relation, same_key);
    END IF;

    IF operation <> 'update' THEN
        RETURN format(
            'SELECT w.c%s::text AS room, %L AS type, %s AS data, NULL::text[] AS changed, %s
               FROM (%s) AS w CROSS JOIN LATERAL (SELECT %s) AS named %s
             OFFSET 0',
            merchant, watched.type || CASE operation WHEN 'insert' THEN '.created' ELSE '.deleted' END, data,
            rowcast.key_columns_of(watched, 'w.c%s'), fresh, rowcast.under_own_names(columns, 'w.c'),
            CASE WHEN operation = 'insert' AND nested THEN 'WHERE NOT w.gone' ELSE '' END);
    ELSIF shape = 'one' THEN
        RETURN format(
            'SELECT CASE WHEN part.arrives THEN w.c%1$s::text ELSE o.c%1$s::text END AS room,
                    CASE WHEN NOT part.arrives THEN %2$L WHEN d.changed && %3$L::text[] THEN %4$L ELSE %5$L END AS type,
                    CASE WHEN part.arrives THEN %6$s ELSE row_to_json(gone.*) END AS data,
                    CASE WHEN NOT d.changed && %3$L::text[] THEN d.changed END AS changed, %7$s
               FROM (SELECT %8$s FROM old_rows AS t) AS o CROSS JOIN (%9$s) AS w CROSS JOIN LATERAL %10$s
              CROSS JOIN (VALUES (false), (true)) AS part (arrives)
              CROSS JOIN LATERAL (SELECT %11$s) AS gone CROSS JOIN LATERAL (SELECT %12$s) AS named
              WHERE d.changed <> ''{}'' AND (part.arrives OR d.changed && %3$L::text[])
             OFFSET 0',
            merchant, watched.type || '.deleted', identity, watched.type || '.created', watched.type || '.updated', data,
            rowcast.key_columns_of(watched, 'CASE WHEN part.arrives THEN w.c%1$s ELSE o.c%1$s END'),
            picked, fresh, changed, rowcast.under_own_names(columns, 'o.c'), rowcast.under_own_names(columns, 'w.c'));
    END IF;
    IF NOT nested THEN
        fresh := format('SELECT row_number() OVER () AS n, false AS gone, %s%s FROM new_rows AS t', picked, whole);
    END IF;
    RETURN format(
        'WITH pairs AS MATERIALIZED (
            SELECT o.n AS old_n, w.n AS new_n, w.gone, %1$s%2$s, d.changed,
                   p.paired AND NOT d.changed && %3$L::text[] AS in_place
              FROM (SELECT row_number() OVER () AS n, %4$s FROM old_rows AS t) AS o
              FULL JOIN (%5$s) AS w ON w.n = o.n
             CROSS JOIN (SELECT (SELECT count(*) FROM old_rows) = (SELECT count(*) FROM new_rows) AS paired) AS p
             CROSS JOIN LATERAL %6$s
             WHERE (d.changed <> ''{}'' OR NOT p.paired) %16$s)
         (SELECT w.o%7$s::text AS room, %8$L AS type, row_to_json(named.*) AS data, NULL::text[] AS changed, %9$s
            FROM pairs AS w CROSS JOIN LATERAL (SELECT %10$s) AS named
           WHERE NOT w.in_place AND w.old_n IS NOT NULL OFFSET 0)
         UNION ALL
         (SELECT w.w%7$s::text, CASE WHEN w.in_place THEN %11$L ELSE %12$L END, %13$s,
                 CASE WHEN w.in_place THEN w.changed END, %14$s
            FROM pairs AS w CROSS JOIN LATERAL (SELECT %15$s) AS named
           WHERE NOT w.gone AND w.new_n IS NOT NULL OFFSET 0)',
        carried, CASE WHEN whole <> '' THEN ', w.whole' ELSE '' END, identity, picked, fresh, changed, merchant,
        watched.type || '.deleted', rowcast.key_columns_of(watched, 'w.o%s'), rowcast.under_own_names(columns, 'w.o'),
        watched.type || '.updated', watched.type || '.created', data,
        rowcast.key_columns_of(watched, 'w.w%s'), rowcast.under_own_names(columns, 'w.w'),
        CASE WHEN nested THEN format('AND NOT (p.paired AND w.gone AND NOT (%s))', moved) ELSE '' END);
END
$$;

-- SQL that is true where a key column has equal values in two rows, by the operator of the primary key itself: it
-- may live in any schema, and the index serves no other.
CREATE FUNCTION rowcast.same_key(relation regclass, column_name text, one text, other text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%s OPERATOR(%I.%s) %s', one, n.nspname, o.oprname, other)
      FROM pg_index AS i
     CROSS JOIN unnest(i.indkey::int2[], i.indclass::oid[]) AS k (attnum, opclass)
      JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND a.attname = column_name
      JOIN pg_opclass AS c ON c.oid = k.opclass
      JOIN pg_amop AS m ON m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
                       AND m.amopstrategy = 3
      JOIN pg_operator AS o ON o.oid = m.amopopr
      JOIN pg_namespace AS n ON n.oid = o.oprnamespace
     WHERE i.indrelid = relation AND i.indisprimary
$$;

-- The key columns as k1, k2, …, in the key's order; `each` is a format for the number of one, for instance 'w.c%s'.
CREATE FUNCTION rowcast.key_columns_of(watched rowcast.watches, each text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format(each || ' AS k%2$s', array_position(watched.columns, name), n), ', ' ORDER BY n)
      FROM unnest(watched.key_columns) WITH ORDINALITY AS k (name, n)
$$;

-- One INSERT … SELECT, in the source's order. Above max_event_bytes (256 KiB) the key alone is sent, as a reference.
-- Whether anybody wants to be rung is looked at here first: calling rowcast.ring takes ten times as long.
CREATE FUNCTION rowcast.trigger_statement(watched rowcast.watches, operation text, payload regproc, shape text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(
        'INSERT INTO rowcast.append (room, type, data, changed, truncated)
         SELECT e.room, e.type,
                CASE WHEN %3$s THEN json_build_object(%1$s) ELSE e.data END,
                e.changed, %3$s
           FROM (%2$s) AS e
          WHERE CASE WHEN octet_length(e.room) BETWEEN 1 AND 200 THEN true ELSE rowcast.unusable_merchant() END;
         IF FOUND AND pg_sequence_last_value(''rowcast.doorbell'') > 0 THEN
             PERFORM rowcast.ring();
         END IF;',
        (SELECT string_agg(format('%L, e.k%s', name, n), ', ' ORDER BY n)
           FROM unnest(watched.key_columns) WITH ORDINALITY AS k (name, n)),
        rowcast.trigger_source(watched, operation, payload, shape),
        -- What a function returns may be compressed; what row_to_json does is not, and has four bytes before it.
        CASE WHEN payload IS NULL THEN 'pg_column_size(e.data) > 262148' ELSE 'octet_length(e.data::text) > 262144' END)
$$;

-- SQL that ends a trigger function on a table that is neither the watched one nor below it (a detached partition). The name
-- counts beside the oid: a dump restores the one, a rename keeps the other.
CREATE FUNCTION rowcast.trigger_place(watched rowcast.watches) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(
        'IF TG_RELID <> %1$s THEN
            IF NOT EXISTS (
                WITH RECURSIVE above (oid) AS (
                    SELECT TG_RELID UNION SELECT i.inhparent FROM pg_inherits AS i JOIN above ON i.inhrelid = above.oid)
                SELECT FROM above WHERE above.oid IN (%1$s, to_regclass(%2$L))) THEN
                RETURN NULL;
            END IF;
        END IF;',
        watched.relation::oid, watched.relation::text)
$$;

-- What a trigger does: plainly, or reading its rows again where another write was nested in the statement. Below
-- another trigger it leaves the mark by which the outer one knows. All that is unusual hides behind one condition: each
-- that is looked at costs as much as a column of the event.
CREATE FUNCTION rowcast.trigger_work(watched rowcast.watches, operation text, payload regproc) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(
        'IF TG_RELID <> %4$s OR pg_trigger_depth() > 1 OR position(%1$L IN coalesce(current_setting(''rowcast.nested'', true), '''')) > 0 THEN
            %5$s
            IF position(%1$L IN coalesce(current_setting(''rowcast.nested'', true), '''')) > 0 THEN
                IF row_security_active(%4$s::oid) THEN
                    RAISE EXCEPTION ''a write was nested in this statement, and row-level security hides rows from the table''''s owner'';
                END IF;
                %2$s
                RETURN NULL;
            END IF;
            IF pg_trigger_depth() > 1 THEN
                PERFORM set_config(''rowcast.nested'', concat(current_setting(''rowcast.nested'', true), %1$L), true);
            END IF;
        END IF;
        %3$s',
        format('<%s>', watched.relation::oid),
        rowcast.trigger_statement(watched, operation, payload, 'nested'),
        CASE WHEN operation <> 'update' THEN rowcast.trigger_statement(watched, operation, payload, 'many')
             ELSE format(
                'IF (SELECT count(*) FROM (SELECT FROM old_rows LIMIT 2) AS t) = (SELECT count(*) FROM (SELECT FROM new_rows LIMIT 2) AS t)
                    AND NOT EXISTS (SELECT FROM new_rows OFFSET 1) THEN
                    %s
                 ELSE
                    %s
                 END IF;',
                rowcast.trigger_statement(watched, operation, payload, 'one'),
                rowcast.trigger_statement(watched, operation, payload, 'many'))
        END, watched.relation::oid, rowcast.trigger_place(watched))
$$;

-- The body of a trigger function. Failures are caught once a statement; a failing payload function costs its
-- extras, not the event.
CREATE FUNCTION rowcast.trigger_body(watched rowcast.watches, operation text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name    CONSTANT text := watched.relation::text;
    failed  CONSTANT text :=
        'EXCEPTION WHEN OTHERS THEN
            RAISE WARNING ''rowcast: %%: %% of %%: %% (%%)'', %1$L, TG_OP, %2$L, SQLERRM, SQLSTATE USING HINT = %4$L;
            BEGIN
                PERFORM rowcast.trigger_failed(TG_RELID, %2$L, TG_OP, SQLSTATE, SQLERRM, %3$s);
            EXCEPTION WHEN OTHERS THEN
                RAISE WARNING ''rowcast: the failure could not be recorded: %%'', SQLERRM;
            END;';
    work    text;
BEGIN
    IF operation = 'truncate' THEN
        work := format(E'%s\nPERFORM rowcast.request_raise(%L);', rowcast.trigger_place(watched), 'TRUNCATE of ' || name);
    ELSE
        work := rowcast.trigger_work(watched, operation, NULL);
        IF watched.payload IS NOT NULL AND operation <> 'delete' THEN
            -- Called by name: whoever may create functions there could otherwise put another in a dropped one's place.
            work := format(E'BEGIN\n%s\n%s\n%s\n%s\n%s\nEND;', rowcast.trigger_place(watched),
                           format('IF (SELECT p.proowner FROM pg_proc AS p WHERE p.oid = to_regprocedure(%1$L))
                                      IS DISTINCT FROM (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user) THEN
                                       RAISE EXCEPTION ''the payload function %% is gone, or has another owner'', %1$L
                                             USING ERRCODE = ''undefined_function'';
                                   END IF;', watched.payload::oid::regprocedure::text),
                           rowcast.trigger_work(watched, operation, watched.payload),
                           format(failed, 'the payload function failed, plain columns are sent', name, 'false',
                                  format('Mend %s, or call rowcast.watch(%L, ...) with another payload or none.',
                                         watched.payload::oid::regprocedure, name)), work);
        END IF;
    END IF;
    IF watched.on_error = 'warn' THEN
        work := format(E'BEGIN\n%s\n%s\nEND;', work, format(failed, 'events were lost', name, 'true',
            format('The statement itself went through, and clients are told to fetch anew. SELECT * FROM rowcast.drift() says what '
                   'has changed about the table; rowcast.watch(%1$L, ...) takes it as it is now, rowcast.unwatch(%1$L) ends it.', name)));
    END IF;
    RETURN format(E'#variable_conflict use_column\nBEGIN\n%s\nRETURN NULL;\nEND', work);
END
$$;

-- Waits for the lock that CREATE TRIGGER needs in short attempts, so that the application never queues up behind it.
CREATE FUNCTION rowcast.lock_for_triggers(relation regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
BEGIN
    FOR attempt IN 1 .. 50 LOOP
        BEGIN
            EXECUTE format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE', relation);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.05 + random() * 0.1);
        END;
    END LOOP;
    RAISE EXCEPTION 'rowcast: table % stays locked by other transactions', relation
        USING ERRCODE = 'lock_not_available', HINT = 'Try again when no long transaction is writing to it.';
END
$$;

-- What is wrong with watching a table, as an error.
CREATE FUNCTION rowcast.check_table(relation regclass) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    class pg_class%ROWTYPE;
    other regclass;
BEGIN
    SELECT * INTO class FROM pg_class WHERE oid = relation;
    IF class.oid IS NULL THEN
        RAISE EXCEPTION 'rowcast: there is no such table' USING ERRCODE = 'undefined_table';
    ELSIF class.relkind NOT IN ('r', 'p') OR class.relpersistence <> 'p' THEN
        RAISE EXCEPTION 'rowcast: % can not be watched: it is %', relation,
            CASE WHEN class.relkind = 'v' THEN 'a view' WHEN class.relkind = 'm' THEN 'a materialized view'
                 WHEN class.relkind = 'f' THEN 'a foreign table' WHEN class.relkind NOT IN ('r', 'p') THEN 'not a table'
                 WHEN class.relpersistence = 'u' THEN 'unlogged, and a crash empties it without an event'
                 ELSE 'a temporary table' END
            USING ERRCODE = 'wrong_object_type';
    ELSIF class.relnamespace IN ('rowcast'::regnamespace, 'pg_catalog'::regnamespace, 'information_schema'::regnamespace) THEN
        RAISE EXCEPTION 'rowcast: % can not be watched: it is a table of the system''s', relation USING ERRCODE = 'wrong_object_type';
    ELSIF NOT pg_has_role(class.relowner, 'USAGE') THEN
        RAISE EXCEPTION 'rowcast: % must be owner of table % to watch it; its owner is %',
            current_user, relation, class.relowner::regrole USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT c.oid INTO other FROM rowcast.family(relation) AS f (oid) JOIN pg_class AS c ON c.oid = f.oid
     WHERE c.relkind = 'f' OR c.relpersistence <> 'p' LIMIT 1;
    IF other IS NOT NULL THEN
        RAISE EXCEPTION 'rowcast: % can not be watched: its partition % is %', relation, other,
            CASE (SELECT c.relkind FROM pg_class AS c WHERE c.oid = other) WHEN 'f' THEN 'a foreign table' ELSE 'not logged' END
            USING ERRCODE = 'wrong_object_type';
    END IF;
    SELECT w.relation INTO other FROM rowcast.watches AS w
     WHERE w.relation <> check_table.relation
       AND (check_table.relation IN (SELECT rowcast.family(w.relation)) OR w.relation IN (SELECT rowcast.family(check_table.relation)))
     LIMIT 1;
    IF other IS NOT NULL THEN
        RAISE EXCEPTION 'rowcast: % can not be watched beside %: one is a part of the other', relation, other
            USING ERRCODE = 'object_in_use', HINT = format('Call rowcast.unwatch(%L) first.', other);
    END IF;
END
$$;

-- What is wrong with a payload function, as an error.
CREATE FUNCTION rowcast.check_payload(relation regclass, payload regproc) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    class pg_class%ROWTYPE;
    proc  pg_proc%ROWTYPE;
BEGIN
    SELECT * INTO class FROM pg_class WHERE oid = relation;
    SELECT * INTO proc FROM pg_proc WHERE oid = payload;
    IF proc.prokind <> 'f' OR proc.proretset OR proc.pronargs <> 1 OR proc.proargtypes[0] <> class.reltype
       OR proc.prorettype NOT IN ('json'::regtype, 'jsonb'::regtype) THEN
        RAISE EXCEPTION 'rowcast: payload function % must take one argument of type % and return json', payload, relation
            USING ERRCODE = 'invalid_function_definition';
    ELSIF proc.proowner <> class.relowner THEN
        RAISE EXCEPTION 'rowcast: payload function % must belong to %, the owner of table %', payload,
            class.relowner::regrole, relation USING ERRCODE = 'insufficient_privilege';
    ELSIF NOT EXISTS (SELECT FROM unnest(proc.proconfig) AS setting WHERE setting LIKE 'search_path=%') THEN
        RAISE EXCEPTION 'rowcast: payload function % needs a search_path of its own: it runs with the rights of table %''s owner',
            payload, relation USING ERRCODE = 'invalid_function_definition',
            HINT = format('For instance: ALTER FUNCTION %s SET search_path = %I, pg_temp', payload::oid::regprocedure,
                          class.relnamespace::regnamespace);
    END IF;
END
$$;

-- Gives the owner of a watched table what its triggers call.
CREATE FUNCTION rowcast.grant_append(owner regrole) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT has_schema_privilege(owner, 'rowcast', 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA rowcast TO %s', owner);
    END IF;
    IF NOT has_table_privilege(owner, 'rowcast.append', 'INSERT')
       OR NOT has_sequence_privilege(owner, 'rowcast.doorbell', 'SELECT')
       OR NOT has_function_privilege(owner, 'rowcast.request_raise(text)', 'EXECUTE') THEN
        EXECUTE format('GRANT INSERT ON rowcast.append TO %s', owner);
        EXECUTE format('GRANT SELECT ON SEQUENCE rowcast.doorbell TO %s', owner);
        EXECUTE format(
            'GRANT EXECUTE ON FUNCTION rowcast.ring(), rowcast.unusable_merchant(), rowcast.request_raise(text),
                rowcast.trigger_failed(oid, text, text, text, text, boolean) TO %s', owner);
    END IF;
END
$$;

-- A name in rowcast_triggers that nobody has taken. Whoever may watch may create functions there: one that was there
-- before must neither be used nor stand in the way.
CREATE FUNCTION rowcast.free_name(relation regclass, operation text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text := format('t%s_%s', relation::oid, operation);
    n    int  := 1;
BEGIN
    WHILE EXISTS (SELECT FROM pg_proc AS p WHERE p.pronamespace = 'rowcast_triggers'::regnamespace AND p.proname = name) LOOP
        n := n + 1;
        name := format('t%s_%s_%s', relation::oid, operation, n);
    END LOOP;
    RETURN name;
END
$$;

-- Hangs a trigger function on one table.
CREATE FUNCTION rowcast.hang_trigger(target regclass, operation text, function_name text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET client_min_messages = 'warning'
AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE TRIGGER rowcast_%1$s AFTER %2$s ON %3$s %4$s FOR EACH STATEMENT EXECUTE FUNCTION rowcast_triggers.%5$I()',
        operation, upper(operation), target,
        CASE operation WHEN 'insert' THEN 'REFERENCING NEW TABLE AS new_rows'
                       WHEN 'update' THEN 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows'
                       WHEN 'delete' THEN 'REFERENCING OLD TABLE AS old_rows' ELSE '' END,
        function_name);
END
$$;

-- Makes one trigger function and hangs it on the table and on all below it. Compiling (jit) took half the time of a
-- statement of 50,000 rows, without making it faster.
CREATE FUNCTION rowcast.install_trigger(watched rowcast.watches, operation text, owner regrole) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET client_min_messages = 'warning'
AS $$
DECLARE
    name CONSTANT text := rowcast.free_name(watched.relation, operation);
    target regclass;
BEGIN
    EXECUTE format(
        'CREATE FUNCTION rowcast_triggers.%I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp SET lock_timeout = ''100ms'' SET jit = off AS %L',
        name, rowcast.trigger_body(watched, operation));
    EXECUTE format('REVOKE EXECUTE ON FUNCTION rowcast_triggers.%I() FROM PUBLIC', name);
    FOR target IN SELECT rowcast.family(watched.relation) LOOP
        PERFORM rowcast.hang_trigger(target, operation, name);
    END LOOP;
    IF owner::oid <> (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        EXECUTE format('ALTER FUNCTION rowcast_triggers.%I() OWNER TO %s', name, owner);
    END IF;
END
$$;

-- Takes one trigger from the table and all below it, and every function that only these used. One that belongs to
-- somebody else (the table had another owner) is left behind: nothing calls it.
CREATE FUNCTION rowcast.remove_trigger(relation regclass, operation text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET client_min_messages = 'warning'
AS $$
DECLARE
    hung record;
BEGIN
    FOR hung IN
        SELECT t.tgrelid::regclass AS target, t.tgfoid AS function, t.tgfoid::regprocedure AS called,
               pg_has_role(p.proowner, 'USAGE') AS mine
          FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
         WHERE t.tgrelid IN (SELECT rowcast.family(relation)) AND t.tgname = 'rowcast_' || operation
           AND p.pronamespace = 'rowcast_triggers'::regnamespace
    LOOP
        EXECUTE format('DROP TRIGGER rowcast_%s ON %s', operation, hung.target);
        IF hung.mine AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgfoid = hung.function) THEN
            EXECUTE format('DROP FUNCTION %s', hung.called);
        END IF;
    END LOOP;
END
$$;

-- Watches a table: its committed changes become events <type>.created, .updated and .deleted in the room that the
-- merchant column names. Calling it again changes the watch.
CREATE FUNCTION rowcast.watch(
    "table"         regclass,
    merchant_column text,
    type            text     DEFAULT NULL,
    columns         text[]   DEFAULT NULL,
    operations      text[]   DEFAULT '{insert,update,delete}',
    payload         regproc  DEFAULT NULL,
    on_error        text     DEFAULT 'warn'
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    relation CONSTANT regclass := "table";
    owner    regrole;
    watched  rowcast.watches;
    given    text;
    wanted   text[];
    one      text;
    target   regclass;
BEGIN
    PERFORM rowcast.check_table(relation);
    SELECT relowner::regrole INTO owner FROM pg_class WHERE oid = relation;
    IF operations IS NULL OR operations = '{}' OR NOT operations <@ '{insert,update,delete}' THEN
        RAISE EXCEPTION 'rowcast: operations are any of insert, update and delete, not %', operations
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF on_error IS NULL OR on_error NOT IN ('warn', 'fail') THEN
        RAISE EXCEPTION 'rowcast: on_error is warn or fail, not %', on_error USING ERRCODE = 'invalid_parameter_value';
    END IF;
    type := coalesce(type, (SELECT relname FROM pg_class WHERE oid = relation));
    IF rowcast.type_fault(type || '.created') IS NOT NULL OR rowcast.type_fault(type) IS NOT NULL OR octet_length(type) > 140 THEN
        RAISE EXCEPTION 'rowcast: "%" can not be the type of events: %', type,
            coalesce(rowcast.type_fault(type), rowcast.type_fault(type || '.created'), 'it must have at most 140 bytes')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF payload IS NOT NULL THEN
        PERFORM rowcast.check_payload(relation, payload);
    END IF;

    watched.relation := relation;
    watched.merchant_column := rowcast.need_column(relation, coalesce(merchant_column, ''));
    watched.type := type;
    watched.operations := operations;
    watched.payload := payload;
    watched.on_error := on_error;
    watched.all_columns := columns IS NULL;
    watched.watched_at := clock_timestamp();
    SELECT array_agg(a.attname::text ORDER BY k.n) INTO watched.key_columns
      FROM pg_index AS i
     CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
      JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
     WHERE i.indrelid = relation AND i.indisprimary AND k.n <= i.indnkeyatts;
    IF watched.key_columns IS NULL THEN
        RAISE EXCEPTION 'rowcast: table % has no primary key: its rows can not be told apart', relation
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    wanted := watched.key_columns || watched.merchant_column;
    IF columns IS NOT NULL THEN
        FOREACH given IN ARRAY columns LOOP
            wanted := wanted || rowcast.need_column(relation, given);
        END LOOP;
    END IF;
    SELECT array_agg(a.attname::text ORDER BY a.attnum) INTO watched.columns
      FROM pg_attribute AS a
     WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
       AND (columns IS NULL OR a.attname::text = ANY (wanted));

    -- One at a time (1919907683 is "rowc"): two would change the grants of the same functions.
    PERFORM pg_advisory_xact_lock(1919907683, 3);
    FOR target IN SELECT rowcast.family(relation) LOOP
        PERFORM rowcast.lock_for_triggers(target);
    END LOOP;
    -- Whoever owned it a moment ago need not own it now.
    PERFORM rowcast.check_table(relation);
    SELECT relowner::regrole INTO owner FROM pg_class WHERE oid = relation;
    IF payload IS NOT NULL THEN
        PERFORM rowcast.check_payload(relation, payload);
    END IF;
    PERFORM rowcast.grant_append(owner);
    FOREACH one IN ARRAY '{insert,update,delete,truncate}'::text[] LOOP
        PERFORM rowcast.remove_trigger(relation, one);
        IF one = ANY (operations || 'truncate'::text) THEN
            PERFORM rowcast.install_trigger(watched, one, owner);
        END IF;
    END LOOP;
    DELETE FROM rowcast.watches AS w
     WHERE w.relation = watched.relation OR NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = w.relation);
    INSERT INTO rowcast.watches SELECT watched.*;
END
$$;

-- Takes the triggers away; the application goes on. Says whether the table was watched.
CREATE FUNCTION rowcast.unwatch("table" regclass) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    relation CONSTANT regclass := "table";
    class pg_class%ROWTYPE;
    one   text;
    target regclass;
BEGIN
    SELECT * INTO class FROM pg_class WHERE oid = relation;
    IF class.oid IS NOT NULL THEN
        IF NOT pg_has_role(class.relowner, 'USAGE') THEN
            RAISE EXCEPTION 'rowcast: % must be owner of table % to stop watching it; its owner is %',
                current_user, relation, class.relowner::regrole USING ERRCODE = 'insufficient_privilege';
        END IF;
        -- A foreign partition, attached later, has none and can not be locked.
        FOR target IN
            SELECT c.oid FROM rowcast.family(relation) AS f (oid) JOIN pg_class AS c ON c.oid = f.oid WHERE c.relkind <> 'f'
        LOOP
            PERFORM rowcast.lock_for_triggers(target);
        END LOOP;
        FOREACH one IN ARRAY '{insert,update,delete,truncate}'::text[] LOOP
            PERFORM rowcast.remove_trigger(relation, one);
        END LOOP;
    END IF;
    DELETE FROM rowcast.watches AS w WHERE w.relation = "table";
    RETURN FOUND;
END
$$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA rowcast FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    rowcast.find_column(regclass, text), rowcast.need_column(regclass, text), rowcast.family(regclass),
    rowcast.difference_of(regclass, text, text, text), rowcast.under_own_names(text[], text),
    rowcast.same_key(regclass, text, text, text), rowcast.transition_column(regclass, text),
    rowcast.free_name(regclass, text),
    rowcast.hang_trigger(regclass, text, text),
    rowcast.key_columns_of(rowcast.watches, text), rowcast.trigger_source(rowcast.watches, text, regproc, text),
    rowcast.trigger_statement(rowcast.watches, text, regproc, text),
    rowcast.trigger_place(rowcast.watches), rowcast.trigger_work(rowcast.watches, text, regproc), rowcast.trigger_body(rowcast.watches, text),
    rowcast.lock_for_triggers(regclass), rowcast.check_table(regclass), rowcast.check_payload(regclass, regproc),
    rowcast.grant_append(regrole), rowcast.install_trigger(rowcast.watches, text, regrole),
    rowcast.remove_trigger(regclass, text),
    rowcast.watch(regclass, text, text, text[], text[], regproc, text), rowcast.unwatch(regclass)
    TO rowcast_watcher;
