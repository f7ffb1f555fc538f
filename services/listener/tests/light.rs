//! What heartbeats say, and when there are none: an edge's light follows from that. It turns to Delayed when it has heard
//! nothing for 3 s or of a lag above 5 s; here each link before the edge is cut in turn.

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use common::{Listener, PATIENCE, System};
use rowcast_bus::{Heard, subscribe};
use rowcast_protocol::{Heartbeat, Micros};
use rowcast_sandbox::{Link, Proxy, Signal, wait_until};
use tokio::task::JoinHandle;

/// Above this an edge says Delayed.
const MAX_LAG_MS: u64 = 5_000;
/// A heartbeat needs a read within the last second; the light has 5 s, of which an edge waits 3.
const LAST_WORD: Duration = Duration::from_millis(1_900);

fn now() -> i64 {
    Micros::from_system_time(SystemTime::now()).0
}

/// What an edge hears: each heartbeat, and whether all of the room was published when it arrived.
struct Ear {
    heard: Arc<Mutex<Vec<(Heartbeat, usize)>>>,
    task: JoinHandle<()>,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ear {
    /// Listens at Redis itself, and looks at the room `m` each time.
    async fn listen(system: &System) -> Result<Self> {
        let (mut subscriptions, mut arriving) = subscribe(&system.bus()).await?;
        let bus = system.bus();
        subscriptions.add(&[bus.keys.heartbeat(&bus.only())]).await?;
        let mut raw = system.redis.connection().await?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = heard.clone();
        let task = tokio::spawn(async move {
            let _subscriptions = subscriptions;
            while let Some(Heard::Message(message)) = arriving.next().await {
                let beat: Heartbeat = serde_json::from_slice(&message.payload).expect("a heartbeat");
                let there = redis::cmd("XLEN").arg("rowcast:default:{m}:log").query_async(&mut raw).await;
                kept.lock().expect("not poisoned").push((beat, there.expect("Redis answers")));
            }
        });
        Ok(Self { heard, task })
    }

    fn heard(&self) -> Vec<(Heartbeat, usize)> {
        self.heard.lock().expect("not poisoned").clone()
    }

    /// Waits for a heartbeat that satisfies a condition and was made after a moment.
    async fn expect(&self, what: &str, after: i64, condition: impl Fn(&Heartbeat) -> bool) -> Result<()> {
        let is_there = || self.heard().iter().any(|(beat, _)| beat.at > after && condition(beat));
        wait_until(what, PATIENCE, || std::future::ready(is_there())).await
    }

    /// Cuts a link, lets events be committed behind it, heals it when they are too old to be live, and judges what was
    /// heard: soon nothing more, then nothing that would turn the light on before the events were there.
    async fn cut(
        &self,
        system: &System,
        cut: impl AsyncFnOnce() -> Result<()>,
        heal: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<()> {
        self.expect("it is live", now(), |beat| beat.lag_ms < MAX_LAG_MS).await?;
        let before = system.numbers("m").await.unwrap_or_default().len() as u64;
        cut().await?;
        let cut_at = now();
        system.publish("m", before..before + 20).await?;
        tokio::time::sleep(Duration::from_millis(MAX_LAG_MS + 300)).await;
        let (healed, heard) = (now(), self.heard().len());
        heal().await?;
        let whole = (before + 20) as usize;
        self.expect("it is live again", healed, |beat| beat.lag_ms < MAX_LAG_MS).await?;
        system.expect("m", whole as u64).await?;
        let last_word = cut_at + LAST_WORD.as_micros() as i64;
        for (index, (beat, there)) in self.heard().into_iter().enumerate() {
            let during = beat.at > cut_at && beat.at <= healed;
            assert!(!during || beat.at < last_word, "said while the link was cut: {beat:?}");
            let lit = index >= heard && beat.lag_ms <= MAX_LAG_MS;
            assert!(!lit || there >= whole, "on, {there} of {whole} events are there: {beat:?}");
        }
        Ok(())
    }
}

async fn start() -> Result<(System, Proxy, Proxy, Listener, Ear)> {
    let system = System::start().await?;
    let port = system.postgres.port();
    let to_postgres = Proxy::start(format!("127.0.0.1:{port}"))?;
    let to_redis = Proxy::start(format!("127.0.0.1:{}", system.redis.port()))?;
    let database = system.url.replace(&format!(":{port}/"), &format!(":{}/", to_postgres.port()));
    let redis = format!("redis://{}", to_redis.address());
    let settings = [("ROWCAST_DATABASE__URL", database.as_str()), ("ROWCAST_REDIS__URL", redis.as_str())];
    let listener = system.listener_with("only", &settings).await?;
    let ear = Ear::listen(&system).await?;
    Ok((system, to_postgres, to_redis, listener, ear))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_listener_is_silent_and_says_the_lag_until_it_has_caught_up() -> Result<()> {
    let (system, _to_postgres, _to_redis, listener, ear) = start().await?;
    let (stop, go_on) =
        (async || listener.process.signal(Signal::STOP), async || listener.process.signal(Signal::CONT));
    ear.cut(&system, stop, go_on).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgresql_there_are_no_heartbeats_and_the_lag_shows_until_all_is_caught_up() -> Result<()> {
    let (system, to_postgres, _to_redis, _listener, ear) = start().await?;
    let (hold, release) = (
        async || {
            to_postgres.set(Link::Held);
            Ok(())
        },
        async || {
            to_postgres.set(Link::Through);
            Ok(())
        },
    );
    ear.cut(&system, hold, release).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_was_held_up_on_the_way_to_redis_is_not_heard_late() -> Result<()> {
    let (system, _to_postgres, to_redis, _listener, ear) = start().await?;
    let hold = async || {
        to_redis.set(Link::Held);
        // One is on its way by then.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        Ok(())
    };
    let release = async || {
        to_redis.set(Link::Through);
        Ok(())
    };
    ear.cut(&system, hold, release).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_can_not_be_read_silences_the_heartbeat() -> Result<()> {
    let (system, _to_postgres, _to_redis, _listener, ear) = start().await?;
    ear.expect("it is live", now(), |beat| beat.lag_ms == 0).await?;
    let holder = system.postgres.connect("app").await?;
    holder.batch_execute("BEGIN; LOCK TABLE rowcast.outbox IN ACCESS EXCLUSIVE MODE").await?;
    let (locked, heard) = (now(), ear.heard().len());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let silent_since = locked + LAST_WORD.as_micros() as i64;
    let said: Vec<_> =
        ear.heard().into_iter().skip(heard).filter(|(beat, _)| beat.at > silent_since).collect();
    assert!(said.is_empty(), "{said:?}");
    holder.batch_execute("COMMIT").await?;
    ear.expect("it is live again", now(), |beat| beat.lag_ms < MAX_LAG_MS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_open_transaction_gives_no_false_lag() -> Result<()> {
    let (system, _to_postgres, _to_redis, _listener, ear) = start().await?;
    ear.expect("it is live", now(), |beat| beat.lag_ms == 0).await?;
    let long = system.postgres.connect("app").await?;
    long.batch_execute("BEGIN").await?;
    common::publish_one(&long, "long", 0).await?;
    for number in 0..56 {
        system.publish("m", number..number + 1).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    long.batch_execute("COMMIT").await?;
    system.expect("long", 1).await?;
    ear.expect("it is live after it", now(), |beat| beat.lag_ms == 0).await?;
    for (beat, _) in ear.heard() {
        assert!(beat.lag_ms < 4_000, "the row was not visible before its commit: {beat:?}");
    }
    Ok(())
}
