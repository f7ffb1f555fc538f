//! Switches on their way from PostgreSQL to Redis, through everything that befalls leaders and Redis. What edges make of
//! them is in the edge's tests.

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use common::{PATIENCE, System};
use rowcast_bus::{Command, PublishLink, ReadLink, Reply, Retention};
use rowcast_protocol::{Epoch, Mirror, Sheet, Switches};
use rowcast_sandbox::{Persistence, Signal, wait_for};

impl System {
    async fn turn(&self, on: bool) -> Result<()> {
        self.database.execute("SELECT rowcast.set_switch('websocket', $1)", &[&on]).await?;
        Ok(())
    }

    /// Version and state, as an edge finds them in Redis.
    async fn mirrored(&self) -> Result<(u64, bool)> {
        let mut link = ReadLink::connect(&self.bus()).await?;
        let mirror = link.mirror(Sheet::Switches).await?.context("nothing is mirrored")?;
        Ok((mirror.version, Switches::parse(&mirror.content)?.websocket))
    }

    /// Waits until heartbeats tell of a version, and that stands in Redis.
    async fn expect_switches(&self, version: u64, on: bool) -> Result<()> {
        wait_for(format!("switches at version {version}"), PATIENCE, || async {
            let told = self.heartbeat().await?.switches;
            let mirrored = self.mirrored().await?;
            anyhow::ensure!(
                (told, mirrored) == (version, (version, on)),
                "told of {told}, found {mirrored:?}"
            );
            anyhow::Ok(())
        })
        .await
    }
}

#[tokio::test]
async fn a_switch_that_is_turned_is_in_redis_at_once_and_costs_nothing_while_it_rests() -> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("one").await?;
    system.expect_switches(1, true).await?;
    for (version, on) in [(2, false), (3, true), (4, false)] {
        let begin = Instant::now();
        system.turn(on).await?;
        system.expect_switches(version, on).await?;
        // It would be found within a minute anyway: this one was told.
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
    listener.expect_metric("rowcast_listener_switches_version", 4.0).await?;
    let idle = system.queries_a_second().await?;
    assert!(idle <= 3.0, "{idle} queries a second");
    system.expect_switches(4, false).await
}

#[tokio::test]
async fn the_next_leader_knows_the_switches_and_what_was_turned_while_nobody_led() -> Result<()> {
    let system = System::start().await?;
    let first = system.listener("first").await?;
    system.turn(false).await?;
    system.expect_switches(2, false).await?;
    let epoch = system.heartbeat().await?.epoch;
    first.process.stop(Signal::KILL, PATIENCE).await?;
    let second = system.listener("second").await?;
    second.expect_leading().await?;
    system.expect_heartbeat("the next leader", |heartbeat| heartbeat.epoch > epoch).await?;
    system.expect_switches(2, false).await?;
    second.process.signal(Signal::TERM)?;
    second.process.wait_exit(PATIENCE).await?;
    system.turn(true).await?;
    let _third = system.listener("third").await?;
    system.expect_switches(3, true).await
}

#[tokio::test]
async fn a_flushed_or_restarted_redis_gets_the_switches_back_before_anything_is_told() -> Result<()> {
    for persistence in [Persistence::None, Persistence::Snapshot] {
        let mut system = System::start_with(persistence).await?;
        let _listener = system.listener("one").await?;
        system.turn(false).await?;
        system.expect_switches(2, false).await?;
        let before = system.heartbeat().await?.generation;
        let mut redis = system.redis.connection().await?;
        redis::cmd("FLUSHALL").query_async::<()>(&mut redis).await?;
        system.expect_heartbeat("a new generation", |heartbeat| heartbeat.generation > before).await?;
        system.expect_switches(2, false).await?;
        let before = system.heartbeat().await?.generation;
        system.redis.restart().await?;
        system.expect_heartbeat("a new generation", |heartbeat| heartbeat.generation > before).await?;
        system.expect_switches(2, false).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_paused_leader_cannot_turn_a_switch_back_after_takeover() -> Result<()> {
    let system = System::start().await?;
    let old = system.listener("old").await?;
    system.expect_switches(1, true).await?;
    let epoch = system.heartbeat().await?.epoch;
    let new = system.listener("new").await?;
    old.process.signal(Signal::STOP)?;
    system.turn(false).await?;
    new.expect_leading().await?;
    system.expect_switches(2, false).await?;
    old.process.signal(Signal::CONT)?;
    // What it may have had under way, it sends now.
    let retention = Retention {
        log_entries: 100,
        log_lifetime: Duration::from_secs(60),
        head_lifetime: Duration::from_secs(60),
    };
    let mut link = PublishLink::connect(&system.bus(), retention).await?;
    let stale = Mirror { sheet: Sheet::Switches, version: 1, content: r#"{"websocket":true}"#.to_owned() };
    let replies = link.run(&[Command::Mirror(Epoch(epoch), stale)]).await?;
    assert!(matches!(replies[..], [Reply::Fenced(_)]), "{replies:?}");
    wait_for("the old leader to stand by", PATIENCE, || async {
        anyhow::ensure!(!old.leads().await, "it believes to lead");
        anyhow::Ok(())
    })
    .await?;
    let later = system.heartbeat().await?.at;
    system.expect_heartbeat("another heartbeat", |heartbeat| heartbeat.at > later).await?;
    system.expect_switches(2, false).await
}

#[tokio::test]
async fn a_redis_that_refuses_for_a_while_has_the_last_state_afterwards() -> Result<()> {
    let system = System::start().await?;
    let _listener = system.listener("one").await?;
    system.expect_switches(1, true).await?;
    let mut redis = system.redis.connection().await?;
    let set = async |redis: &mut redis::aio::MultiplexedConnection, limit: &str| {
        redis::cmd("CONFIG").arg(&["SET", "maxmemory", limit]).query_async::<()>(redis).await
    };
    set(&mut redis, "1").await?;
    system.turn(false).await?;
    system.turn(true).await?;
    system.turn(false).await?;
    assert_eq!(system.mirrored().await?, (1, true), "a full Redis takes nothing");
    set(&mut redis, "0").await?;
    system.expect_switches(4, false).await
}
