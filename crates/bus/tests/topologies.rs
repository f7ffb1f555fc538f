//! Servers that change: a Redis Cluster and servers behind Sentinels, as real processes.

mod support;

use std::time::Duration;

use anyhow::{Context, Result};
use rowcast_bus::{
    BusConfig, BusError, Command, Finder, Heard, Keys, PublishLink, Range, ReadLink, Reply, Server, Topology,
    subscribe_at,
};
use rowcast_protocol::RoomName;
use rowcast_sandbox::{ClusterOptions, RedisCluster, RedisSentinels, SentinelOptions, Signal, wait_for};
use support::{STREAM, heartbeat, retention};

const LIMIT: Duration = Duration::from_secs(20);

fn config(url: String) -> BusConfig {
    BusConfig::new(url, Keys::new("rowcast", "test"))
}

fn create(room: &RoomName) -> Command {
    support::create(room.as_str(), 1, STREAM, None, 1)
}

fn append(room: &RoomName, expected: u64) -> Command {
    support::append(room.as_str(), 1, STREAM, expected, expected + 1)
}

/// A room for each server.
fn rooms(topology: &Topology) -> Vec<(Server, RoomName)> {
    let held = |server: &Server| {
        let names = (0..).map(|number| RoomName::parse(&format!("room {number}")).expect("a name"));
        let mut its =
            names.filter(|room| topology.holder(room).is_some_and(|holder| holder.name == server.name));
        its.next().expect("numbers without end")
    };
    topology.servers().iter().map(|server| (server.clone(), held(server))).collect()
}

/// Asks until what is wanted is found.
async fn find<T>(finder: &mut Finder, what: &str, wanted: impl Fn(Topology) -> Option<T>) -> Result<T> {
    let finding = async {
        loop {
            if let Ok(topology) = finder.find().await
                && let Some(found) = wanted(topology)
            {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, finding).await.with_context(|| format!("{what}: not within {LIMIT:?}"))
}

#[tokio::test]
async fn each_master_of_a_cluster_carries_its_own_rooms_and_heartbeats() -> Result<()> {
    let cluster = RedisCluster::start(ClusterOptions { replicas: 0, ..ClusterOptions::default() }).await?;
    let config = config(cluster.url());
    let mut finder = Finder::new(&config)?;
    let topology = finder.find().await?;
    assert!(topology.is_whole() && topology.servers().len() == 3 && finder.interval().is_some());
    for (server, room) in rooms(&topology) {
        let (mut subscriptions, mut arriving) = subscribe_at(&config, &server).await?;
        let channels = [config.keys.events(&room), config.keys.heartbeat(&server)];
        subscriptions.add(&channels).await?;
        subscriptions.ping().await?;
        let mut link = PublishLink::connect_to(&config, &server, retention()).await?;
        let replies =
            link.run(&[create(&room), append(&room, 1), Command::Heartbeat(heartbeat(1, 7))]).await?;
        assert_eq!(replies, [Reply::Done, Reply::Done, Reply::Done]);
        for channel in [&channels[0], &channels[0], &channels[1]] {
            let Some(Heard::Message(message)) = arriving.next().await else { panic!("nothing arrives") };
            assert_eq!(message.channel, *channel);
        }
        let mut read = ReadLink::connect_to(&config, &server).await?;
        assert_eq!(read.load(&room, Range::Last(10)).await?.records.len(), 2);
        assert_eq!(read.last_heartbeat().await?.map(|last| last.generation), Some(7));
        let (_, elsewhere) = rooms(&topology).into_iter().find(|(other, _)| *other != server).unwrap();
        let refused = link.run(&[create(&elsewhere)]).await?;
        assert!(matches!(&refused[..], [Reply::Refused(refusal)] if refusal.is_elsewhere()), "{refused:?}");
        let refused = subscriptions.add(&[channels[0].clone(), config.keys.events(&elsewhere)]).await?;
        assert!(matches!(&refused[..], [(1, refusal)] if refusal.is_elsewhere()), "{refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_slot_that_moves_ends_its_subscriptions_and_keeps_its_rooms() -> Result<()> {
    let cluster = RedisCluster::start(ClusterOptions { replicas: 0, ..ClusterOptions::default() }).await?;
    let config = config(cluster.url());
    let mut finder = Finder::new(&config)?;
    let before = finder.find().await?;
    let (server, room) = rooms(&before).remove(0);
    let mut link = PublishLink::connect_to(&config, &server, retention()).await?;
    assert_eq!(link.run(&[create(&room)]).await?, [Reply::Done]);
    let (mut subscriptions, mut arriving) = subscribe_at(&config, &server).await?;
    let channel = config.keys.events(&room);
    assert!(subscriptions.add(std::slice::from_ref(&channel)).await?.is_empty());

    let slot: u16 = {
        let mut connection = cluster.nodes()[0].connection().await?;
        redis::cmd("CLUSTER").arg("KEYSLOT").arg(config.keys.log(&room)).query_async(&mut connection).await?
    };
    let to = (cluster.holder(slot).await? + 1) % 3;
    cluster.move_slot(slot, to).await?;
    assert_eq!(arriving.next().await, Some(Heard::Dropped(channel)));
    let now = find(&mut finder, "the new holder is known", |now| {
        let moved = now.holder(&room).is_some_and(|holder| holder.name != server.name);
        moved.then_some(now)
    })
    .await?;
    let holder = now.holder(&room).context("somebody holds it")?.clone();
    assert!(now.inherits(&before, &holder.name), "nothing was lost on the way");
    let mut link = PublishLink::connect_to(&config, &holder, retention()).await?;
    assert_eq!(link.run(&[append(&room, 1)]).await?, [Reply::Done]);
    Ok(())
}

#[tokio::test]
async fn a_replica_that_took_over_in_a_cluster_is_found_and_inherits_nothing() -> Result<()> {
    let cluster = RedisCluster::start(ClusterOptions::default()).await?;
    let config = config(cluster.url());
    let mut finder = Finder::new(&config)?;
    let before = finder.find().await?;
    let (server, room) = rooms(&before).remove(0);
    let port = server.address.as_ref().context("it has an address")?.port;
    let killed = cluster.nodes().iter().find(|node| node.port() == port).context("one of ours")?;
    killed.kill(Signal::KILL).await?;
    let (now, holder) = find(&mut finder, "a replica takes over", |now| {
        let holder = now.holder(&room)?.clone();
        (holder.name != server.name).then_some((now, holder))
    })
    .await?;
    assert!(!now.inherits(&before, &holder.name));
    let mut link = PublishLink::connect_to(&config, &holder, retention()).await?;
    let identity = link.identity().await?;
    assert!(identity.was_promoted && identity.role == "master");
    Ok(())
}

#[tokio::test]
async fn sentinels_tell_the_master_and_a_replica_is_not_taken_for_it() -> Result<()> {
    let redis = RedisSentinels::start(SentinelOptions::default()).await?;
    let config = config(redis.url());
    let mut finder = Finder::new(&config)?;
    let first = finder.find().await?.servers()[0].clone();
    assert_eq!(first.address.as_ref().map(|address| address.port), Some(redis.servers()[0].port()));
    let mut read = ReadLink::connect_to(&config, &first).await?;
    redis.servers()[0].kill(Signal::STOP).await?;
    let promoted = redis.wait_master_but(0).await?;
    let old = first.address.clone();
    let found = find(&mut finder, "the new master is found", |now| {
        let server = now.servers()[0].clone();
        (server.address != old).then_some(server)
    })
    .await?;
    assert_eq!(found.address.as_ref().map(|address| address.port), Some(redis.servers()[promoted].port()));
    redis.servers()[0].kill(Signal::CONT).await?;
    // The Sentinels cut it off from its clients and make it a replica; it is recognised either way.
    wait_for("the old master is a replica", LIMIT, async || {
        let mut link = match ReadLink::connect_to(&config, &first).await {
            Err(BusError::Replica(_)) => return Ok(()),
            Err(error) => anyhow::bail!("{error}"),
            Ok(link) => link,
        };
        match link.ping().await {
            Err(BusError::Replica(_)) => Ok(()),
            other => anyhow::bail!("{other:?}"),
        }
    })
    .await?;
    assert!(read.ping().await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_wrong_name_or_a_server_outside_a_cluster_is_told_in_words() -> Result<()> {
    let redis = rowcast_sandbox::Redis::start(rowcast_sandbox::RedisOptions::default()).await?;
    let sentinels =
        RedisSentinels::start(SentinelOptions { replicas: 0, ..SentinelOptions::default() }).await?;
    let no_cluster = config(format!("redis+cluster://127.0.0.1:{}", redis.port()));
    let error = Finder::new(&no_cluster)?.find().await.expect_err("no Cluster").to_string();
    assert!(error.contains("begin the address with redis://"), "{error}");
    let wrong = config(sentinels.url().replace("/rowcast", "/other"));
    let error = Finder::new(&wrong)?.find().await.expect_err("no such master").to_string();
    assert!(error.contains("knows no master \"other\""), "{error}");
    let nowhere = config("redis+sentinel://127.0.0.1:1/rowcast".to_owned());
    assert!(matches!(Finder::new(&nowhere)?.find().await, Err(BusError::Nowhere(_))));
    Ok(())
}

#[tokio::test]
async fn an_address_of_another_kind_than_what_is_there_is_told_in_words() -> Result<()> {
    let sentinels = SentinelOptions { replicas: 0, sentinels: 1, ..SentinelOptions::default() };
    let sentinels = RedisSentinels::start(sentinels).await?;
    let sentinel = sentinels.sentinels()[0].port();
    let alone = config(format!("redis://127.0.0.1:{sentinel}"));
    let said = ReadLink::connect(&alone).await.err().context("a Sentinel")?.to_string();
    assert!(said.contains("begin the address with redis+sentinel://"), "{said}");
    let said = PublishLink::connect(&alone, retention()).await.err().context("a Sentinel")?.to_string();
    assert!(said.contains("begin redis.url with redis+sentinel://"), "{said}");

    let mut admin = redis::Client::open(alone.url.as_str())?.get_multiplexed_async_connection().await?;
    let () =
        redis::cmd("ACL").arg(&["SETUSER", "default", "resetpass", ">hush"]).query_async(&mut admin).await?;
    let said = Finder::new(&config(sentinels.url()))?.find().await.expect_err("no password").to_string();
    assert!(said.contains("sentinel_password"), "{said}");
    Finder::new(&config(format!("{}?sentinel_password=hush", sentinels.url())))?.find().await?;

    let cluster = ClusterOptions { masters: 3, replicas: 0, ..ClusterOptions::default() };
    let cluster = RedisCluster::start(cluster).await?;
    let said = async |node: &rowcast_sandbox::Redis| {
        let mut link = PublishLink::connect(&config(node.url()), retention()).await?;
        anyhow::Ok(link.identity().await.err().map(|error| error.to_string()))
    };
    let mut others = Vec::new();
    for node in cluster.nodes() {
        others.extend(said(node).await?);
    }
    assert!(others.len() == 2 && others[0].contains("begin redis.url with redis+cluster://"), "{others:?}");
    Ok(())
}
