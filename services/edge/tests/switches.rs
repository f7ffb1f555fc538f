//! Sockets that are switched off at run time and on again, with real edges before a real Redis: who is sent away, when,
//! what nobody loses by it, and who knows of it. How switches come from PostgreSQL is in the listener's tests.

mod support;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rowcast_protocol::Sheet;
use rowcast_sandbox::{Link, Proxy, wait_for};
use serde_json::{Value, json};
use support::crowd::{Crowd, Writer};
use support::{Client, Edge, LIMIT, Leader, Stage, heartbeat, token};

const WINDOW: [(&str, &str); 1] = [("EDGE__SWITCH_WINDOW", "2s")];
const AT_ONCE: [(&str, &str); 1] = [("EDGE__SWITCH_WINDOW", "0s")];

impl Edge {
    /// Waits until switches of a version are in force here.
    async fn expect_switches(&self, version: u64) -> Result<()> {
        wait_for(format!("version {version} in force"), LIMIT, || async {
            let held = self.metric("rowcast_edge_switches_version", "").await?;
            ensure!(held == version as f64, "it is {held}");
            anyhow::Ok(())
        })
        .await
    }

    /// What a new socket gets: a welcome, or where it is sent.
    async fn greets(&self) -> Result<Value> {
        let mut client = self.sign_in(json!({ "op": "auth", "token": token(json!("m1")) })).await?;
        let first = client.next().await?;
        if first["op"] == "mode" {
            sent_away(&mut client, &first).await?;
        }
        Ok(first["op"].clone())
    }
}

/// Checks what follows a `mode`, to the close.
async fn sent_away(client: &mut Client, mode: &Value) -> Result<()> {
    ensure!(*mode == json!({ "op": "mode", "transport": "polling" }), "{mode}");
    let bye = client.next().await?;
    ensure!(bye["op"] == "bye" && bye["code"] == 4410 && bye["reconnect_in_ms"].is_u64(), "{bye}");
    let (code, reason) = client.closed().await?;
    ensure!(code == 4410 && reason.contains("polling"), "{code} {reason}");
    Ok(())
}

#[tokio::test]
async fn switched_off_every_socket_goes_within_the_window_and_not_all_at_once() -> Result<()> {
    const CLIENTS: usize = 60;
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&WINDOW).await?;
    leader.switch(true).await?;
    let mut going = tokio::task::JoinSet::new();
    for n in 0..CLIENTS {
        let (mut client, _) = edge.join(json!(format!("r{}", n % 4)), json!({})).await?;
        going.spawn(async move {
            let mode = client.next_of("mode").await?;
            let at = Instant::now();
            sent_away(&mut client, &mode).await?;
            anyhow::Ok(at)
        });
    }
    let begin = Instant::now();
    leader.switch(false).await?;
    let mut moments = Vec::new();
    while let Some(gone) = going.join_next().await {
        moments.push(gone??);
    }
    moments.sort();
    let middle_half = moments[CLIENTS * 3 / 4] - moments[CLIENTS / 4];
    ensure!(middle_half > Duration::from_millis(250), "the middle half went within {middle_half:?}");
    let last = moments[CLIENTS - 1] - begin;
    ensure!(last < Duration::from_secs(2 + 4), "the last went after {last:?}");
    ensure!(edge.metric("rowcast_edge_sent_to_polling_total", "open").await? == CLIENTS as f64);
    ensure!(edge.greets().await? == "mode", "a new socket is sent away in place of its welcome");
    ensure!(edge.metric("rowcast_edge_sent_to_polling_total", "sign_in").await? == 1.0);
    let mut bad = edge.sign_in(json!({ "op": "auth", "token": "none" })).await?;
    ensure!(bad.closed().await?.0 == 4401, "who is nobody is told nothing");
    leader.switch(true).await?;
    edge.expect_switches(3).await?;
    ensure!(edge.greets().await? == "welcome");
    Ok(())
}

#[tokio::test]
async fn switched_on_again_within_the_window_whoever_was_not_sent_away_stays() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__SWITCH_WINDOW", "1h")]).await?;
    leader.switch(true).await?;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(edge.join(json!("m1"), json!({})).await?.0);
    }
    leader.switch(false).await?;
    edge.expect_switches(2).await?;
    leader.switch(true).await?;
    edge.expect_switches(3).await?;
    leader.append("m1", "t", json!("after")).await?;
    for client in &mut clients {
        ensure!(client.next_of("event").await?["data"] == "after");
        ensure!(client.so_far().await?.iter().all(|frame| frame["op"] == "status"));
    }
    Ok(())
}

#[tokio::test]
async fn a_new_edge_and_a_restarted_one_let_nobody_in_before_they_know_the_switches() -> Result<()> {
    let mut stage = Stage::new().await?;
    // A leader that has been heard, and has not mirrored what it tells of.
    let mut leader = stage.leader().await?;
    leader.say(rowcast_protocol::Heartbeat { switches: 1, ..heartbeat(1, 1) });
    let edge = stage.edge(&AT_ONCE).await?;
    let mut waiting = edge.sign_in(json!({ "op": "auth", "token": token(json!("m1")) })).await?;
    wait_for("a heartbeat", LIMIT, || async {
        ensure!(edge.metric("rowcast_edge_generation", "").await? == 1.0, "none yet");
        anyhow::Ok(())
    })
    .await?;
    let (status, why) = edge.admin_page("/ready").await?;
    ensure!(status == 503 && why.contains("switches"), "{status} {why}");
    wait_for("a look for the switches", LIMIT, || async {
        ensure!(edge.metric("rowcast_edge_redis_reads_total", "switches").await? >= 2.0, "not yet");
        anyhow::Ok(())
    })
    .await?;
    let early = tokio::time::timeout(Duration::from_millis(300), waiting.next()).await;
    ensure!(early.is_err(), "before the switches are known came {early:?}");
    leader.switch(false).await?;
    let mode = waiting.next().await?;
    sent_away(&mut waiting, &mode).await?;
    ensure!(edge.admin_page("/ready").await?.0 == 200);

    drop(edge);
    let again = stage.edge(&AT_ONCE).await?;
    ensure!(again.greets().await? == "mode", "restarted");
    // The last leader has gone: what it left in Redis counts.
    drop(leader);
    let without_leader = stage.edge(&AT_ONCE).await?;
    ensure!(without_leader.greets().await? == "mode", "started while nobody leads");
    Ok(())
}

#[tokio::test]
async fn a_flushed_redis_or_an_old_leader_opens_no_socket_again() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&AT_ONCE).await?;
    leader.switch(true).await?;
    leader.switch(false).await?;
    edge.expect_switches(2).await?;
    // A take-over: the old leader goes on for a while, and does not know.
    let mut next = Leader::start(&stage.redis.url(), 2, 1).await?;
    next.know(Sheet::Switches, 3);
    next.switch(false).await?;
    edge.expect_switches(3).await?;
    ensure!(leader.switch(true).await.is_err(), "the old leader is refused");
    ensure!(edge.greets().await? == "mode");

    stage.redis.flush().await?;
    ensure!(edge.greets().await? == "mode", "flushed, and nothing heard yet");
    // The old leader finds nobody's claim, and tells of what it believes; the new one has raised the generation.
    let mut last = Leader::start(&stage.redis.url(), 3, 2).await?;
    last.know(Sheet::Switches, 3);
    last.switch(false).await?;
    wait_for("the new generation", LIMIT, || async {
        ensure!(edge.metric("rowcast_edge_generation", "").await? == 2.0, "not yet");
        anyhow::Ok(())
    })
    .await?;
    ensure!(edge.greets().await? == "mode");
    ensure!(stage.edge(&AT_ONCE).await?.greets().await? == "mode", "a new edge knows too");
    last.switch(true).await?;
    edge.expect_switches(4).await?;
    ensure!(edge.greets().await? == "welcome");
    Ok(())
}

#[tokio::test]
async fn an_edge_that_was_cut_off_from_redis_learns_on_its_next_link_what_was_switched_meanwhile()
-> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    leader.switch(true).await?;
    let link = Proxy::start(format!("127.0.0.1:{}", stage.redis.port()))?;
    let url = format!("redis://{}", link.address());
    let edge = stage.edge(&[("REDIS__URL", &url), ("EDGE__SWITCH_WINDOW", "0s")]).await?;
    let (mut client, welcome) = edge.join(json!("m1"), json!({})).await?;
    client.live_from(&welcome).await?;
    link.set(Link::Refused);
    ensure!(!client.light().await?.0, "cut off");
    leader.switch(false).await?;
    ensure!(client.so_far().await?.is_empty(), "what is not known changes nothing");
    link.set(Link::Through);
    let mode = client.next_of("mode").await?;
    sent_away(&mut client, &mode).await
}

#[tokio::test]
async fn off_and_on_under_load_each_client_resumes_and_has_each_event_once() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    leader.switch(true).await?;
    let mut switching = leader.second(&stage.redis.url()).await?;
    let edges = [stage.edge(&WINDOW).await?, stage.edge(&WINDOW).await?];
    let rooms: Vec<_> = (0..4).map(|n| format!("r{n}")).collect();
    let crowd = Crowd::gather(edges.iter().map(|edge| edge.listen.clone()).collect(), &rooms, 10).await?;
    let writer = Writer::start(leader, &rooms);
    crowd.sees_more(20).await?;
    switching.switch(false).await?;
    for edge in &edges {
        wait_for("its sockets to be gone", LIMIT, || async {
            let sent = edge.metric("rowcast_edge_sent_to_polling_total", "open").await?;
            ensure!(sent == 20.0, "{sent} were sent away");
            anyhow::Ok(())
        })
        .await?;
    }
    switching.switch(true).await?;
    crowd.sees_more(20).await?;
    let (_leader, written) = writer.stop().await?;
    let journeys = crowd.finish(written).await.context("lost or doubled")?;
    ensure!(journeys.iter().all(|journey| journey.moves > 0), "{journeys:?}");
    for edge in &edges {
        ensure!(edge.metric("rowcast_edge_resyncs_total", "").await? == 0.0);
    }
    Ok(())
}
