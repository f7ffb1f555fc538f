//! Server-sent events of a real edge before a real Redis: what a socket gets, as messages whose id resumes.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rowcast_sandbox::wait_until;
use serde_json::{Value, json};
use support::http::{Exchange, form};
use support::{Edge, LIMIT, Stage, token, token_until};

#[tokio::test]
async fn a_stream_begins_with_the_welcome_and_each_message_has_the_cursors_of_all_rooms() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut stream = edge.stream(&token(json!(["m1", "m 2"])), &[], "").await?;
    assert_eq!(stream.head.header("cache-control"), "no-store");
    let welcome = stream.next().await?.context("the welcome")?;
    assert_eq!((&welcome.frame["op"], stream.retry), (&json!("welcome"), Some(2_000)));
    assert!(welcome.frame["now"].is_string() && welcome.frame["rooms"]["m1"]["resumed"] == false);
    let at = |room: &str| welcome.frame["rooms"][room]["cursor"].as_str().expect("a cursor").to_owned();
    assert_eq!(welcome.id, format!("m%202={}&m1={}", at("m 2"), at("m1")));
    leader.append("m1", "t", json!({ "n": 1 })).await?;
    let event = stream.next_of("event").await?;
    assert_eq!((&event.frame["room"], &event.frame["data"]), (&json!("m1"), &json!({ "n": 1 })));
    let cursor = event.frame["cursor"].as_str().context("a cursor")?;
    assert_eq!(event.id, format!("m%202={}&m1={cursor}", at("m 2")));
    Ok(())
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_resumed_by_its_last_id_and_sees_each_event_once() -> Result<()> {
    const EVENTS: u64 = 300;
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let settings = [("EDGE__RECENT_EVENTS", "16")];
    let edges = [stage.edge(&settings).await?, stage.edge(&settings).await?];
    let token = token(json!(["a", "b"]));
    let mut id = edges[0].stream(&token, &[], "").await?.next_of("welcome").await?.id;
    let writer = tokio::spawn(async move {
        for n in 0..EVENTS / 10 {
            let numbers = n * 10..(n + 1) * 10;
            leader
                .append_each("t", numbers.flat_map(|n| [("a", json!(n)), ("b", json!(n))]).collect())
                .await?;
        }
        anyhow::Ok(leader)
    });
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut turn = 0;
    while seen.values().sum::<u64>() < 2 * EVENTS {
        turn += 1;
        // By its header, as a browser comes back, or by its URL, as one begins.
        let (fields, last) =
            if turn % 3 == 0 { (vec![("after", id.as_str())], "") } else { (vec![], id.as_str()) };
        let mut stream = edges[turn % 2].stream(&token, &fields, last).await?;
        let welcome = stream.next_of("welcome").await?;
        ensure!(["a", "b"].iter().all(|room| welcome.frame["rooms"][room]["resumed"] == true), "{welcome:?}");
        for _ in 0..(2 * EVENTS - seen.values().sum::<u64>()).min(40) {
            let event = stream.next_of("event").await?;
            let next = seen.entry(event.frame["room"].as_str().context("a room")?.to_owned()).or_default();
            ensure!(event.frame["data"].as_u64() == Some(*next), "{event:?} is not number {next}");
            *next += 1;
            id = event.id;
        }
    }
    writer.await?.map(drop)
}

#[tokio::test]
async fn who_is_owed_a_resync_does_not_stand_anywhere_else_before_it_has_it() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    leader.append_all("m1", "t", (0..1_500).map(Value::from).collect()).await?;
    let token = token(json!("m1"));
    let head = edge.page(&token, &[("room", "m1")]).await?["cursor"].as_str().context("a cursor")?.to_owned();
    let gone = format!("m1={}1", &head[..head.len() - "1500".len()]);
    for (after, reason) in [(gone.as_str(), "history"), ("nonsense", "cursor")] {
        let mut stream = edge.stream(&token, &[], after).await?;
        let welcome = stream.next_of("welcome").await?;
        assert_eq!(welcome.frame["rooms"]["m1"]["resumed"], false);
        assert_ne!(welcome.id, format!("m1={head}"), "a stream that ends here would never be told");
        let resync = stream.next_of("resync").await?;
        assert_eq!((&resync.frame["reason"], &resync.frame["cursor"]), (&json!(reason), &json!(head)));
        assert_eq!(resync.id, format!("m1={head}"));
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_is_kept_alive_by_comments_and_not_ended_because_its_client_is_silent() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__HEARTBEAT", "1s")]).await?;
    let mut stream = edge.stream(&token(json!("m1")), &[], "").await?;
    stream.next_of("welcome").await?;
    // A socket would have been given up after two seconds.
    stream.pinged(4).await?;
    leader.append("m1", "t", json!(1)).await?;
    stream.next_of("event").await?;
    Ok(())
}

#[tokio::test]
async fn a_filter_and_a_room_narrow_a_stream() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let fields = [("room", "m1"), ("types", "booking.*")];
    let mut stream = edge.stream(&token(json!(["m1", "m2"])), &fields, "").await?;
    let welcome = stream.next_of("welcome").await?;
    assert_eq!(welcome.frame["rooms"].as_object().map(serde_json::Map::len), Some(1));
    for (room, event_type) in
        [("m2", "booking.created"), ("m1", "payment.created"), ("m1", "booking.updated")]
    {
        leader.append(room, event_type, json!(0)).await?;
    }
    let event = stream.next_of("event").await?;
    assert_eq!((&event.frame["room"], &event.frame["type"]), (&json!("m1"), &json!("booking.updated")));
    Ok(())
}

#[tokio::test]
async fn data_with_line_breaks_is_the_same_data() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut stream = edge.stream(&token(json!("m1")), &[], "").await?;
    stream.next_of("welcome").await?;
    // As an application's JSON may be written.
    leader.append_text("m1", "t", "{\n  \"a\": 1,\r\n\r\n  \"b\": \"x\\ny\"\r}").await?;
    assert_eq!(stream.next_of("event").await?.frame["data"], json!({ "a": 1, "b": "x\ny" }));
    Ok(())
}

#[tokio::test]
async fn a_token_that_ends_ends_the_stream_with_a_bye() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut stream = edge.stream(&token_until(json!("m1"), 3), &[], "").await?;
    stream.next_of("token_expiring").await?;
    assert_eq!(stream.next_of("bye").await?.frame["code"], 4401);
    assert!(stream.next().await?.is_none(), "nothing follows, and the body ends in order");
    assert_eq!(edge.metric("rowcast_edge_closes_total", r#"code="token",transport="sse""#).await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn a_drain_sends_streams_elsewhere_and_waits_for_them() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__DRAIN_WINDOW", "1s")]).await?;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = edge.stream(&token(json!("m1")), &[], "").await?;
        stream.next_of("welcome").await?;
        streams.push(stream);
    }
    edge.process.signal(rowcast_sandbox::Signal::TERM)?;
    for stream in &mut streams {
        let bye = stream.next_of("bye").await?;
        assert_eq!(bye.frame["code"], 1012);
        assert!(bye.frame["reconnect_in_ms"].as_u64().is_some_and(|delay| delay > 0), "{bye:?}");
        assert!(stream.next().await?.is_none());
    }
    assert!(edge.process.wait_exit(LIMIT).await?.success());
    Ok(())
}

#[tokio::test]
async fn a_slow_reader_falls_back_to_the_log_loses_nothing_and_slows_nobody() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    // On a loaded machine the fast one needs a while, in which the slow one reads nothing.
    let patient = ("EDGE__STALLED_TIMEOUT", "10m");
    let edge = stage.edge(&[("EDGE__QUEUE_SIZE", "64KiB"), ("EDGE__RECENT_EVENTS", "16"), patient]).await?;
    let mut slow = edge.stream(&token(json!("m1")), &[], "").await?;
    slow.next_of("welcome").await?;
    let (mut fast, _) = edge.join(json!("m1"), json!({})).await?;
    let filling = "x".repeat(30_000);
    for n in 0..900 {
        leader.append("m1", "t", json!({ "n": n, "filling": filling })).await?;
        assert_eq!(fast.next_of("event").await?["data"]["n"], n, "the fast one waits for nobody");
    }
    assert!(edge.metric("rowcast_edge_slow_sessions_total", "").await? >= 1.0, "27 MB fit into no queue");
    for n in 0..900 {
        assert_eq!(slow.next_of("event").await?.frame["data"]["n"], n);
    }
    Ok(())
}

/// Waits until no stream is left.
async fn nobody_streams(edge: &Edge, limit: Duration) -> Result<()> {
    wait_until("streams to end", limit, || async {
        edge.metric("rowcast_edge_connections", "sse").await.is_ok_and(|streams| streams == 0.0)
    })
    .await
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__STALLED_TIMEOUT", "1s"), ("EDGE__QUEUE_SIZE", "64KiB")]).await?;
    let mut stalled = edge.stream(&token(json!("m1")), &[], "").await?;
    stalled.next_of("welcome").await?;
    let (mut witness, _) = edge.join(json!("m1"), json!({})).await?;
    for n in 0..300 {
        leader.append("m1", "t", json!({ "n": n, "filling": "x".repeat(60_000) })).await?;
        witness.next_of("event").await?;
    }
    // The kernel gives up so long after the session would have.
    nobody_streams(&edge, Duration::from_secs(40)).await?;
    drop(stalled);
    leader.append("m1", "t", json!("later")).await?;
    assert_eq!(witness.next_of("event").await?["data"], "later", "who reads is not cut off");
    Ok(())
}

#[tokio::test]
async fn a_token_in_the_url_counts_only_where_it_is_allowed() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let path = format!("/v1/events?{}", form(&[("access_token", &token(json!("m1")))]));
    let accept = [("accept", "text/event-stream")];
    for (allowed, status) in [("false", 401), ("true", 200)] {
        let edge = stage.edge(&[("AUTH__TOKEN_IN_URL", allowed)]).await?;
        let mut exchange = Exchange::begin(&edge.listen, "GET", &path, &accept).await?;
        assert_eq!(exchange.head().await?.status, status);
    }
    Ok(())
}

/// Timers of established connections to a port, as the kernel shows them: 2 is keepalive's.
fn timers(port: u16) -> Result<Vec<u8>> {
    let mut timers = Vec::new();
    for line in std::fs::read_to_string("/proc/net/tcp")?.lines().skip(1) {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state, timer) = (fields.get(1), fields.get(3), fields.get(5));
        if local.is_some_and(|local| local.ends_with(&format!(":{port:04X}"))) && state == Some(&"01") {
            let timer = timer.and_then(|timer| timer.split(':').next()).context("a timer")?;
            timers.push(u8::from_str_radix(timer, 16)?);
        }
    }
    Ok(timers)
}

#[tokio::test]
async fn the_kernel_asks_whether_an_idle_peer_is_still_there() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut stream = edge.stream(&token(json!("m1")), &[], "").await?;
    stream.next_of("welcome").await?;
    let port = edge.listen.rsplit(':').next().context("a port")?.parse()?;
    wait_until("a keepalive timer", LIMIT, || async { timers(port).is_ok_and(|timers| timers == [2]) }).await
}

#[tokio::test]
async fn a_peer_that_breaks_off_is_found_though_nothing_is_sent() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    for linger in [None, Some(Duration::ZERO)] {
        let mut stream = edge.stream(&token(json!("m1")), &[], "").await?;
        stream.next_of("welcome").await?;
        // In order, or by a reset.
        if linger.is_some() {
            stream.exchange.reader.get_ref().set_zero_linger()?;
        }
        drop(stream);
        nobody_streams(&edge, LIMIT).await?;
    }
    Ok(())
}
