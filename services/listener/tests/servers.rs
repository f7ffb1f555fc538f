//! Redis's servers change under a listener: slots move, masters fail, Sentinels name another, one of several is silent.

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::{PATIENCE, System, Writers, number_of};
use rowcast_bus::{BusConfig, Finder, Keys, Range, ReadLink, Server};
use rowcast_protocol::{Heartbeat, RoomName};
use rowcast_sandbox::{
    ClusterOptions, Launch, Link, Proxy, RedisCluster, RedisSentinels, SentinelOptions, Signal, bin,
    http_get, metric, wait_for,
};

/// The light must be off by then, on a machine that has much else to do.
const TOLD_WITHIN: Duration = Duration::from_secs(8);

fn config(url: &str) -> BusConfig {
    BusConfig::new(url, Keys::new("rowcast", "default"))
}

async fn holder(config: &BusConfig, room: &str) -> Result<Server> {
    let topology = Finder::new(config)?.find().await?;
    topology.holder(&RoomName::parse(room)?).cloned().context("nobody holds it")
}

/// The numbers in a room's log, where that is now; checks that the offsets have no gap.
async fn numbers(config: &BusConfig, room: &str) -> Result<Vec<u64>> {
    let mut link = ReadLink::connect_to(config, &holder(config, room).await?).await?;
    let loaded = link.load(&RoomName::parse(room)?, Range::Last(100_000)).await?;
    let first = loaded.records.first().map_or(1, |record| record.offset.0);
    for (place, record) in loaded.records.iter().enumerate() {
        assert_eq!(record.offset.0, first + place as u64, "offsets of {room} are contiguous");
    }
    loaded.records.iter().map(|record| number_of(&record.fragment)).collect()
}

/// The last heartbeat through each server.
async fn heartbeats(config: &BusConfig) -> Result<Vec<Heartbeat>> {
    let topology = Finder::new(config)?.find().await?;
    let mut heard = Vec::new();
    for server in topology.servers() {
        let mut link = ReadLink::connect_to(config, server).await?;
        heard.push(link.last_heartbeat().await?.with_context(|| format!("no heartbeat through {server}"))?);
    }
    Ok(heard)
}

async fn expect_last(config: &BusConfig, room: &str, last: u64) -> Result<()> {
    wait_for(format!("{last} is the last in {room}"), PATIENCE, || async {
        let numbers = numbers(config, room).await?;
        ensure!(numbers.last() == Some(&last), "it ends with {:?}", numbers.last());
        Ok(())
    })
    .await
}

async fn generation(system: &System) -> Result<i64> {
    Ok(system.database.query_one("SELECT generation FROM rowcast.state", &[]).await?.get(0))
}

#[tokio::test]
async fn slots_that_move_under_load_lose_nothing_and_begin_no_new_history() -> Result<()> {
    let system = System::start().await?;
    let redis = RedisCluster::start(ClusterOptions { replicas: 0, ..ClusterOptions::default() }).await?;
    let config = config(&redis.url());
    let listener = system.listener_with("one", &[("ROWCAST_REDIS__URL", &redis.url())]).await?;
    listener.expect_leading().await?;
    wait_for("every master hears a heartbeat", PATIENCE, || heartbeats(&config)).await?;
    let before = generation(&system).await?;
    let writers = Writers::begin(&system).await?;
    for to in [0, 1, 2, 0, 1, 2] {
        for room in writers.rooms() {
            let mut asked = redis.nodes()[0].connection().await?;
            let key = format!("{{{room}}}");
            let slot: u16 = redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query_async(&mut asked).await?;
            redis.move_slot(slot, to).await?;
        }
    }
    let rooms: Vec<String> = writers.rooms().collect();
    let events = writers.all_written().await?;
    for room in rooms {
        expect_last(&config, &room, events - 1).await?;
        assert_eq!(numbers(&config, &room).await?, (0..events).collect::<Vec<_>>(), "{room}");
    }
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    assert_eq!(generation(&system).await?, before);
    Ok(())
}

#[tokio::test]
async fn a_replica_that_takes_over_in_a_cluster_begins_a_new_history_once() -> Result<()> {
    let system = System::start().await?;
    let redis = RedisCluster::start(ClusterOptions::default()).await?;
    let config = config(&redis.url());
    let listener = system.listener_with("one", &[("ROWCAST_REDIS__URL", &redis.url())]).await?;
    listener.expect_leading().await?;
    system.publish("m", 0..10).await?;
    expect_last(&config, "m", 9).await?;
    let (before, failed) = (generation(&system).await?, holder(&config, "m").await?);
    let port = failed.address.as_ref().context("it has an address")?.port;
    let node = redis.nodes().iter().find(|node| node.port() == port).context("one of ours")?;
    node.kill(Signal::KILL).await?;
    system.publish("m", 10..20).await?;
    expect_last(&config, "m", 19).await?;
    assert_ne!(holder(&config, "m").await?.name, failed.name);
    let kept = numbers(&config, "m").await?;
    assert!(kept.windows(2).all(|pair| pair[0] < pair[1]), "once and in order: {kept:?}");
    assert!((10..20).all(|number| kept.contains(&number)), "{kept:?}");
    assert_eq!(generation(&system).await?, before + 1);
    wait_for("every master tells of it", PATIENCE, || async {
        let told: Vec<_> = heartbeats(&config).await?.iter().map(|heartbeat| heartbeat.generation).collect();
        ensure!(told.iter().all(|told| i64::try_from(*told) == Ok(before + 1)), "{told:?}");
        Ok(())
    })
    .await
}

/// What Jepsen has shown of Sentinels: a master that is cut off from them acknowledges what is lost when it comes back.
#[tokio::test]
async fn what_a_cut_off_master_acknowledged_is_answered_for_before_anything_else_is_published() -> Result<()>
{
    let system = System::start().await?;
    let redis = RedisSentinels::start(SentinelOptions::default()).await?;
    let ways: Vec<Proxy> = redis
        .sentinels()
        .iter()
        .map(|sentinel| Proxy::start(format!("127.0.0.1:{}", sentinel.port())))
        .collect::<std::io::Result<_>>()?;
    let through = redis.url_through(ways.iter().map(|way| way.address().to_string()));
    let listener = system.listener_with("one", &[("ROWCAST_REDIS__URL", &through)]).await?;
    listener.expect_leading().await?;
    let config = config(&redis.url());
    system.publish("m", 0..10).await?;
    expect_last(&config, "m", 9).await?;
    let before = generation(&system).await?;

    // The listener hears no Sentinel and stays with the old master; everybody else is on the other side.
    ways.iter().for_each(|way| way.set(Link::Held));
    redis.isolate(0, true).await?;
    redis.wait_master_but(0).await?;
    system.publish("m", 10..20).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    let old = self::config(&redis.servers()[0].url());
    expect_last(&old, "m", 19).await?;
    assert_eq!(numbers(&config, "m").await?.last(), Some(&9), "acknowledged, and not there");
    assert_eq!(generation(&system).await?, before);

    ways.iter().for_each(|way| way.set(Link::Through));
    system.publish("m", 20..30).await?;
    expect_last(&config, "m", 29).await?;
    assert_eq!(generation(&system).await?, before + 1, "nobody goes on from what was lost");
    let told = heartbeats(&config).await?;
    assert!(told.iter().all(|heartbeat| i64::try_from(heartbeat.generation) == Ok(before + 1)), "{told:?}");
    redis.isolate(0, false).await?;
    redis.wait_watched().await?;
    system.publish("m", 30..31).await?;
    expect_last(&config, "m", 30).await?;
    assert_eq!(generation(&system).await?, before + 1, "the old master comes back as a replica");
    Ok(())
}

#[tokio::test]
async fn a_master_that_is_well_does_not_vouch_for_one_that_is_silent() -> Result<()> {
    let system = System::start().await?;
    let redis = RedisCluster::start(ClusterOptions { replicas: 0, ..ClusterOptions::default() }).await?;
    let listener = system.listener_with("one", &[("ROWCAST_REDIS__URL", &redis.url())]).await?;
    listener.expect_leading().await?;
    let ports = system.folder.path().join("edge.json");
    let edge = Launch::new("edge", bin("rowcast-edge")?, system.folder.path().join("edge.log"))
        .arg("--ports-file")
        .arg(&ports)
        .env("ROWCAST_REDIS__URL", redis.url())
        .env("ROWCAST_EDGE__LISTEN", "127.0.0.1:0")
        .env("ROWCAST_ADMIN__LISTEN", "127.0.0.1:0")
        .env("ROWCAST_AUTH__HS256_SECRET", "0123456789abcdef0123456789abcdef")
        .env("ROWCAST_LOG__FORMAT", "text")
        .spawn()?;
    let admin = edge
        .wait_ready(PATIENCE, || async {
            let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(&ports)?)?;
            let admin = ports["admin"].as_str().context("an admin port")?.to_owned();
            http_get(&admin, "/live").await?;
            anyhow::Ok(admin)
        })
        .await?;
    let light = |wanted: f64, within: Duration| {
        let admin = &admin;
        wait_for(format!("the light to be {wanted}"), within, move || async move {
            let shown = metric(admin, "rowcast_edge_live", "").await?;
            ensure!(shown == wanted, "it is {shown}");
            anyhow::Ok(())
        })
    };
    light(1.0, PATIENCE).await?;
    redis.nodes()[2].kill(Signal::STOP).await?;
    let stopped = Instant::now();
    light(0.0, TOLD_WITHIN).await?;
    assert!(stopped.elapsed() < TOLD_WITHIN);
    let (status, _) = http_get(&admin, "/ready").await?;
    assert_eq!(status, 200, "the rooms of the others are served");
    redis.nodes()[2].kill(Signal::CONT).await?;
    light(1.0, PATIENCE).await
}

#[tokio::test]
async fn two_databases_on_one_redis_are_apart_by_name_and_without_one_the_second_publishes_nothing()
-> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("one").await?;
    listener.expect_leading().await?;
    system.publish("m", 0..3).await?;
    system.expect("m", 3).await?;

    let url = system.postgres.create_database("shop").await?;
    rowcast_store::migrate(&url).await?;
    let shop = system.postgres.connect("shop").await?;
    let refused = system.live_listener("refused", &[("ROWCAST_DATABASE__URL", &url)]).await?;
    wait_for("it is refused, and told what to do", PATIENCE, || async {
        let log = std::fs::read_to_string(refused.process.log())?;
        ensure!(log.contains("FOREIGN") && log.contains("ROWCAST_INSTALLATION"), "{log}");
        Ok(())
    })
    .await?;
    for number in 100..103 {
        common::publish_one(&shop, "m", number).await?;
    }
    system.publish("m", 3..6).await?;
    system.expect("m", 6).await?;
    refused.process.stop(Signal::TERM, PATIENCE).await?;

    let settings = [("ROWCAST_DATABASE__URL", url.as_str()), ("ROWCAST_INSTALLATION", "shop")];
    let second = system.listener_with("second", &settings).await?;
    second.expect_leading().await?;
    let of_shop = BusConfig::new(system.redis.url(), Keys::new("rowcast", "shop"));
    expect_last(&of_shop, "m", 102).await?;
    assert_eq!(numbers(&of_shop, "m").await?, [100, 101, 102], "what waited goes out there");
    system.publish("m", 6..8).await?;
    system.expect("m", 8).await?;
    assert!(listener.leads().await && second.leads().await, "each leads its own");
    Ok(())
}
