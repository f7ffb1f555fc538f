//! Faults behind and around an edge: it is killed, messages are lost, readers are slow, everybody comes back at once,
//! cursors are not what they should be. Not here: the status light, and the drain.

mod support;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use rowcast_sandbox::{Link, Proxy, Signal, wait_for, wait_until};
use serde_json::{Value, json};
use support::crowd::{Crowd, Writer};
use support::{Client, LIMIT, Leader, Stage, heartbeat, patient, token};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("r{n}")).collect()
}

#[tokio::test]
async fn clients_of_a_killed_edge_go_on_at_another_once_and_in_order_without_resync() -> Result<()> {
    let mut stage = Stage::new().await?;
    let leader = stage.leader().await?;
    let (dying, other) = (stage.edge(&[]).await?, stage.edge(&[]).await?);
    let rooms = names(4);
    let crowd = Crowd::gather(vec![dying.listen.clone(), other.listen.clone()], &rooms, 10).await?;
    let writer = Writer::start(leader, &rooms);
    crowd.sees_more(20).await?;
    dying.process.signal(Signal::KILL)?;
    crowd.sees_more(60).await?;
    let (_leader, written) = writer.stop().await?;
    let journeys = crowd.finish(written).await?;
    let moved = journeys.iter().filter(|journey| journey.moves > 0).count();
    ensure!(moved == 20, "{moved} clients of 20 have moved");
    ensure!(other.metric("rowcast_edge_resyncs_total", "").await? == 0.0);
    Ok(())
}

/// Clients of so many rooms, none of which hears the second event of any.
async fn lost_in(rooms: usize) -> Result<Duration> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    // Clients that wait for each other answer no pings meanwhile.
    let edge = stage.edge(&[("EDGE__HEARTBEAT", "10m")]).await?;
    let rooms = names(rooms);
    let mut clients = Vec::new();
    for some in rooms.chunks(250) {
        clients.push((edge.join(json!(some), json!({})).await?.0, some.len()));
    }
    for some in rooms.chunks(250) {
        leader.append_each("t", some.iter().map(|room| (room.as_str(), json!(1))).collect()).await?;
    }
    let all_get = async |clients: &mut [(Client, usize)], data: u64| {
        try_join_all(clients.iter_mut().map(async |(client, rooms)| {
            for _ in 0..*rooms {
                ensure!(client.next_of("event").await?["data"] == data);
            }
            Ok(())
        }))
        .await
    };
    all_get(&mut clients, 1).await?;
    let names: Vec<_> = rooms.iter().map(String::as_str).collect();
    leader.append_unheard_to(&stage.redis, &names, json!(2)).await?;
    let lost = Instant::now();
    all_get(&mut clients, 2).await?;
    let took = lost.elapsed();
    ensure!(edge.metric("rowcast_edge_gaps_total", "").await? >= rooms.len() as f64);
    ensure!(edge.metric("rowcast_edge_resyncs_total", "").await? == 0.0);
    println!("a message lost in each of {} rooms: all found after {took:?}", rooms.len());
    Ok(took)
}

#[tokio::test]
async fn a_message_lost_in_each_of_two_thousand_rooms_is_found() -> Result<()> {
    lost_in(2_000).await.map(drop)
}

#[tokio::test]
#[ignore = "five thousand rooms, on a machine that does nothing else: make test-long"]
async fn a_message_lost_in_each_of_five_thousand_rooms_is_found_in_about_a_second() -> Result<()> {
    let took = lost_in(5_000).await?;
    ensure!(took < Duration::from_secs(3), "found after {took:?}");
    Ok(())
}

#[tokio::test]
async fn a_reader_that_falls_behind_the_log_is_told_resync_and_goes_on_without_a_hole() -> Result<()> {
    const EVENTS: u64 = 200;
    let mut stage = Stage::new().await?;
    let mut leader = Leader::keeping(&stage.redis.url(), 1, 1, 20).await?;
    let settings =
        [("EDGE__QUEUE_SIZE", "256KiB"), ("EDGE__RECENT_EVENTS", "16"), ("EDGE__STALLED_TIMEOUT", "10m")];
    let edge = stage.edge(&settings).await?;
    let (mut slow, _) = edge.join(json!("m1"), json!({})).await?;
    let (mut fast, _) = edge.join(json!("m1"), json!({})).await?;
    let filling = "x".repeat(100_000);
    for n in 0..EVENTS {
        leader.append("m1", "t", json!({ "n": n, "filling": filling })).await?;
        ensure!(fast.next_of("event").await?["data"]["n"] == n, "the fast one waits for nobody");
    }
    let (mut next, mut resyncs) = (0, 0);
    while next < EVENTS {
        let frame = slow.next().await?;
        match frame["op"].as_str() {
            Some("event") => ensure!(frame["data"]["n"] == next, "a hole that nobody speaks of"),
            Some("resync") => {
                ensure!(frame["reason"] == "history", "{frame}");
                resyncs += 1;
            }
            _ => continue,
        }
        // Offsets count from one: where a cursor stands is what comes next.
        let cursor = frame["cursor"].as_str().context("a cursor")?;
        next = cursor.rsplit(':').next().context("an offset")?.parse()?;
    }
    ensure!(resyncs > 0, "20 MB fit into no buffer, and the log keeps 2 of them");
    leader.append("m1", "t", json!({ "n": EVENTS })).await?;
    ensure!(slow.next_of("event").await?["data"]["n"] == EVENTS);
    Ok(())
}

/// How often Redis was asked with a command since its counters were reset.
async fn calls(redis: &mut ::redis::aio::MultiplexedConnection, command: &str) -> Result<u64> {
    let stats: String = ::redis::cmd("INFO").arg("commandstats").query_async(redis).await?;
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(Ok(0), |line| Ok(line.split(',').next().context("a number")?.parse()?))
}

#[tokio::test]
async fn a_storm_of_resumes_costs_redis_one_read_a_room_or_none() -> Result<()> {
    const CLIENTS: usize = 300;
    const EVENTS: u64 = 60;
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let rooms = names(4);
    let mut cursors = Vec::new();
    let mut staying = Vec::new();
    let warm = stage.edge(&[]).await?;
    for room in &rooms {
        leader.append(room, "t", json!(0)).await?;
        let (mut client, _) = warm.join(json!(room), json!({})).await?;
        leader.append_all(room, "t", (1..EVENTS).map(Value::from).collect()).await?;
        let mut of_room = Vec::new();
        for _ in 1..EVENTS {
            of_room.push(client.next_of("event").await?["cursor"].clone());
        }
        cursors.push(of_room);
        staying.push(client);
    }
    let cold = stage.edge(&[]).await?;
    let linked = || async { cold.admin_page("/ready").await.is_ok_and(|(status, _)| status == 200) };
    wait_until("readiness", LIMIT, linked).await?;
    let mut redis = patient(&stage.redis).await?;
    for (edge, reads) in [(&warm, 0), (&cold, rooms.len() as u64)] {
        ::redis::cmd("CONFIG").arg("RESETSTAT").query_async::<()>(&mut redis).await?;
        let begin = Instant::now();
        try_join_all((0..CLIENTS).map(async |n| {
            let (room, seen) = (n % rooms.len(), n * 7 % cursors[0].len());
            let resume = json!({ &rooms[room]: cursors[room][seen] });
            // Where a loaded machine is too slow for the handshake's time, a client tries again.
            let join = || edge.join(json!(rooms[room]), resume.clone());
            let (mut client, welcome) = wait_for("a place", 4 * LIMIT, join).await?;
            ensure!(welcome["rooms"][&rooms[room]]["resumed"] == true, "{welcome}");
            for missed in seen as u64 + 2..EVENTS {
                ensure!(client.next_of("event").await?["data"] == missed);
            }
            Ok(())
        }))
        .await?;
        let asked = calls(&mut redis, "xrange").await? + calls(&mut redis, "xrevrange").await?;
        ensure!(asked <= reads, "{asked} reads of logs for {CLIENTS} clients in {} rooms", rooms.len());
        // Each edge looks at the head of each of its rooms once a second, whoever comes.
        let sweeps = 2 * rooms.len() as u64 * (begin.elapsed().as_secs() + 2);
        let heads = calls(&mut redis, "hmget").await?;
        ensure!(heads <= sweeps + reads, "{heads} heads read in {:?}", begin.elapsed());
        ensure!(calls(&mut redis, "subscribe").await? <= reads, "a room is subscribed to once");
    }
    Ok(())
}

#[tokio::test]
async fn whatever_cursor_a_client_brings_it_is_told_and_nobody_else_notices() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    leader.append_all("m1", "t", (0..10).map(Value::from).collect()).await?;
    leader.append("m2", "t", json!("of another room")).await?;
    let (mut witness, welcome) = edge.join(json!(["m1", "m2"]), json!({})).await?;
    witness.live_from(&welcome).await?;
    let cursor_in = |room: &str| welcome["rooms"][room]["cursor"].as_str().expect("a cursor").to_owned();
    let (head, foreign) = (cursor_in("m1"), cursor_in("m2"));
    let (history, offset) = head.split_once(':').expect("an offset");
    let stream = history.split_once('.').expect("a stream").1;
    let not_read =
        ["", ":", "1", "1.", "1.2", "x.y:z", "-1.1:1", "1.zz:1", "99999999999999999999.1:1", "ü.ü:ü"];
    let unreadable = not_read.map(str::to_owned).into_iter().chain([
        format!("{head} "),
        format!("{history}:-1"),
        format!("{history}:99999999999999999999"),
        "1".repeat(10_000),
    ]);
    let wrong = [
        (format!("{history}:{}", u64::MAX), "history"),
        (format!("{history}:11"), "history"),
        (format!("1.ffffffffffffffff:{offset}"), "history"),
        (foreign, "history"),
        (format!("0.{stream}:{offset}"), "generation"),
        (format!("2.{stream}:{offset}"), "generation"),
        (format!("{}.{stream}:{offset}", u64::MAX), "generation"),
    ];
    let cases = unreadable.map(|cursor| (cursor, "cursor")).chain(wrong);
    let mut clients = Vec::new();
    for (cursor, reason) in cases {
        let (mut client, welcome) = edge.join(json!("m1"), json!({ "m1": cursor, "m9": cursor })).await?;
        ensure!(welcome["rooms"] == json!({ "m1": { "cursor": head, "resumed": false } }), "{welcome}");
        let resync = client.next_of("resync").await?;
        ensure!(resync["cursor"] == head.as_str() && resync["reason"] == reason, "{cursor:.50}: {resync}");
        clients.push(client);
    }
    for resume in [json!({ "m1": 5 }), json!({ "m1": null }), json!([head]), json!("1.1:1")] {
        let auth = json!({ "op": "auth", "token": token(json!("m1")), "resume": resume });
        ensure!(edge.sign_in(auth).await?.closed().await?.0 == 4400, "{resume}");
    }
    leader.append("m1", "t", json!("later")).await?;
    for client in &mut clients {
        ensure!(client.next_of("event").await?["data"] == "later", "what follows the resync is not lost");
    }
    ensure!(witness.next().await?["data"] == "later", "who forged nothing is told nothing");

    // A raised generation makes yesterday's good cursor an old one; nothing else does.
    leader.say(heartbeat(1, 2));
    let resync = witness.next_of("resync").await?;
    let (mut late, welcome) = edge.join(json!("m1"), json!({ "m1": head })).await?;
    ensure!(welcome["rooms"]["m1"]["resumed"] == false && resync["reason"] == "generation", "{welcome}");
    ensure!(late.next_of("resync").await?["reason"] == "generation");
    Ok(())
}

#[tokio::test]
async fn a_cursor_from_an_edge_that_is_ahead_resumes_at_one_that_is_behind() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let ahead = stage.edge(&[]).await?;
    let link = Proxy::start(format!("127.0.0.1:{}", stage.redis.port()))?;
    let behind = stage.edge(&[("REDIS__URL", &format!("redis://{}", link.address()))]).await?;
    let (mut client, _) = ahead.join(json!("m1"), json!({})).await?;
    let (mut witness, _) = behind.join(json!("m1"), json!({})).await?;
    leader.append("m1", "t", json!(0)).await?;
    ensure!(witness.next_of("event").await?["data"] == 0);
    link.set(Link::Held);
    leader.append_all("m1", "t", (1..6).map(Value::from).collect()).await?;
    let mut cursor = Value::Null;
    for n in 0..6 {
        let event = client.next_of("event").await?;
        ensure!(event["data"] == n);
        cursor = event["cursor"].clone();
    }
    let auth = json!({ "op": "auth", "token": token(json!("m1")), "resume": { "m1": cursor } });
    let mut moved = behind.sign_in(auth).await?;
    // It waits for what Redis says, and not for ever for its welcome.
    link.set(Link::Through);
    let welcome = moved.next().await?;
    ensure!(welcome["rooms"]["m1"] == json!({ "cursor": cursor, "resumed": true }), "{welcome}");
    leader.append("m1", "t", json!(6)).await?;
    ensure!(moved.next_of("event").await?["data"] == 6);
    for n in 1..7 {
        ensure!(witness.next_of("event").await?["data"] == n);
    }
    Ok(())
}

#[tokio::test]
async fn who_filters_heavy_traffic_hears_how_far_it_is_and_resumes_within_the_log() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let auth = |resume: Value| json!({ "op": "auth", "token": token(json!("m1")), "types": ["wanted.*"], "resume": resume });
    let mut client = edge.sign_in(auth(json!({}))).await?;
    client.next_of("welcome").await?;
    leader.append("m1", "wanted.created", json!("first")).await?;
    ensure!(client.next_of("event").await?["data"] == "first");
    let offset = |frame: &Value| {
        frame["cursor"].as_str().and_then(|cursor| cursor.split(':').nth(1)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let mut told = Value::Null;
    // The log keeps a thousand; ten seconds, after which each cursor is told anyway, are long.
    for batch in 1..=5 {
        leader.append_all("m1", "other.created", vec![json!(0); 900]).await?;
        while offset(&told) < batch * 900 - 99 {
            let frame = client.next().await?;
            ensure!(["cursor", "status"].contains(&frame["op"].as_str().unwrap_or_default()), "{frame}");
            if frame["op"] == "cursor" {
                ensure!(offset(&frame) > offset(&told), "{frame} after {told}");
                told = frame;
            }
        }
    }
    drop(client);
    leader.append("m1", "wanted.created", json!("second")).await?;
    let mut client = edge.sign_in(auth(json!({ "m1": told["cursor"] }))).await?;
    ensure!(client.next_of("welcome").await?["rooms"]["m1"]["resumed"] == true);
    let mut frame = client.next().await?;
    while frame["op"] == "cursor" {
        frame = client.next().await?;
    }
    ensure!(frame["data"] == "second", "{frame}");
    Ok(())
}
