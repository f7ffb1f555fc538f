//! The scripts, reads and subscriptions on each server that operators have. What they have to do, and why, is said in
//! `scripts.rs`; here is what a server could do otherwise.

mod support;

use std::time::Duration;

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;
use rowcast_bus::{
    BusConfig, Command, Heard, Keys, PublishLink, Range, ReadLink, Refusal, Reply, Subscription, subscribe,
};
use rowcast_protocol::{Epoch, Heartbeat, Offset, RoomName, Sheet, StreamId};
use rowcast_sandbox::{Persistence, Redis, RedisKind, RedisOptions};
use support::{STREAM, claim, heartbeat, id, mirror, record, retention};

const OTHER: StreamId = StreamId(0xb2);

struct Bench {
    redis: Redis,
    config: BusConfig,
    link: PublishLink,
    read: ReadLink,
    raw: MultiplexedConnection,
}

/// Carries a test out on a server of each kind that is here.
async fn on_each(test: impl AsyncFn(&mut Bench) -> Result<()>) -> Result<()> {
    for kind in RedisKind::ALL {
        if kind.is_here()? {
            let redis = Redis::start(RedisOptions {
                kind,
                persistence: Persistence::AppendOnly,
                ..Default::default()
            });
            let mut bench = Bench::on(redis.await?).await?;
            test(&mut bench).await.with_context(|| format!("on {kind}"))?;
        }
    }
    Ok(())
}

impl Bench {
    async fn on(redis: Redis) -> Result<Self> {
        let config = BusConfig::new(redis.url(), Keys::new("rowcast", "test"));
        let link = PublishLink::connect(&config, retention()).await?;
        let read = ReadLink::connect(&config).await?;
        let raw = redis.connection().await?;
        Ok(Self { redis, config, link, read, raw })
    }

    /// After the server was started again.
    async fn connect_anew(&mut self) -> Result<()> {
        self.link = PublishLink::connect(&self.config, retention()).await?;
        self.read = ReadLink::connect(&self.config).await?;
        self.raw = self.redis.connection().await?;
        Ok(())
    }

    async fn run(&mut self, command: Command) -> Result<Reply> {
        Ok(self.link.run(&[command]).await?.remove(0))
    }

    async fn offsets(&mut self) -> Result<Vec<u64>> {
        let loaded = self.read.load(&room(), Range::Last(10)).await?;
        Ok(loaded.records.iter().map(|record| record.offset.0).collect())
    }

    async fn refused(&mut self, command: Command) -> Result<Refusal> {
        match self.run(command).await? {
            Reply::Refused(refusal) => Ok(refusal),
            other => anyhow::bail!("{other:?}"),
        }
    }

    async fn tell(&mut self, words: &[&str]) -> Result<()> {
        Ok(redis::cmd(words[0]).arg(&words[1..]).query_async(&mut self.raw).await?)
    }
}

async fn next(messages: &mut Subscription) -> Result<(String, Vec<u8>)> {
    match messages.next().await {
        Some(Heard::Message(message)) => Ok((message.channel, message.payload.to_vec())),
        other => anyhow::bail!("{other:?} instead of a message"),
    }
}

fn room() -> RoomName {
    support::room("m")
}

/// The event behind the expected one, whose row has the offset's number.
fn append(epoch: u64, expected: u64) -> Command {
    support::append("m", epoch, STREAM, expected, expected + 1)
}

fn create(epoch: u64, stream: StreamId, replaces: Option<(StreamId, u64)>) -> Command {
    support::create("m", epoch, stream, replaces, 1)
}

#[tokio::test]
async fn on_each_server_events_are_appended_once_and_an_older_leader_changes_nothing() -> Result<()> {
    on_each(async |bench| {
        assert_eq!(bench.run(append(1, 0)).await?, Reply::Moved, "only create makes a head");
        let all = [create(1, STREAM, None), append(1, 1), append(1, 2)];
        assert_eq!(bench.link.run(&all).await?, [Reply::Done, Reply::Done, Reply::Done]);
        assert_eq!(bench.link.run(&all).await?, [Reply::Moved, Reply::Moved, Reply::Moved]);
        assert_eq!(bench.run(append(5, 3)).await?, Reply::Done);
        assert_eq!(bench.run(append(4, 4)).await?, Reply::Fenced(Epoch(5)));
        assert_eq!(bench.offsets().await?, [1, 2, 3, 4]);
        let Reply::Synced { head: Some(head), since_append, ids, .. } =
            bench.run(Command::Sync { room: room(), last: 3 }).await?
        else {
            anyhow::bail!("there is a head");
        };
        assert_eq!((head.stream, head.offset, head.epoch), (STREAM, Offset(4), Epoch(5)));
        assert_eq!(ids, [id(4), id(3), id(2)]);
        assert!(since_append < Duration::from_secs(20), "{since_append:?}");
        let heads = bench.read.heads(&[room(), RoomName::parse("none")?]).await?;
        let heads: Vec<_> = heads.into_iter().map(|head| Some(head.expect("readable")?.offset)).collect();
        assert_eq!(heads, [Some(Offset(4)), None]);
        assert_eq!(bench.run(create(5, OTHER, Some((STREAM, 3)))).await?, Reply::Moved);
        assert_eq!(bench.run(create(5, OTHER, Some((STREAM, 4)))).await?, Reply::Done);
        assert_eq!(bench.offsets().await?, [1]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn on_each_server_claims_heartbeats_and_sheets_are_a_leaders_own_and_go_with_a_flush() -> Result<()> {
    on_each(async |bench| {
        assert_eq!(bench.link.identity().await?.claimed, None);
        assert_eq!(bench.link.claim(claim(3, None)).await?, Reply::Done);
        assert_eq!(bench.link.claim(claim(10, Some(Epoch(3)))).await?, Reply::Done);
        assert_eq!(bench.link.claim(claim(3, Some(Epoch(10)))).await?, Reply::Fenced(Epoch(10)));
        assert_eq!(bench.run(Command::Heartbeat(heartbeat(10, 2))).await?, Reply::Done);
        assert_eq!(bench.run(Command::Heartbeat(heartbeat(3, 1))).await?, Reply::Fenced(Epoch(10)));
        assert_eq!(bench.read.last_heartbeat().await?, Some(heartbeat(10, 2)));
        assert_eq!(bench.run(mirror(10, 4)).await?, Reply::Done);
        assert_eq!(bench.run(mirror(3, 9)).await?, Reply::Fenced(Epoch(10)));
        assert_eq!(bench.read.mirror(Sheet::Switches).await?.map(|read| read.version), Some(4));
        bench.redis.flush().await?;
        bench.link.load_scripts().await?;
        assert_eq!(bench.run(Command::Check(Epoch(10))).await?, Reply::Moved);
        assert_eq!(bench.run(mirror(10, 5)).await?, Reply::Moved, "its claim is gone");
        assert_eq!(bench.read.mirror(Sheet::Switches).await?, None);
        assert_eq!(bench.read.last_heartbeat().await?, None);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn on_each_server_what_is_appended_reaches_its_subscribers_in_order_once() -> Result<()> {
    on_each(async |bench| {
        let (mut subscriptions, mut messages) = subscribe(&bench.config).await?;
        let keys = &bench.config.keys;
        let channels = [keys.events(&room()), keys.heartbeat(&bench.config.only())];
        subscriptions.add(&channels).await?;
        bench.link.run(&[create(1, STREAM, None), append(1, 1), append(1, 1)]).await?;
        assert_eq!(bench.run(Command::Heartbeat(heartbeat(1, 2))).await?, Reply::Done);
        for offset in 1..=2 {
            assert_eq!(next(&mut messages).await?, (channels[0].clone(), record(STREAM, offset, offset)));
        }
        let (_, beat) = next(&mut messages).await?;
        assert_eq!(serde_json::from_slice::<Heartbeat>(&beat)?, heartbeat(1, 2));
        subscriptions.ping().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn each_server_refuses_by_its_code_while_it_is_full_or_a_replica_and_changes_nothing() -> Result<()> {
    on_each(async |bench| {
        assert_eq!(bench.run(create(1, STREAM, None)).await?, Reply::Done);
        bench.tell(&["CONFIG", "SET", "maxmemory", "1"]).await?;
        for command in [append(1, 1), create(1, OTHER, Some((STREAM, 1)))] {
            let refusal = bench.refused(command).await?;
            assert_eq!(refusal.label(), "OOM", "{refusal:?}");
        }
        assert_eq!(bench.offsets().await?, [1], "reading goes on");
        bench.tell(&["CONFIG", "SET", "maxmemory", "0"]).await?;
        bench.tell(&["REPLICAOF", "127.0.0.1", &rowcast_sandbox::free_port()?.to_string()]).await?;
        assert_eq!(bench.link.identity().await?.role, "slave");
        let refusal = bench.refused(append(1, 1)).await?;
        assert_eq!(refusal.label(), "READONLY", "{refusal:?}");
        bench.tell(&["REPLICAOF", "NO", "ONE"]).await?;
        // Before 7.0 it does not look at scripts, as docs/topologies.md says.
        if !bench.link.identity().await?.version.starts_with("6.") {
            bench.tell(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await?;
            let refusal = bench.refused(append(1, 1)).await?;
            assert_eq!(refusal.label(), "NOREPLICAS", "{refusal:?}");
            bench.tell(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await?;
        }
        assert_eq!(bench.run(append(1, 1)).await?, Reply::Done);
        bench.tell(&["SCRIPT", "FLUSH"]).await?;
        let refusal = bench.refused(append(1, 2)).await?;
        assert_eq!(refusal.label(), "NOSCRIPT", "{refusal:?}");
        bench.link.load_scripts().await?;
        assert_eq!(bench.run(append(1, 2)).await?, Reply::Done);
        assert_eq!(bench.offsets().await?, [1, 2, 3]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_server_that_can_not_save_itself_refuses_by_its_code_and_keeps_its_readers_and_subscribers()
-> Result<()> {
    on_each(async |bench| {
        let (mut subscriptions, mut messages) = subscribe(&bench.config).await?;
        subscriptions.add(&[bench.config.keys.events(&room())]).await?;
        assert_eq!(bench.run(create(1, STREAM, None)).await?, Reply::Done);
        next(&mut messages).await?;
        // A folder has the name that the snapshot is to get.
        let blocked = bench.redis.folder().join("dump.rdb");
        std::fs::create_dir(&blocked)?;
        bench.tell(&["CONFIG", "SET", "save", "3600 1"]).await?;
        bench.tell(&["BGSAVE"]).await?;
        while bench.link.identity().await?.info.contains("rdb_last_bgsave_status:ok") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let refusal = bench.refused(append(1, 1)).await?;
        assert_eq!(refusal.label(), "MISCONF", "{refusal:?}");
        subscriptions.ping().await?;
        bench.read.ping().await?;
        assert_eq!(bench.offsets().await?, [1]);
        std::fs::remove_dir(&blocked)?;
        bench.tell(&["SAVE"]).await?;
        assert_eq!(bench.run(append(1, 1)).await?, Reply::Done);
        assert_eq!(next(&mut messages).await?.1, record(STREAM, 2, 2));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn each_server_has_another_run_id_after_a_restart_and_what_it_kept() -> Result<()> {
    on_each(async |bench| {
        let first = bench.link.identity().await?;
        assert_eq!((first.role.as_str(), first.run_id.len()), ("master", 40), "{first:?}");
        assert_eq!(bench.link.claim(claim(1, None)).await?, Reply::Done);
        assert_eq!(bench.run(create(1, STREAM, None)).await?, Reply::Done);
        bench.redis.restart().await?;
        bench.connect_anew().await?;
        let second = bench.link.identity().await?;
        assert_ne!(second.run_id, first.run_id);
        assert_eq!(second.claimed, Some(Epoch(1)));
        assert_eq!(bench.run(append(1, 1)).await?, Reply::Done);
        assert_eq!(bench.offsets().await?, [1, 2]);
        Ok(())
    })
    .await
}
