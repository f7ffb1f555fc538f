//! The rights that docs/transport-security.md lists, read from there, on each server that operators have: alone, in a
//! Cluster and behind Sentinels.

mod support;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use redis::Value;
use rowcast_bus::{
    BusConfig, BusError, Command, Finder, Heard, Keys, PublishLink, Range, ReadLink, Reply, Retention,
    Server, Topology, subscribe_at,
};
use rowcast_protocol::{Epoch, Mirror, Offset, RoomName, Sheet};
use rowcast_sandbox::{
    ClusterOptions, Redis, RedisCluster, RedisKind, RedisOptions, RedisSentinels, SentinelOptions,
};
use support::{STREAM, claim, create, heartbeat};

/// The lines of the page that begin so, with passwords.
fn rules(beginning: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/transport-security.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let lines = page.lines().filter(|line| line.starts_with(beginning));
    let lines: Vec<String> = lines
        .map(|line| {
            line.replace("LISTENER-PASSWORD", "l")
                .replace("EDGE-PASSWORD", "e")
                .replace("SENTINEL-PASSWORD", "s")
        })
        .collect();
    assert!(!lines.is_empty(), "{beginning:?} is not on the page");
    lines
}

async fn say(port: u16, words: &str) -> Result<Value> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut words = words.split_whitespace();
    let mut command = redis::cmd(words.next().context("a command")?);
    command.arg(words.collect::<Vec<_>>());
    command.query_async(&mut connection).await.with_context(|| format!("{command:?}"))
}

/// Makes the users of the page on a server: those of a single one, or of a Cluster's node.
async fn make_users(redis: &Redis, clustered: bool) -> Result<()> {
    let all = rules("ACL SETUSER rowcast-");
    for rule in all.iter().filter(|rule| clustered || rule.contains(" reset ")) {
        say(redis.port(), rule).await?;
    }
    Ok(())
}

/// What was refused, but for the driver's name, which does no harm.
async fn refused(redis: &Redis) -> Result<Vec<String>> {
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let log: Vec<std::collections::BTreeMap<String, Value>> =
        redis::cmd("ACL").arg("LOG").query_async(&mut connection).await?;
    let objects = log.iter().map(|entry| match &entry["object"] {
        Value::BulkString(object) => String::from_utf8_lossy(object).into_owned(),
        other => format!("{other:?}"),
    });
    // Older ones tell no subcommands.
    let names = objects.map(|object| object.split('|').next().unwrap_or_default().to_owned());
    Ok(names.filter(|name| name != "client").collect())
}

fn config(url: &str, user: &str) -> BusConfig {
    let url = url.replacen("://", &format!("://{user}@"), 1);
    BusConfig::new(url, Keys::new("rowcast", "test"))
}

fn room(topology: &Topology, server: &Server) -> RoomName {
    let names = (0..).map(|number| RoomName::parse(&format!("room {number}")).expect("a name"));
    let mut its = names.filter(|room| topology.holder(room).is_some_and(|holder| holder.name == server.name));
    its.next().expect("numbers without end")
}

/// All that listeners and edges do, at every server of a topology.
async fn carry_out(url: &str) -> Result<()> {
    let (listeners, edges) = (config(url, "rowcast-listener:l"), config(url, "rowcast-edge:e"));
    let topology = Finder::new(&listeners)?.find().await?;
    ensure!(topology == Finder::new(&edges)?.find().await?, "edges find other servers");
    let lifetime = Duration::from_secs(60);
    let retention = Retention { log_entries: 10, log_lifetime: lifetime, head_lifetime: lifetime };
    for server in topology.servers() {
        let (room, keys) = (room(&topology, server), &edges.keys);
        let (mut subscriptions, mut arriving) = subscribe_at(&edges, server).await?;
        let channels = [keys.events(&room), keys.heartbeat(server)];
        subscriptions.add(&channels).await?;
        subscriptions.ping().await?;
        let mut link = PublishLink::connect_to(&listeners, server, retention).await?;
        let found = link.identity().await?;
        ensure!(found.role == "master" && found.claimed.is_none(), "{}", found.role);
        ensure!(link.claim(claim(1, None)).await? == Reply::Done, "the claim");
        let sheet = Mirror { sheet: Sheet::Switches, version: 1, content: "{}".to_owned() };
        let commands = [
            create(room.as_str(), 1, STREAM, None, 1),
            Command::Heartbeat(heartbeat(1, 7)),
            Command::Mirror(Epoch(1), sheet),
            Command::Check(Epoch(1)),
            Command::Sync { room: room.clone(), last: 5 },
        ];
        let replies = link.run(&commands).await?;
        ensure!(replies[..4].iter().all(|reply| *reply == Reply::Done), "{replies:?}");
        ensure!(matches!(&replies[4], Reply::Synced { ids, .. } if ids.len() == 1), "{replies:?}");
        for channel in &channels {
            let heard = arriving.next().await;
            ensure!(
                matches!(&heard, Some(Heard::Message(message)) if message.channel == *channel),
                "{heard:?}"
            );
        }
        subscriptions.remove(&channels).await?;
        let mut read = ReadLink::connect_to(&edges, server).await?;
        ensure!(read.load(&room, Range::Last(5)).await?.records.len() == 1, "the newest");
        let after = Range::After { offset: Offset(0), count: 5 };
        ensure!(read.load(&room, after).await?.records.len() == 1, "those after an offset");
        ensure!(read.heads(std::slice::from_ref(&room)).await?.iter().all(Result::is_ok), "heads");
        ensure!(
            read.last_heartbeat().await?.is_some() && read.mirror(Sheet::Switches).await?.is_some(),
            "state"
        );
        read.ping().await?;
        // The leader reads too.
        ReadLink::connect_to(&listeners, server).await?.last_heartbeat().await?;
        // An edge's password is not enough to publish.
        let forged = PublishLink::connect_to(&edges, server, retention).await;
        ensure!(
            matches!(&forged, Err(BusError::Refused(refusal)) if refusal.label() == "NOPERM"),
            "an edge publishes"
        );
    }
    Ok(())
}

/// Tries all kinds of servers that are here, at the same time.
async fn on_each(test: impl AsyncFn(RedisOptions) -> Result<()>) -> Result<()> {
    let here = RedisKind::ALL.into_iter().filter_map(|kind| match kind.is_here() {
        Ok(is_here) => is_here.then_some(Ok(kind)),
        Err(missing) => Some(Err(missing)),
    });
    let here = here.collect::<Result<Vec<_>, _>>()?;
    let trying = here.into_iter().map(async |kind| {
        test(RedisOptions { kind, ..RedisOptions::default() }).await.with_context(|| format!("on {kind}"))
    });
    try_join_all(trying).await.map(drop)
}

#[tokio::test]
async fn on_each_server_listeners_and_edges_need_no_more_than_the_rights_that_are_documented() -> Result<()> {
    on_each(async |options| {
        let redis = Redis::start(options).await?;
        make_users(&redis, false).await?;
        carry_out(&redis.url()).await?;
        assert_eq!(refused(&redis).await?, ["script"], "what an edge may not, and nothing else");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nor_do_they_in_a_cluster_of_each_kind() -> Result<()> {
    on_each(async |redis| {
        if redis.kind == RedisKind::Redis62 {
            return Ok(()); // It has no sharded channels.
        }
        let cluster = RedisCluster::start(ClusterOptions { masters: 3, replicas: 0, redis }).await?;
        for node in cluster.nodes() {
            make_users(node, true).await?;
        }
        carry_out(&cluster.url()).await?;
        for node in cluster.nodes() {
            assert_eq!(refused(node).await?, ["script"]);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn sentinels_of_each_kind_are_asked_for_the_masters_place_and_nothing_else() -> Result<()> {
    on_each(async |redis| {
        let redis = RedisSentinels::start(SentinelOptions { replicas: 0, sentinels: 1, redis }).await?;
        make_users(&redis.servers()[0], false).await?;
        for rule in rules("ACL SETUSER rowcast reset") {
            say(redis.sentinels()[0].port(), &rule).await?;
        }
        let url = format!("{}?sentinel_user=rowcast&sentinel_password=s", redis.url());
        carry_out(&url).await
    })
    .await
}
