//! The status light, as clients see it: each link is cut in turn, and the light says so in time and turns on again
//! only behind what was missed. Not here: how it is judged, which `light.rs` of the edge tests without a clock.

mod support;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rowcast_protocol::Heartbeat;
use rowcast_sandbox::{Link, Proxy};
use serde_json::{Value, json};
use support::{Client, Edge, LIMIT, Leader, Stage, heartbeat, patient};

/// The promise is five seconds; the rest is for a loaded machine.
const PROMISED: Duration = Duration::from_secs(8);

/// Waits for the light to go off, in time and for a cause.
async fn goes_off(client: &mut Client, since: Instant, cause: &str) -> Result<()> {
    let light = client.light().await?;
    ensure!(light == (false, cause.to_owned()), "{light:?}, not {cause}");
    let took = since.elapsed();
    ensure!(took < PROMISED, "Delayed only after {took:?}");
    Ok(())
}

/// The data of the events that come before the light is on again.
async fn missed_until_live(client: &mut Client) -> Result<Vec<u64>> {
    let mut missed = Vec::new();
    loop {
        let frame = client.next().await?;
        match frame["op"].as_str() {
            Some("event") => missed.push(frame["data"].as_u64().context("a number")?),
            Some("status") if frame["live"] == true => return Ok(missed),
            Some("status") => {}
            _ => anyhow::bail!("{frame}"),
        }
    }
}

/// One that must notice nothing: of its edge, no link was touched.
async fn saw_only(client: &mut Client, events: usize) -> Result<()> {
    let mut frames = Vec::new();
    while frames.len() < events {
        frames.push(client.next().await?);
    }
    frames.extend(client.so_far().await?);
    ensure!(frames.len() == events, "{frames:?}");
    ensure!(frames.iter().all(|frame| frame["op"] == "event"), "{frames:?}");
    Ok(())
}

/// An edge whose link to Redis can be disturbed, and one that is spared, each with a client that is live.
struct Two {
    _stage: Stage,
    leader: Leader,
    link: Proxy,
    edge: Edge,
    client: Client,
    _spared: Edge,
    witness: Client,
}

impl Two {
    async fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let mut stage = Stage::new().await?;
        let leader = stage.leader().await?;
        let link = Proxy::start(format!("127.0.0.1:{}", stage.redis.port()))?;
        let url = format!("redis://{}", link.address());
        let edge = stage.edge(&[&[("REDIS__URL", url.as_str())], settings].concat()).await?;
        let spared = stage.edge(&[]).await?;
        let (mut client, welcome) = edge.join(json!("m1"), json!({})).await?;
        client.live_from(&welcome).await?;
        let (mut witness, welcome) = spared.join(json!("m1"), json!({})).await?;
        witness.live_from(&welcome).await?;
        Ok(Self { _stage: stage, leader, link, edge, client, _spared: spared, witness })
    }

    async fn append(&mut self, numbers: std::ops::Range<u64>) -> Result<()> {
        self.leader.append_all("m1", "t", numbers.map(Value::from).collect()).await.map(drop)
    }
}

#[tokio::test]
async fn a_half_open_link_to_redis_is_shown_and_live_again_comes_behind_what_was_missed() -> Result<()> {
    let mut two = Two::start(&[]).await?;
    two.link.set(Link::Held);
    let since = Instant::now();
    two.append(0..300).await?;
    let light = two.client.light().await?;
    // Whichever is seen first: heartbeats stay away, or a ping is not answered.
    ensure!(!light.0 && ["redis", "listener"].contains(&light.1.as_str()), "{light:?}");
    ensure!(since.elapsed() < PROMISED, "Delayed only after {:?}", since.elapsed());
    two.append(300..600).await?;
    two.link.set(Link::Through);
    ensure!(
        missed_until_live(&mut two.client).await? == (0..600).collect::<Vec<_>>(),
        "something is missing"
    );
    saw_only(&mut two.witness, 600).await
}

#[tokio::test]
async fn a_link_that_is_refused_is_shown_and_live_again_comes_behind_what_was_missed() -> Result<()> {
    // The queue is so short that the session has to catch up page by page.
    let mut two = Two::start(&[("EDGE__QUEUE_FRAMES", "16")]).await?;
    two.append(0..1).await?;
    two.client.next_of("event").await?;
    let since = Instant::now();
    two.link.set(Link::Refused);
    goes_off(&mut two.client, since, "redis").await?;
    ensure!(two.edge.admin_page("/live").await?.0 == 200, "Redis is not the edge's life");
    two.append(1..900).await?;
    two.link.set(Link::Through);
    ensure!(
        missed_until_live(&mut two.client).await? == (1..900).collect::<Vec<_>>(),
        "something is missing"
    );
    saw_only(&mut two.witness, 900).await
}

#[tokio::test]
async fn one_edges_subscription_that_is_killed_is_made_again_and_what_it_missed_comes_before_live()
-> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let (mut client, welcome) = edge.join(json!("m1"), json!({})).await?;
    client.live_from(&welcome).await?;
    leader.append("m1", "t", json!(0)).await?;
    client.next_of("event").await?;
    let mut redis = patient(&stage.redis).await?;
    let clients: String =
        ::redis::cmd("CLIENT").arg(&["LIST", "TYPE", "pubsub"]).query_async(&mut redis).await?;
    let id = clients.split_whitespace().find_map(|field| field.strip_prefix("id=")).context("one")?;
    ensure!(clients.lines().count() == 1, "{clients}");
    let spared = stage.edge(&[]).await?;
    let (mut witness, welcome) = spared.join(json!("m1"), json!({})).await?;
    witness.live_from(&welcome).await?;

    // What is appended in the same transaction can not be heard on the old subscription nor on the next.
    let since = Instant::now();
    ::redis::cmd("CLIENT").arg(&["KILL", "ID", id]).query_async::<()>(&mut redis).await?;
    leader.append_unheard(&stage.redis, "m1", json!(1)).await?;
    goes_off(&mut client, since, "redis").await?;
    ensure!(missed_until_live(&mut client).await? == [1], "what it missed comes before it is live");
    leader.append("m1", "t", json!(2)).await?;
    ensure!(client.next_of("event").await?["data"] == 2);
    // The other edge finds the lost message too, and was never not live.
    saw_only(&mut witness, 2).await
}

#[tokio::test]
async fn silence_lag_and_a_hole_in_history_are_shown_and_a_lag_that_may_be_is_not() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let (mut client, welcome) = edge.join(json!("m1"), json!({})).await?;
    client.live_from(&welcome).await?;
    let healthy = heartbeat(1, 1);
    // Four seconds of lag are not yet Delayed: it would be the next thing that the client gets.
    for (lag_ms, impaired, cause) in [(5_001, None, "lag"), (0, Some("a trigger failed"), "impaired")] {
        leader.say(Heartbeat { lag_ms: 4_000, ..healthy.clone() });
        leader.append("m1", "t", json!(cause)).await?;
        ensure!(client.next().await?["data"] == cause);
        let since = Instant::now();
        leader.say(Heartbeat { lag_ms, impaired: impaired.map(str::to_owned), ..healthy.clone() });
        goes_off(&mut client, since, cause).await?;
        leader.say(healthy.clone());
        ensure!(client.light().await? == (true, String::new()));
    }
    drop(leader);
    goes_off(&mut client, Instant::now(), "listener").await?;
    let (_, welcome) = edge.join(json!("m1"), json!({})).await?;
    ensure!(welcome["live"] == false, "who comes now is told at once");
    let _next = Leader::start(&stage.redis.url(), 2, 1).await?;
    ensure!(client.light().await? == (true, String::new()));
    Ok(())
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_before_what_it_has_yet_to_read_and_live_behind_the_last()
-> Result<()> {
    const EVENTS: u64 = 900;
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__QUEUE_SIZE", "256KiB"), ("EDGE__RECENT_EVENTS", "16")]).await?;
    let (mut slow, welcome) = edge.join(json!("m1"), json!({})).await?;
    slow.live_from(&welcome).await?;
    let (mut fast, welcome) = edge.join(json!("m1"), json!({})).await?;
    fast.live_from(&welcome).await?;
    let filling = "x".repeat(30_000);
    for n in 0..EVENTS {
        leader.append("m1", "t", json!({ "n": n, "filling": filling })).await?;
        let next = fast.next().await?;
        ensure!(next["data"]["n"] == n, "the fast one is told nothing of the other's light");
    }
    // The edge has nothing to do but to wait; what it says then is in the order that the client reads.
    let behind = Instant::now();
    while behind.elapsed() < Duration::from_millis(5_500) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (mut next, mut told_at) = (0, None);
    loop {
        let frame = slow.next().await?;
        match (frame["op"].as_str(), frame["live"].as_bool()) {
            (Some("event"), _) => {
                ensure!(frame["data"]["n"] == next, "lost or doubled: {}", frame["data"]["n"]);
                next += 1;
            }
            (Some("status"), Some(false)) => {
                ensure!(frame["reason"] == "slow", "{frame}");
                told_at = told_at.or(Some(next));
            }
            (Some("status"), Some(true)) => break,
            _ => anyhow::bail!("{frame}"),
        }
    }
    let told_at = told_at.context("it was never told")?;
    ensure!(next == EVENTS, "live with {next} events of {EVENTS}");
    ensure!(told_at < EVENTS - 100, "told only behind {told_at} events");
    ensure!(fast.so_far().await?.is_empty(), "the fast one has a light of its own");
    Ok(())
}

#[tokio::test]
async fn a_client_that_is_half_open_is_given_up_after_two_heartbeats_and_nobody_else_notices() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__HEARTBEAT", "1s")]).await?;
    let link = Proxy::start(edge.listen.clone())?;
    let (mut held, _) = Client::join(&link.address(), json!("m1"), json!({})).await?;
    let (mut other, welcome) = edge.join(json!("m1"), json!({})).await?;
    other.live_from(&welcome).await?;
    let reading = tokio::spawn(async move {
        // Only who reads answers pings.
        while other.next().await?["op"] != "event" {}
        anyhow::Ok(other)
    });
    link.set(Link::Held);
    let since = Instant::now();
    rowcast_sandbox::wait_until("one connection", LIMIT, || async {
        edge.metric("rowcast_edge_connections", "").await.is_ok_and(|open| open == 1.0)
    })
    .await?;
    ensure!(since.elapsed() < PROMISED, "given up only after {:?}", since.elapsed());
    leader.append("m1", "t", json!("later")).await?;
    ensure!(reading.await?.is_ok());
    // What the edge had said before it gave up comes when the link does.
    link.set(Link::Through);
    ensure!(held.closed().await?.0 == 4008, "too slow");
    Ok(())
}
