//! Who may do what.

use anyhow::Result;
use rowcast_sandbox::Connection;

use crate::database::{Database, words};

async fn denied(client: &Connection, sql: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let words = words(&error);
    assert!(words.contains("permission denied") || words.contains("must be owner"), "{sql}: {words}");
}

#[tokio::test]
async fn the_public_can_neither_append_nor_publish_nor_read() -> Result<()> {
    let db = Database::migrated("public_rights").await?;
    // Even with the schema opened by mistake.
    db.run("CREATE ROLE stranger LOGIN; GRANT USAGE ON SCHEMA rowcast TO stranger").await?;
    let client = Connection::open(&db.server.url_for("stranger", &db.name)).await?;
    for sql in [
        "INSERT INTO rowcast.append (room, type, data, truncated) VALUES ('a', 'a.b', '1', false)",
        "SELECT rowcast.publish('a', 'a.b', '1')",
        "SELECT rowcast.request_raise('no')",
        "SELECT rowcast.ring()",
        "SELECT rowcast.watch('pg_class', 'relname')",
        "TABLE rowcast.outbox",
        "INSERT INTO rowcast.outbox (room, type, data) VALUES ('a', 'a.b', '1')",
        "TABLE rowcast.state",
    ] {
        denied(&client, sql).await;
    }
    let open = db
        .number(
            "SELECT count(*) FROM pg_proc AS p CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
              WHERE p.pronamespace IN ('rowcast'::regnamespace, 'rowcast_triggers'::regnamespace) AND a.grantee = 0",
        )
        .await?;
    assert_eq!(open, 0, "functions that the public may call");
    Ok(())
}

#[tokio::test]
async fn watching_needs_the_tables_owner_and_triggers_run_as_it() -> Result<()> {
    let db = Database::migrated("owner_rights").await?;
    db.run(
        "CREATE ROLE app_owner LOGIN; CREATE ROLE other_owner LOGIN; CREATE ROLE app_writer LOGIN;
         GRANT rowcast_watcher TO app_owner, other_owner;
         CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO app_owner; GRANT USAGE ON SCHEMA app TO app_writer, other_owner",
    )
    .await?;
    let owner = Connection::open(&db.server.url_for("app_owner", &db.name)).await?;
    let other = Connection::open(&db.server.url_for("other_owner", &db.name)).await?;
    let writer = Connection::open(&db.server.url_for("app_writer", &db.name)).await?;
    owner
        .batch_execute("CREATE TABLE app.t (id int PRIMARY KEY, m text); GRANT INSERT ON app.t TO app_writer")
        .await?;
    denied(&other, "SELECT rowcast.watch('app.t', 'm')").await;
    owner.batch_execute("SELECT rowcast.watch('app.t', 'm')").await?;
    denied(&other, "SELECT rowcast.unwatch('app.t')").await;
    writer.batch_execute("INSERT INTO app.t VALUES (1, 'a')").await?;
    denied(
        &writer,
        "INSERT INTO rowcast.append (room, type, data, truncated) VALUES ('a', 'a.b', '1', false)",
    )
    .await;
    denied(&owner, "TABLE rowcast.append").await;
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 1);
    let strangers = db
        .number(
            "SELECT count(*) FROM pg_proc AS p WHERE p.pronamespace = 'rowcast_triggers'::regnamespace
                AND p.proowner <> 'app_owner'::regrole",
        )
        .await?;
    assert_eq!(strangers, 0);
    // A superuser who watches gives the functions to the owner as well.
    db.run("SELECT rowcast.watch('app.t', 'm')").await?;
    writer.batch_execute("INSERT INTO app.t VALUES (2, 'a')").await?;
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 2);
    assert_eq!(db.failures().await?, []);
    Ok(())
}

#[tokio::test]
async fn the_functions_that_write_belong_to_a_role_that_can_only_add() -> Result<()> {
    let db = Database::migrated("writer_rights").await?;
    let more = db
        .number(
            "SELECT count(*) FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
              WHERE c.relnamespace = 'rowcast'::regnamespace AND a.grantee = 'rowcast_writer'::regrole AND c.relname <> 'append'
                AND NOT (a.privilege_type = 'INSERT' OR c.relkind = 'S' AND a.privilege_type = 'USAGE'
                         OR c.relname = 'doorbell' AND a.privilege_type = 'SELECT')",
        )
        .await?;
    let definers = db
        .number(
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'rowcast'::regnamespace AND prosecdef
                AND proowner <> 'rowcast_writer'::regrole",
        )
        .await?;
    assert_eq!((more, definers), (0, 0));
    Ok(())
}

#[tokio::test]
async fn a_listener_needs_no_more_than_its_role() -> Result<()> {
    let db = Database::migrated("listener_rights").await?;
    db.run("CREATE ROLE listening LOGIN; GRANT rowcast_listener TO listening; SELECT rowcast.publish('a', 'a.b', '1')")
        .await?;
    let url = db.server.url_for("listening", &db.name);
    crate::state::everything_a_leader_does(&url).await?;
    let client = Connection::open(&url).await?;
    denied(&client, "SELECT rowcast.publish('a', 'a.b', '1')").await;
    denied(&client, "INSERT INTO rowcast.outbox (room, type, data) VALUES ('a', 'a.b', '1')").await;
    Ok(())
}
