//! What the leader says of a Redis that is set to something that may hurt: real servers. The words are tested beside the code;
//! that eviction is warned of, in `redis_faults.rs`.

mod common;

use anyhow::{Context as _, Result, ensure};
use common::{Listener, PATIENCE, System};
use redis::Value;
use rowcast_sandbox::{Redis, RedisOptions, wait_for};

async fn redis(redis: &Redis, command: &[&str]) -> Result<Value> {
    let mut connection = redis.connection().await?;
    let answer = ::redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await;
    answer.with_context(|| command.join(" "))
}

/// Has the leader look at Redis again, and waits until it sees so many servers with this concern.
async fn expect(system: &System, listener: &Listener, concern: &str, servers: f64) -> Result<()> {
    redis(&system.redis, &["CLIENT", "KILL", "TYPE", "normal"]).await?;
    let name = format!("rowcast_listener_redis_concerns{{concern=\"{concern}\"}}");
    listener.expect_metric(&name, servers).await
}

fn says(listener: &Listener, words: &str) -> usize {
    listener.process.log_tail(1_000).matches(words).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_takes_events_though_no_replica_hears_it_is_pointed_out() -> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("only").await?;
    listener.expect_leading().await?;
    expect(&system, &listener, "unguarded", 0.0).await?;
    redis(&system.redis, &["CONFIG", "SET", "repl-diskless-sync-delay", "0"]).await?;
    let replica = Redis::start(RedisOptions::default()).await?;
    redis(&replica, &["REPLICAOF", "127.0.0.1", &system.redis.port().to_string()]).await?;
    wait_for("the replica is there", PATIENCE, async || {
        let Value::BulkString(info) = redis(&system.redis, &["INFO", "replication"]).await? else {
            anyhow::bail!("INFO is a text");
        };
        ensure!(String::from_utf8_lossy(&info).contains("state=online"), "it is not");
        Ok(())
    })
    .await?;
    expect(&system, &listener, "unguarded", 1.0).await?;
    assert_eq!(says(&listener, "min-replicas-to-write 1"), 1);
    redis(&system.redis, &["CONFIG", "SET", "min-replicas-to-write", "1"]).await?;
    expect(&system, &listener, "unguarded", 0.0).await?;
    system.publish("m", 0..3).await?;
    system.expect("m", 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_that_failed_is_said_before_anybody_wonders_about_refusals() -> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("only").await?;
    listener.expect_leading().await?;
    // A snapshot has nowhere to go when the folder's name is taken by a folder.
    let blocked = system.redis.folder().join("dump.rdb");
    std::fs::create_dir(&blocked)?;
    redis(&system.redis, &["BGSAVE"]).await?;
    wait_for("the save has failed", PATIENCE, async || {
        let Value::BulkString(info) = redis(&system.redis, &["INFO", "persistence"]).await? else {
            anyhow::bail!("INFO is a text");
        };
        ensure!(String::from_utf8_lossy(&info).contains("rdb_last_bgsave_status:err"), "not yet");
        Ok(())
    })
    .await?;
    expect(&system, &listener, "saving_fails", 1.0).await?;
    assert_eq!(says(&listener, "could not save itself"), 1);
    std::fs::remove_dir(&blocked)?;
    redis(&system.redis, &["SAVE"]).await?;
    expect(&system, &listener, "saving_fails", 0.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_concern_is_said_once_and_not_with_every_link() -> Result<()> {
    let system = System::start().await?;
    redis(&system.redis, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await?;
    let listener = system.listener("only").await?;
    listener.expect_leading().await?;
    for number in 0..3 {
        expect(&system, &listener, "evicts", 1.0).await?;
        system.publish("m", number..number + 1).await?;
        system.expect("m", number + 1).await?;
    }
    assert_eq!(says(&listener, "maxmemory-policy noeviction"), 1);
    assert_eq!(says(&listener, "Redis tells of itself"), 1);
    Ok(())
}
