//! Switches: their versions, who is told, and who may turn them.

use anyhow::Result;
use rowcast_protocol::{Sheet, Switches};
use rowcast_sandbox::{Connection, wait_until};
use rowcast_store::{Cleaner, Election, SessionOptions, Standby, StoreError, Watches};

use crate::database::{Database, words};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

async fn sheet(cleaner: &Cleaner) -> Result<(u64, Switches)> {
    let mirror = cleaner.load_sheet(Sheet::Switches, None).await?.expect("not known yet");
    Ok((mirror.version, Switches::parse(&mirror.content)?))
}

#[tokio::test]
async fn each_change_of_a_switch_raises_the_version_and_saying_the_same_again_does_not() -> Result<()> {
    let db = Database::migrated("switches").await?;
    let cleaner = Cleaner::connect(&db.url, &SessionOptions::new("test")).await?;
    let watches = Watches::connect(&db.url).await?;
    let (on, off) = (Switches { websocket: true }, Switches { websocket: false });
    assert_eq!(sheet(&cleaner).await?, (1, on));
    for (is_on, changes, expected) in
        [(true, false, (1, on)), (false, true, (2, off)), (false, false, (2, off)), (true, true, (3, on))]
    {
        assert_eq!(watches.set_switch("websocket", is_on).await?, changes);
        assert_eq!(sheet(&cleaner).await?, expected);
    }
    let list = watches.switches().await?;
    assert_eq!(
        (list.version, list.switches[0].name.as_str(), list.switches[0].is_on),
        (3, "websocket", true)
    );
    // Whatever way a row changes, the version does too; and a rolled back change was none.
    db.run("UPDATE rowcast.switches SET is_on = false").await?;
    db.run("BEGIN; UPDATE rowcast.switches SET is_on = true; ROLLBACK").await?;
    assert_eq!(sheet(&cleaner).await?, (4, off));
    let error = watches.set_switch("websockets", false).await.expect_err("unknown").to_string();
    assert!(error.contains("no switch websockets") && error.contains("there are: websocket"), "{error}");
    Ok(())
}

#[tokio::test]
async fn changes_at_the_same_time_each_have_a_version_of_their_own() -> Result<()> {
    let db = Database::migrated("switches_at_once").await?;
    db.run("INSERT INTO rowcast.switches (name) SELECT 'other-' || n FROM generate_series(1, 8) AS n")
        .await?;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 1..=8 {
        let url = db.url.clone();
        tasks.spawn(async move {
            let watches = Watches::connect(&url).await?;
            watches.set_switch(&format!("other-{n}"), false).await
        });
    }
    while let Some(set) = tasks.join_next().await {
        assert!(set??);
    }
    assert_eq!(db.number("SELECT version FROM rowcast.mirror WHERE sheet = 'switches'").await?, 9);
    Ok(())
}

#[tokio::test]
async fn the_leader_is_told_of_a_change_and_of_no_other() -> Result<()> {
    let db = Database::migrated("switches_told").await?;
    let options = SessionOptions::new("test");
    let Election::Elected(lead) = Standby::connect(&db.url, &options).await?.try_lead().await? else {
        anyhow::bail!("somebody else leads");
    };
    let control = lead.session().control().clone();
    let told = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counting = tokio::spawn({
        let told = told.clone();
        async move {
            loop {
                control.notified().await;
                told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    });
    let watches = Watches::connect(&db.url).await?;
    assert!(!watches.set_switch("websocket", true).await?);
    for (times, is_on) in [(1, false), (2, true)] {
        assert!(watches.set_switch("websocket", is_on).await?);
        wait_until("the leader is told", PATIENCE, || async {
            told.load(std::sync::atomic::Ordering::Relaxed) == times
        })
        .await?;
    }
    counting.abort();
    Ok(())
}

#[tokio::test]
async fn operators_may_turn_switches_listeners_may_read_them_and_others_neither() -> Result<()> {
    let db = Database::migrated("switch_rights").await?;
    db.run(
        "CREATE ROLE switch_operator LOGIN; GRANT rowcast_operator TO switch_operator;
         CREATE ROLE switch_listener LOGIN; GRANT rowcast_listener TO switch_listener;
         CREATE ROLE switch_owner LOGIN; GRANT rowcast_watcher, rowcast_publisher TO switch_owner",
    )
    .await?;
    let url = |role: &str| db.server.url_for(role, &db.name);
    let operator = Watches::connect(&url("switch_operator")).await?;
    assert!(operator.set_switch("websocket", false).await?);
    assert!(!operator.switches().await?.switches[0].is_on);
    let listener = Cleaner::connect(&url("switch_listener"), &SessionOptions::new("test")).await?;
    assert_eq!(sheet(&listener).await?, (2, Switches { websocket: false }));

    let denied = [
        ("switch_operator", "UPDATE rowcast.switches SET name = 'x'"),
        ("switch_operator", "INSERT INTO rowcast.switches (name) VALUES ('x')"),
        ("switch_operator", "TABLE rowcast.outbox"),
        ("switch_operator", "SELECT rowcast.publish('a', 'a.b', '1')"),
        ("switch_listener", "SELECT rowcast.set_switch('websocket', true)"),
        ("switch_listener", "UPDATE rowcast.switches SET is_on = true"),
        ("switch_owner", "SELECT rowcast.set_switch('websocket', true)"),
        ("switch_owner", "TABLE rowcast.switches"),
    ];
    for (role, sql) in denied {
        let client = Connection::open(&url(role)).await?;
        let error = client.batch_execute(sql).await.expect_err(sql);
        assert!(words(&error).contains("permission denied"), "{role}: {sql}: {}", words(&error));
    }
    Ok(())
}

#[tokio::test]
async fn without_the_schema_or_with_an_older_one_the_error_says_what_to_do() -> Result<()> {
    let empty = Database::empty("switch_empty").await?;
    let watches = Watches::connect(&empty.url).await?;
    assert!(matches!(watches.switches().await, Err(StoreError::NotMigrated)));
    assert!(matches!(watches.set_switch("websocket", false).await, Err(StoreError::NotMigrated)));
    Ok(())
}
