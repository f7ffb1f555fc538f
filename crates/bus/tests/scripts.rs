//! The scripts, reads and subscriptions against a real Redis.

mod support;

use std::time::Duration;

use anyhow::Result;
use redis::aio::MultiplexedConnection;
use rowcast_bus::{
    BusConfig, BusError, Claim, Command, Heard, Keys, Message, PublishLink, Range, ReadLink, Refusal, Reply,
    Retention, Subscription, subscribe,
};
use rowcast_protocol::{Epoch, Heartbeat, Offset, Sheet, StreamId};
use rowcast_sandbox::{Link, Proxy, Redis, RedisOptions, Signal};
use support::{STREAM, append, claim, create, heartbeat, id, mirror, record, retention, room};

const OTHER: StreamId = StreamId(0xb2);

async fn message(messages: &mut Subscription) -> Message {
    match messages.next().await {
        Some(Heard::Message(message)) => message,
        other => panic!("{other:?} instead of a message"),
    }
}

struct Bench {
    redis: Redis,
    config: BusConfig,
    link: PublishLink,
    read: ReadLink,
    raw: MultiplexedConnection,
}

impl Bench {
    async fn start() -> Result<Self> {
        let redis = Redis::start(RedisOptions::default()).await?;
        let config = BusConfig::new(redis.url(), Keys::new("rowcast", "test"));
        let link = PublishLink::connect(&config, retention()).await?;
        let read = ReadLink::connect(&config).await?;
        let raw = redis.connection().await?;
        Ok(Self { redis, config, link, read, raw })
    }

    async fn run(&mut self, command: Command) -> Result<Reply> {
        let mut replies = self.link.run(&[command]).await?;
        assert_eq!(replies.len(), 1);
        Ok(replies.remove(0))
    }

    async fn sync(&mut self, name: &str, last: usize) -> Result<Reply> {
        self.run(Command::Sync { room: room(name), last }).await
    }

    /// Creates a stream and appends to it until it has so many events.
    async fn fill(&mut self, name: &str, count: u64) -> Result<()> {
        let mut commands = vec![create(name, 1, STREAM, None, 1)];
        commands.extend((1..count).map(|expected| append(name, 1, STREAM, expected, expected + 1)));
        assert!(self.link.run(&commands).await?.iter().all(|reply| *reply == Reply::Done));
        Ok(())
    }

    async fn offsets(&mut self, name: &str, range: Range) -> Result<Vec<u64>> {
        let loaded = self.read.load(&room(name), range).await?;
        Ok(loaded.records.iter().map(|record| record.offset.0).collect())
    }
}

#[tokio::test]
async fn an_event_is_appended_once_however_often_the_command_arrives() -> Result<()> {
    let mut bench = Bench::start().await?;
    assert_eq!(bench.run(append("m", 1, STREAM, 0, 1)).await?, Reply::Moved, "only create makes a head");
    assert_eq!(bench.run(create("m", 1, STREAM, None, 1)).await?, Reply::Done);
    assert_eq!(bench.run(create("m", 1, OTHER, None, 1)).await?, Reply::Moved);
    let pipeline = [append("m", 1, STREAM, 1, 2), append("m", 1, STREAM, 2, 3)];
    assert_eq!(bench.link.run(&pipeline).await?, [Reply::Done, Reply::Done]);
    assert_eq!(bench.link.run(&pipeline).await?, [Reply::Moved, Reply::Moved]);
    assert_eq!(bench.run(append("m", 1, OTHER, 3, 4)).await?, Reply::Moved, "another stream");
    assert_eq!(bench.run(append("m", 1, STREAM, 7, 4)).await?, Reply::Moved, "a gap");
    assert_eq!(bench.offsets("m", Range::Last(10)).await?, [1, 2, 3]);
    Ok(())
}

#[tokio::test]
async fn after_a_failed_command_the_rest_of_a_pipeline_changes_nothing() -> Result<()> {
    let mut bench = Bench::start().await?;
    bench.fill("m", 2).await?;
    let pipeline =
        [append("m", 1, STREAM, 1, 9), append("m", 1, STREAM, 3, 10), append("other", 1, STREAM, 0, 1)];
    assert_eq!(bench.link.run(&pipeline).await?, [Reply::Moved, Reply::Moved, Reply::Moved]);
    assert_eq!(bench.offsets("m", Range::Last(10)).await?, [1, 2]);
    Ok(())
}

#[tokio::test]
async fn an_older_leader_changes_nothing_after_a_newer_one_has_spoken() -> Result<()> {
    let mut bench = Bench::start().await?;
    bench.fill("m", 1).await?;
    assert_eq!(bench.run(append("m", 5, STREAM, 1, 2)).await?, Reply::Done);
    assert_eq!(bench.run(append("m", 4, STREAM, 2, 3)).await?, Reply::Fenced(Epoch(5)));
    assert_eq!(bench.run(create("m", 4, OTHER, Some((STREAM, 2)), 3)).await?, Reply::Fenced(Epoch(5)));
    assert_eq!(bench.run(append("m", 5, STREAM, 2, 3)).await?, Reply::Done, "the same leader goes on");
    assert_eq!(bench.offsets("m", Range::Last(10)).await?, [1, 2, 3]);

    assert_eq!(bench.run(Command::Heartbeat(heartbeat(5, 2))).await?, Reply::Done);
    assert_eq!(bench.run(Command::Heartbeat(heartbeat(4, 1))).await?, Reply::Fenced(Epoch(5)));
    assert_eq!(bench.read.last_heartbeat().await?, Some(heartbeat(5, 2)));
    assert_eq!(bench.run(Command::Heartbeat(heartbeat(10, 3))).await?, Reply::Done, "numbers, not texts");
    Ok(())
}

#[tokio::test]
async fn a_claim_stands_until_it_is_flushed_or_a_newer_leader_comes() -> Result<()> {
    let mut bench = Bench::start().await?;
    assert_eq!(bench.link.identity().await?.claimed, None);
    assert_eq!(bench.run(Command::Check(Epoch(3))).await?, Reply::Moved);
    assert_eq!(bench.link.claim(claim(3, None)).await?, Reply::Done);
    assert_eq!(bench.link.identity().await?.claimed, Some(Epoch(3)));
    assert_eq!(bench.run(Command::Check(Epoch(3))).await?, Reply::Done);
    assert_eq!(
        bench.link.claim(claim(10, None)).await?,
        Reply::Moved,
        "somebody claimed it since it was read"
    );
    assert_eq!(bench.link.claim(claim(10, Some(Epoch(3)))).await?, Reply::Done);
    assert_eq!(bench.link.claim(claim(3, Some(Epoch(10)))).await?, Reply::Fenced(Epoch(10)));
    assert_eq!(bench.run(Command::Check(Epoch(3))).await?, Reply::Fenced(Epoch(10)));
    let promoted = Claim { timeline: 3, ..claim(10, Some(Epoch(10))) };
    assert_eq!(bench.link.claim(promoted).await?, Reply::Done);
    let old = claim(11, Some(Epoch(10)));
    assert_eq!(
        bench.link.claim(old).await?,
        Reply::Replaced(3),
        "it was not stopped when another was promoted"
    );
    assert_eq!(
        bench.link.claim(Claim { replaces: "1/2", ..old }).await?,
        Reply::Done,
        "it is wanted all the same"
    );
    let copy = Claim { origin: "1/3", ..claim(12, Some(Epoch(11))) };
    assert_eq!(bench.link.claim(copy).await?, Reply::Foreign("1/2".to_owned()), "another database's");
    assert_eq!(bench.link.identity().await?.claimed, Some(Epoch(11)));
    let successor = Claim { replaces: "1/2", ..copy };
    assert_eq!(bench.link.claim(successor).await?, Reply::Done);
    assert_eq!(bench.link.identity().await?.origin.as_deref(), Some("1/3"));
    // An old leader's heartbeat after a flush says nothing about the history that is gone.
    bench.redis.flush().await?;
    assert_eq!(bench.run(Command::Heartbeat(heartbeat(3, 1))).await?, Reply::Done);
    assert_eq!(bench.run(Command::Check(Epoch(10))).await?, Reply::Moved);
    assert_eq!(bench.link.claim(claim(3, None)).await?, Reply::Done);
    assert_eq!(bench.run(Command::Check(Epoch(10))).await?, Reply::Moved, "an older leader's is not its own");
    Ok(())
}

#[tokio::test]
async fn a_heartbeat_that_was_held_up_on_its_way_is_not_published() -> Result<()> {
    let mut bench = Bench::start().await?;
    let proxy = Proxy::start(format!("127.0.0.1:{}", bench.redis.port()))?;
    let config = BusConfig::new(format!("redis://{}", proxy.address()), Keys::new("rowcast", "test"));
    let retention = Retention {
        log_entries: 100,
        log_lifetime: Duration::from_secs(60),
        head_lifetime: Duration::from_secs(600),
    };
    let mut link = PublishLink::connect(&config, retention).await?;
    link.identity().await?;
    let beat = |generation| [Command::Heartbeat(heartbeat(1, generation))];
    assert_eq!(link.run(&beat(1)).await?, [Reply::Done]);
    assert_eq!(link.run(&beat(2)).await?, [Reply::Done], "the clock of the last answer counts");
    proxy.set(Link::Held);
    link.run(&beat(3)).await.expect_err("no answer in time");
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.set(Link::Through);
    let mut raw = bench.raw.clone();
    let mut carried_out = async || {
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await?;
        anyhow::ensure!(stats.contains("cmdstat_evalsha:calls=3"), "{stats}");
        anyhow::Ok(())
    };
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = carried_out().await {
        assert!(tokio::time::Instant::now() < end, "it never arrived: {error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.read.last_heartbeat().await?, Some(heartbeat(1, 2)), "it arrived, and says nothing");
    Ok(())
}

#[tokio::test]
async fn a_renewed_stream_takes_the_place_of_exactly_the_head_that_was_meant() -> Result<()> {
    let mut bench = Bench::start().await?;
    bench.fill("m", 3).await?;
    assert_eq!(bench.run(create("m", 1, OTHER, Some((STREAM, 2)), 4)).await?, Reply::Moved);
    assert_eq!(bench.run(create("m", 1, OTHER, Some((OTHER, 3)), 4)).await?, Reply::Moved);
    assert_eq!(
        bench.run(create("new", 1, OTHER, Some((STREAM, 3)), 4)).await?,
        Reply::Moved,
        "there is none"
    );
    assert_eq!(bench.offsets("m", Range::Last(10)).await?, [1, 2, 3]);
    assert_eq!(bench.run(create("m", 1, OTHER, Some((STREAM, 3)), 4)).await?, Reply::Done);
    let loaded = bench.read.load(&room("m"), Range::Last(10)).await?;
    assert_eq!(loaded.head.map(|head| (head.stream, head.offset)), Some((OTHER, Offset(1))));
    assert_eq!(loaded.records.iter().map(|record| record.stream).collect::<Vec<_>>(), [OTHER]);
    assert_eq!(
        bench.run(append("m", 1, STREAM, 3, 4)).await?,
        Reply::Moved,
        "a late command of the old stream"
    );
    Ok(())
}

#[tokio::test]
async fn sync_tells_the_head_the_last_ids_and_how_long_ago_the_head_moved() -> Result<()> {
    let mut bench = Bench::start().await?;
    assert_eq!(bench.sync("m", 10).await?, Reply::absent());
    bench.fill("m", 5).await?;
    let Reply::Synced { head: Some(head), since_append, ids, .. } = bench.sync("m", 3).await? else {
        panic!("there is a head");
    };
    assert_eq!((head.stream, head.offset, head.epoch), (STREAM, Offset(5), Epoch(1)));
    assert_eq!(ids, [id(5), id(4), id(3)]);
    assert!(since_append < Duration::from_secs(5), "{since_append:?}");
    // The head's remaining life tells its age.
    let key = "rowcast:test:{m}:head";
    let () = redis::cmd("PEXPIRE").arg(key).arg(600_000 - 90_000).query_async(&mut bench.raw).await?;
    let Reply::Synced { since_append, .. } = bench.sync("m", 3).await? else { panic!("there is a head") };
    assert!((90..95).contains(&since_append.as_secs()), "{since_append:?}");
    // The log is forgotten long before the head.
    let () = redis::cmd("DEL").arg("rowcast:test:{m}:log").query_async(&mut bench.raw).await?;
    let Reply::Synced { head: Some(head), ids, .. } = bench.sync("m", 3).await? else {
        panic!("there is a head");
    };
    assert_eq!((head.offset, ids), (Offset(5), vec![]));
    assert_eq!(bench.run(append("m", 1, STREAM, 5, 6)).await?, Reply::Done);
    assert_eq!(bench.offsets("m", Range::Last(10)).await?, [6]);
    Ok(())
}

#[tokio::test]
async fn a_log_keeps_what_it_must_and_both_keys_have_their_lifetimes() -> Result<()> {
    let mut bench = Bench::start().await?;
    bench.fill("m", 1_000).await?;
    let kept: u64 = redis::cmd("XLEN").arg("rowcast:test:{m}:log").query_async(&mut bench.raw).await?;
    assert!((100..400).contains(&kept), "{kept}");
    for (key, most) in [("log", 60_000), ("head", 600_000)] {
        let left: i64 =
            redis::cmd("PTTL").arg(format!("rowcast:test:{{m}}:{key}")).query_async(&mut bench.raw).await?;
        assert!((most - 10_000..=most).contains(&left), "{key}: {left}");
    }
    Ok(())
}

#[tokio::test]
async fn reads_give_the_newest_or_what_follows_an_offset() -> Result<()> {
    let mut bench = Bench::start().await?;
    assert_eq!(bench.read.load(&room("m"), Range::Last(5)).await?.head, None);
    bench.fill("m", 20).await?;
    assert_eq!(bench.offsets("m", Range::Last(3)).await?, [18, 19, 20]);
    assert_eq!(bench.offsets("m", Range::After { offset: Offset(4), count: 3 }).await?, [5, 6, 7]);
    assert_eq!(bench.offsets("m", Range::After { offset: Offset(18), count: 9 }).await?, [19, 20]);
    assert!(bench.offsets("m", Range::After { offset: Offset(20), count: 9 }).await?.is_empty());
    let heads = bench.read.heads(&[room("none"), room("m")]).await?;
    assert_eq!(
        heads.into_iter().map(|head| Some(head.expect("readable")?.offset)).collect::<Vec<_>>(),
        [None, Some(Offset(20))]
    );
    bench.read.ping().await?;
    Ok(())
}

#[tokio::test]
async fn forgotten_scripts_are_refused_and_loading_them_is_enough() -> Result<()> {
    let mut bench = Bench::start().await?;
    bench.fill("m", 1).await?;
    let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut bench.raw).await?;
    let commands = [
        Command::Sync { room: room("m"), last: 1 },
        append("m", 1, STREAM, 1, 2),
        Command::Heartbeat(heartbeat(1, 1)),
    ];
    for reply in bench.link.run(&commands).await? {
        assert!(matches!(&reply, Reply::Refused(refusal) if refusal.code == "NOSCRIPT"), "{reply:?}");
    }
    bench.link.load_scripts().await?;
    let replies = bench.link.run(&commands).await?;
    assert_eq!(replies[1..], [Reply::Done, Reply::Done]);
    Ok(())
}

#[tokio::test]
async fn a_full_or_read_only_redis_refuses_by_its_code_and_changes_nothing() -> Result<()> {
    let mut bench = Bench::start().await?;
    bench.fill("m", 1).await?;
    let refused = |reply: Reply| match reply {
        Reply::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let () = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).query_async(&mut bench.raw).await?;
    let refusal: Refusal = refused(bench.run(append("m", 1, STREAM, 1, 2)).await?);
    assert_eq!(refusal.label(), "OOM", "{refusal}");
    assert_eq!(refused(bench.run(create("m", 1, OTHER, Some((STREAM, 1)), 2)).await?).label(), "OOM");
    let kept: u64 = redis::cmd("XLEN").arg("rowcast:test:{m}:log").query_async(&mut bench.raw).await?;
    assert_eq!(kept, 1, "nothing was changed");
    assert!(matches!(bench.sync("m", 1).await?, Reply::Synced { .. }), "reading goes on");
    let () = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "0"]).query_async(&mut bench.raw).await?;

    let nowhere = rowcast_sandbox::free_port()?.to_string();
    let () = redis::cmd("REPLICAOF").arg(&["127.0.0.1", &nowhere]).query_async(&mut bench.raw).await?;
    assert_eq!(bench.link.identity().await?.role, "slave");
    assert_eq!(refused(bench.run(append("m", 1, STREAM, 1, 2)).await?).label(), "READONLY");
    let () = redis::cmd("REPLICAOF").arg(&["NO", "ONE"]).query_async(&mut bench.raw).await?;
    assert_eq!(bench.run(append("m", 1, STREAM, 1, 2)).await?, Reply::Done);
    assert_eq!(bench.offsets("m", Range::Last(10)).await?, [1, 2]);
    Ok(())
}

#[tokio::test]
async fn what_is_appended_reaches_those_subscribed_as_it_is_in_order_once() -> Result<()> {
    let mut bench = Bench::start().await?;
    let (mut subscriptions, mut messages) = subscribe(&bench.config).await?;
    let keys = &bench.config.keys;
    let channels = [keys.events(&room("m")), keys.heartbeat(&bench.config.only())];
    subscriptions.add(&channels).await?;
    bench.fill("m", 3).await?;
    bench.fill("other", 1).await?;
    assert_eq!(bench.run(append("m", 1, STREAM, 1, 2)).await?, Reply::Moved, "not published again");
    assert_eq!(bench.run(Command::Heartbeat(heartbeat(7, 2))).await?, Reply::Done);
    for offset in 1..=3 {
        let arrived = message(&mut messages).await;
        assert_eq!(arrived.channel, channels[0]);
        assert_eq!(arrived.payload, record(STREAM, offset, offset));
    }
    let beat = message(&mut messages).await;
    assert_eq!(beat.channel, channels[1]);
    assert_eq!(serde_json::from_slice::<Heartbeat>(&beat.payload)?, heartbeat(7, 2));

    subscriptions.remove(&channels[..1]).await?;
    assert_eq!(bench.run(append("m", 1, STREAM, 3, 4)).await?, Reply::Done);
    assert_eq!(bench.run(Command::Heartbeat(heartbeat(7, 3))).await?, Reply::Done);
    assert_eq!(message(&mut messages).await.channel, channels[1]);
    subscriptions.ping().await?;
    bench.redis.kill(Signal::KILL).await?;
    assert_eq!(messages.next().await, None, "the end of the connection is seen");
    Ok(())
}

#[tokio::test]
async fn odd_names_are_rooms_like_any_other_and_never_each_other() -> Result<()> {
    let mut bench = Bench::start().await?;
    let long = "ü".repeat(100);
    let names = ["}x", "{", "a:b", "a%3Ab", "*", "[a]", " ", "\u{0}", "Ünïcode/路", long.as_str()];
    for (row, name) in (1..).zip(names) {
        assert_eq!(bench.run(create(name, 1, StreamId(row), None, row)).await?, Reply::Done, "{name:?}");
    }
    for (row, name) in (1..).zip(names) {
        let loaded = bench.read.load(&room(name), Range::Last(10)).await?;
        assert_eq!(loaded.head.map(|head| head.stream), Some(StreamId(row)), "{name:?}");
        assert_eq!(loaded.records.len(), 1, "{name:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_silent_or_absent_redis_is_a_broken_link_within_the_time_limit() -> Result<()> {
    let mut bench = Bench::start().await?;
    bench.redis.process().signal(Signal::STOP)?;
    let began = std::time::Instant::now();
    let error = bench.link.run(&[Command::Heartbeat(heartbeat(1, 1))]).await.expect_err("no answer");
    assert!(matches!(error, BusError::Link(_)), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
    bench.redis.process().signal(Signal::CONT)?;
    bench.redis.kill(Signal::KILL).await?;
    let error = ReadLink::connect(&bench.config).await.err().expect("nobody listens");
    assert!(matches!(error, BusError::Link(_)), "{error}");
    let error =
        ReadLink::connect(&BusConfig::new("http://x", Keys::new("a", "b"))).await.err().expect("no URL");
    assert!(error.to_string().contains("redis://"), "{error}");
    Ok(())
}

#[tokio::test]
async fn every_start_of_a_server_has_another_run_id() -> Result<()> {
    let mut bench = Bench::start().await?;
    let first = bench.link.identity().await?;
    assert_eq!((first.role.as_str(), first.run_id.len()), ("master", 40));
    assert_eq!(bench.link.identity().await?.run_id, first.run_id);
    bench.redis.restart().await?;
    let retention = Retention { log_entries: 1, log_lifetime: Duration::ZERO, head_lifetime: Duration::ZERO };
    let mut link = PublishLink::connect(&bench.config, retention).await?;
    assert_ne!(link.identity().await?.run_id, first.run_id);
    Ok(())
}

#[tokio::test]
async fn a_sheet_is_written_only_by_the_leader_whose_claim_stands_and_goes_with_it() -> Result<()> {
    let mut bench = Bench::start().await?;
    assert_eq!(bench.read.mirror(Sheet::Switches).await?, None);
    assert_eq!(bench.run(mirror(5, 2)).await?, Reply::Moved, "nobody has claimed anything");
    assert_eq!(bench.link.claim(claim(5, None)).await?, Reply::Done);
    assert_eq!(bench.run(mirror(5, 2)).await?, Reply::Done);
    assert_eq!(bench.run(mirror(4, 1)).await?, Reply::Fenced(Epoch(5)), "an older leader's");
    assert_eq!(bench.run(mirror(6, 3)).await?, Reply::Moved, "a newer leader's, before its claim");
    let read = bench.read.mirror(Sheet::Switches).await?.expect("it is there");
    assert_eq!((read.version, read.content.as_str()), (2, "{\"of\":2}"));
    assert_eq!(bench.link.claim(claim(6, Some(Epoch(5)))).await?, Reply::Done);
    assert_eq!(bench.run(mirror(5, 9)).await?, Reply::Fenced(Epoch(6)));
    assert_eq!(bench.run(mirror(6, 4)).await?, Reply::Done);
    assert_eq!(
        bench.run(mirror(6, 3)).await?,
        Reply::Done,
        "its own, late: it counts as done, and changes nothing"
    );
    assert_eq!(bench.read.mirror(Sheet::Switches).await?.map(|read| read.version), Some(4));
    assert_eq!(bench.link.claim(claim(7, Some(Epoch(6)))).await?, Reply::Done);
    // A database that was restored has an earlier version: what PostgreSQL says counts.
    assert_eq!(bench.run(mirror(7, 1)).await?, Reply::Done);
    assert_eq!(bench.read.mirror(Sheet::Switches).await?.map(|read| read.version), Some(1));

    redis::cmd("FLUSHALL").query_async::<()>(&mut bench.raw).await?;
    bench.link.load_scripts().await?;
    assert_eq!(bench.read.mirror(Sheet::Switches).await?, None);
    assert_eq!(bench.run(mirror(7, 1)).await?, Reply::Moved, "its claim is gone, and history with it");
    assert_eq!(bench.run(mirror(5, 9)).await?, Reply::Moved);
    Ok(())
}
