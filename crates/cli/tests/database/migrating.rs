//! What `migrate`, its dry run and `migrate status` promise.

use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{Place, json, rowcast};

#[tokio::test]
async fn status_and_dry_run_tell_what_migrating_will_do_and_change_nothing() {
    let place = Place::new("cli_migrations").await;
    let before = place.ok(&["migrate", "status"]).await;
    assert!(
        before.contains("schema") && before.contains("pending") && before.contains("run `rowcast migrate`"),
        "{before}"
    );
    let script = place.ok(&["migrate", "--dry-run"]).await;
    assert!(script.contains("-- V1__schema") && script.contains("CREATE TABLE rowcast.outbox"), "{script}");
    assert_eq!(place.ok(&["migrate", "status"]).await, before);

    place.ok(&["migrate"]).await;
    let after = place.ok(&["migrate", "status"]).await;
    assert!(after.contains("applied 20") && after.ends_with("up to date\n"), "{after}");
    let status = json(&place.ok(&["migrate", "status", "--json"]).await);
    assert_eq!(status["pending"], 0);
    assert_eq!(status["migrations"][0]["version"], 1);
    assert_eq!(status["migrations"][0]["state"], json!("applied"));
    assert!(place.ok(&["migrate", "--dry-run"]).await.contains("Nothing to do"));
}

#[tokio::test]
async fn a_migration_that_meets_a_lock_says_so_and_goes_on_when_it_is_free() {
    let place = Place::new("cli_migrate_lock").await;
    place.ok(&["migrate"]).await;
    let blocker = place.sql().await;
    let lock = "BEGIN; SET LOCAL application_name = 'nightly job'; LOCK TABLE rowcast.schema_history";
    blocker.batch_execute(lock).await.expect("a lock");
    let mut command = rowcast(&["migrate", "--lock-timeout", "20ms", "--retry-for", "1m"]);
    command.env("ROWCAST_DATABASE__URL", &place.url).stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the command runs");
    let mut said = BufReader::new(child.stderr.take().expect("piped")).lines();
    let line = said.next_line().await.expect("a read").expect("it says something");
    for expected in ["waiting for process", "nightly job", "rowcast.schema_history", "giving up in"] {
        assert!(line.contains(expected), "{expected}: {line}");
    }
    blocker.batch_execute("COMMIT").await.expect("the lock goes");
    assert!(child.wait().await.expect("it ends").success());
}

#[tokio::test]
async fn a_migration_gives_up_when_its_time_is_over() {
    let place = Place::new("cli_migrate_up").await;
    place.ok(&["migrate"]).await;
    let blocker = place.sql().await;
    blocker.batch_execute("BEGIN; LOCK TABLE rowcast.schema_history").await.expect("a lock");
    let output = rowcast(&["migrate", "--database-url", &place.url])
        .env("ROWCAST_DATABASE__MIGRATE_LOCK_TIMEOUT", "10ms")
        .env("ROWCAST_DATABASE__MIGRATE_RETRY_FOR", "50ms")
        .output()
        .await
        .expect("the command runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("within 50ms") && said.contains("database.migrate_retry_for"), "{said}");
}
