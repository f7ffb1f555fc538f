//! The native WebSocket of a real edge before a real Redis.

mod support;

use anyhow::Result;
use rowcast_sandbox::{http_get, wait_until};
use serde_json::{Value, json};
use support::{LIMIT, Stage, sign, token, token_until};
use tokio_tungstenite::tungstenite::{Error, Message};

#[tokio::test]
async fn a_token_can_be_given_in_three_ways() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let token = token(json!("m1"));

    let offered = format!("rowcast.v1, bearer.{token}");
    let (mut by_subprotocol, response) =
        edge.handshake("/ws", &[("Sec-WebSocket-Protocol", &offered)]).await?;
    assert_eq!(response.headers()["sec-websocket-protocol"], "rowcast.v1", "the token is not sent back");
    let bearer = format!("Bearer {token}");
    let mut by_header = edge.open(&[("Authorization", &bearer)]).await?;
    let mut by_frame = edge.sign_in(json!({ "op": "auth", "token": token })).await?;

    for client in [&mut by_subprotocol, &mut by_header, &mut by_frame] {
        let welcome = client.next().await?;
        assert_eq!(welcome["op"], "welcome");
        assert_eq!(welcome["heartbeat"], 25);
        assert_eq!(welcome["rooms"]["m1"]["resumed"], false);
        let cursor = welcome["rooms"]["m1"]["cursor"].as_str().expect("a string for an empty room too");
        assert!(cursor.starts_with("1.") && cursor.ends_with(":0"), "{cursor}");
        assert!(welcome["session"].is_string() && welcome["expires_at"].is_string());
    }
    Ok(())
}

#[tokio::test]
async fn every_fault_of_sign_in_is_answered_after_the_handshake_by_its_close_code() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__SIGN_IN_TIMEOUT", "300ms")]).await?;
    let far = 4_000_000_000_i64;
    let cases = [
        (sign(&json!({ "merchantId": "m1", "exp": far }), "another secret, long enough as well"), 4401),
        (sign(&json!({ "merchantId": "m1", "exp": 1 }), support::SECRET), 4401),
        (sign(&json!({ "merchantId": "m1" }), support::SECRET), 4401),
        ("not.a.token".to_owned(), 4401),
        (sign(&json!({ "merchantId": "", "exp": far }), support::SECRET), 4403),
        (sign(&json!({ "exp": far }), support::SECRET), 4403),
    ];
    for (token, code) in cases {
        let offered = format!("rowcast.v1, bearer.{token}");
        let mut in_handshake = edge.open(&[("Sec-WebSocket-Protocol", &offered)]).await?;
        assert_eq!(in_handshake.closed().await?.0, code, "{token}");
        let mut in_frame = edge.sign_in(json!({ "op": "auth", "token": token })).await?;
        assert_eq!(in_frame.closed().await?.0, code, "{token}");
    }
    for (text, code) in [("{}", 4400), ("nonsense", 4400), (r#"{"op":"refresh","token":"x"}"#, 4401)] {
        let mut client = edge.open(&[]).await?;
        client.send_raw(Message::text(text)).await?;
        assert_eq!(client.closed().await?.0, code, "{text}");
    }
    assert_eq!(edge.open(&[]).await?.closed().await?.0, 4408, "no sign-in in time");
    Ok(())
}

#[tokio::test]
async fn events_arrive_once_in_order_with_the_documented_fields() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let (mut client, _) = edge.join(json!("m1"), json!({})).await?;
    let (mut other, _) = edge.join(json!("m2"), json!({})).await?;
    let mut ids = Vec::new();
    for n in 0..50 {
        ids.push(leader.append("m1", "booking.created", json!({ "n": n })).await?);
    }
    leader.append("m2", "booking.created", json!({ "n": "other" })).await?;
    for (n, id) in ids.iter().enumerate() {
        let event = client.next_of("event").await?;
        assert_eq!((event["data"]["n"].as_u64(), event["id"].as_str()), (Some(n as u64), Some(id.as_str())));
        assert_eq!((&event["room"], &event["type"]), (&json!("m1"), &json!("booking.created")));
        assert!(event["at"].as_str().is_some_and(|at| at.len() == 27 && at.ends_with('Z')), "{event}");
        let ending = format!(":{}", n + 1);
        assert!(event["cursor"].as_str().is_some_and(|cursor| cursor.ends_with(&ending)), "{event}");
    }
    assert_eq!(other.next_of("event").await?["data"]["n"], "other", "nothing foreign comes before its own");
    Ok(())
}

#[tokio::test]
async fn a_client_resumes_from_memory_from_the_log_and_from_another_edge() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__RECENT_EVENTS", "8")]).await?;
    let (mut client, _) = edge.join(json!("m1"), json!({})).await?;
    leader.append("m1", "t", json!(0)).await?;
    let cursor = client.next_of("event").await?["cursor"].clone();
    drop(client);
    leader.append_all("m1", "t", (1..5).map(Value::from).collect()).await?;

    let resume = json!({ "m1": cursor });
    let expect = async |edge: &support::Edge, count: u64| -> Result<()> {
        let (mut client, welcome) = edge.join(json!("m1"), resume.clone()).await?;
        assert_eq!(welcome["rooms"]["m1"], json!({ "cursor": cursor, "resumed": true }));
        for n in 1..count {
            assert_eq!(client.next_of("event").await?["data"].as_u64(), Some(n));
        }
        Ok(())
    };
    expect(&edge, 5).await?;
    assert_eq!(edge.metric("rowcast_edge_joins_total", "memory").await?, 1.0);
    leader.append_all("m1", "t", (5..700).map(Value::from).collect()).await?;
    // While they are on their way to the edge, its memory still reaches back to the cursor.
    wait_until("the edge has them all", LIMIT, || async {
        let joined = edge.join(json!("m1"), json!({})).await;
        joined.is_ok_and(|(_, welcome)| {
            welcome["rooms"]["m1"]["cursor"].as_str().is_some_and(|cursor| cursor.ends_with(":700"))
        })
    })
    .await?;
    expect(&edge, 700).await?;
    assert!(edge.metric("rowcast_edge_joins_total", "log").await? >= 1.0);
    let other = stage.edge(&[]).await?;
    expect(&other, 700).await
}

#[tokio::test]
async fn a_cursor_behind_the_log_or_forged_leads_to_resync() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    leader.append_all("m1", "t", (0..1_500).map(Value::from).collect()).await?;
    let (_, welcome) = edge.join(json!("m1"), json!({})).await?;
    let head = welcome["rooms"]["m1"]["cursor"].as_str().expect("a cursor").to_owned();
    let stream = &head[..head.len() - "1500".len()];
    let forged = [format!("{stream}1"), format!("{stream}9999"), "2.0000000000000001:1".into(), "x".into()];
    let mut clients = Vec::new();
    for cursor in forged {
        let (mut client, welcome) = edge.join(json!("m1"), json!({ "m1": cursor })).await?;
        assert_eq!(welcome["rooms"]["m1"]["resumed"], false, "{cursor}");
        let resync = client.next_of("resync").await?;
        assert_eq!(resync["cursor"].as_str(), Some(head.as_str()));
        clients.push(client);
    }
    leader.append("m1", "t", json!("later")).await?;
    for client in &mut clients {
        assert_eq!(client.next_of("event").await?["data"], "later", "what follows the resync is not lost");
    }
    Ok(())
}

#[tokio::test]
async fn ping_is_answered_and_the_server_pings_a_silent_socket() -> Result<()> {
    use futures_util::StreamExt;
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__HEARTBEAT", "1s")]).await?;
    let (mut client, _) = edge.join(json!("m1"), json!({})).await?;
    client.send(json!({ "op": "ping" })).await?;
    client.next_of("pong").await?;
    loop {
        let message = tokio::time::timeout(LIMIT, client.socket.next()).await?.expect("open")?;
        if matches!(message, Message::Ping(_)) {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn a_frame_that_announces_too_much_is_refused_before_it_arrives() -> Result<()> {
    use tokio::io::AsyncWriteExt;
    use tokio_tungstenite::MaybeTlsStream;
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut client = edge.open(&[]).await?;
    let MaybeTlsStream::Plain(stream) = client.socket.get_mut() else { panic!("a plain stream") };
    stream.write_all(&[0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4]).await?;
    assert_eq!(client.closed().await?.0, 1009);
    Ok(())
}

#[tokio::test]
async fn a_wrong_path_names_the_right_one() -> Result<()> {
    let mut stage = Stage::new().await?;
    let edge = stage.edge(&[("EDGE__BASE_PATH", "/api")]).await?;
    let Err(error) = edge.handshake("/ws", &[]).await else { panic!("there is nothing at /ws") };
    let Some(Error::Http(response)) = error.downcast_ref::<Error>() else { panic!("{error}") };
    assert_eq!(response.status(), 404);
    let body = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned();
    assert!(body.contains("/api/ws"), "{body}");
    let (status, body) = http_get(&edge.listen, "/").await?;
    assert!(status == 404 && body.contains("/api/ws"), "{body}");
    edge.handshake("/api/ws", &[]).await.map(drop)
}

#[tokio::test]
async fn a_token_is_refreshed_in_place_and_rooms_are_left_and_joined() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let (mut client, _) = edge.join(json!(["m1", "m2"]), json!({})).await?;
    client.send(json!({ "op": "refresh", "token": token(json!(["m2", "m3"])) })).await?;
    let refreshed = client.next_of("refreshed").await?;
    let rooms: Vec<_> = refreshed["rooms"].as_object().expect("rooms").keys().collect();
    assert_eq!(rooms, ["m2", "m3"]);
    for room in ["m1", "m2", "m3"] {
        leader.append(room, "t", json!(room)).await?;
    }
    let mut seen =
        [client.next_of("event").await?["data"].clone(), client.next_of("event").await?["data"].clone()];
    seen.sort_by_key(Value::to_string);
    assert_eq!(seen, [json!("m2"), json!("m3")]);
    Ok(())
}

#[tokio::test]
async fn a_token_that_ends_ends_the_socket_and_says_so_before() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut client = edge.sign_in(json!({ "op": "auth", "token": token_until(json!("m1"), 2) })).await?;
    client.next_of("welcome").await?;
    client.next_of("token_expiring").await?;
    assert_eq!(client.closed().await?.0, 4401);
    Ok(())
}

#[tokio::test]
async fn a_filter_leaves_out_what_is_not_wanted() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut client =
        edge.sign_in(json!({ "op": "auth", "token": token(json!("m1")), "types": ["booking.*"] })).await?;
    client.next_of("welcome").await?;
    for event_type in ["payment.created", "booking.created", "payment.updated", "booking.updated"] {
        leader.append("m1", event_type, json!(0)).await?;
    }
    assert_eq!(client.next_of("event").await?["type"], "booking.created");
    assert_eq!(client.next_of("event").await?["type"], "booking.updated");
    Ok(())
}

#[tokio::test]
async fn a_slow_reader_falls_back_to_the_log_loses_nothing_and_slows_nobody() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    // On a loaded machine the fast one needs a while, in which the slow one reads nothing.
    let patient = ("EDGE__STALLED_TIMEOUT", "10m");
    let edge = stage.edge(&[("EDGE__QUEUE_SIZE", "64KiB"), ("EDGE__RECENT_EVENTS", "16"), patient]).await?;
    let (mut slow, _) = edge.join(json!("m1"), json!({})).await?;
    let (mut fast, _) = edge.join(json!("m1"), json!({})).await?;
    let filling = "x".repeat(30_000);
    for n in 0..900 {
        leader.append("m1", "t", json!({ "n": n, "filling": filling })).await?;
        assert_eq!(fast.next_of("event").await?["data"]["n"], n, "the fast one waits for nobody");
    }
    assert!(edge.metric("rowcast_edge_slow_sessions_total", "").await? >= 1.0, "27 MB fit into no queue");
    for n in 0..900 {
        assert_eq!(slow.next_of("event").await?["data"]["n"], n);
    }
    Ok(())
}

#[tokio::test]
async fn a_message_that_pub_sub_lost_is_found_within_seconds() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let (mut client, _) = edge.join(json!("m1"), json!({})).await?;
    leader.append("m1", "t", json!(1)).await?;
    client.next_of("event").await?;
    leader.append_unheard(&stage.redis, "m1", json!(2)).await?;
    assert_eq!(client.next_of("event").await?["data"], 2);
    assert!(edge.metric("rowcast_edge_gaps_total", "").await? >= 1.0);
    Ok(())
}

#[tokio::test]
async fn rooms_can_be_joined_and_resumed_while_redis_has_no_memory_left() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    leader.append_all("m1", "t", vec![json!(1), json!(2)]).await?;
    let (_, welcome) = edge.join(json!("m1"), json!({})).await?;
    let head = welcome["rooms"]["m1"]["cursor"].as_str().expect("a cursor").to_owned();
    let first = format!("{}1", &head[..head.len() - 1]);
    let mut redis = stage.redis.connection().await?;
    ::redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).query_async::<()>(&mut redis).await?;
    assert!(leader.append("m1", "t", json!(3)).await.is_err(), "Redis is full");
    let fresh = stage.edge(&[]).await?;
    let (mut client, _) = fresh.join(json!("m1"), json!({ "m1": first })).await?;
    assert_eq!(client.next_of("event").await?["data"], 2);
    Ok(())
}

#[tokio::test]
async fn the_light_turns_off_without_a_leader_and_without_redis_and_on_again() -> Result<()> {
    let mut stage = Stage::new().await?;
    let leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let (mut client, welcome) = edge.join(json!("m1"), json!({})).await?;
    if welcome["live"] != true {
        assert_eq!(client.next_of("status").await?["live"], true);
    }
    drop(leader);
    let status = client.next_of("status").await?;
    assert_eq!((&status["live"], &status["reason"]), (&json!(false), &json!("listener")));
    let leader = stage.leader().await?;
    assert_eq!(client.next_of("status").await?["live"], true);
    drop(leader);
    stage.redis.restart().await?;
    assert_eq!(client.next_of("status").await?["live"], false);
    let _leader = support::Leader::start(&stage.redis.url(), 2, 2).await?;
    // The light may be on before: the last heartbeat of the leader that went is not three seconds old.
    let (mut live, mut resynced) = (false, false);
    while !live || !resynced {
        let frame = client.next().await?;
        match frame["op"].as_str() {
            Some("status") => live = frame["live"] == true,
            Some("resync") => resynced = frame["reason"] == "generation",
            _ => anyhow::bail!("{frame}"),
        }
    }
    assert_eq!(edge.admin_page("/ready").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_drain_sends_everybody_elsewhere_and_ends_when_they_are_gone() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__DRAIN_WINDOW", "1s")]).await?;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(edge.join(json!("m1"), json!({})).await?.0);
    }
    edge.process.signal(rowcast_sandbox::Signal::TERM)?;
    let mut delays = Vec::new();
    for client in &mut clients {
        let bye = client.next_of("bye").await?;
        assert_eq!(bye["code"], 1012);
        delays.push(bye["reconnect_in_ms"].as_u64().expect("a delay"));
        assert_eq!(client.closed().await?.0, 1012);
    }
    delays.dedup();
    assert!(delays.len() > 1, "each has a delay of its own: {delays:?}");
    drop(clients);
    assert!(edge.process.wait_exit(LIMIT).await?.success());
    Ok(())
}

#[tokio::test]
async fn an_edge_that_never_heard_a_leader_is_alive_and_not_ready() -> Result<()> {
    let mut stage = Stage::new().await?;
    let edge = stage.edge(&[]).await?;
    assert_eq!(edge.admin_page("/live").await?.0, 200);
    let (status, body) = edge.admin_page("/ready").await?;
    assert!(status == 503 && body.contains("redis"), "{body}");
    let _leader = stage.leader().await?;
    wait_until("readiness", LIMIT, || async {
        edge.admin_page("/ready").await.is_ok_and(|(status, _)| status == 200)
    })
    .await
}

#[tokio::test]
async fn a_full_edge_answers_503_with_retry_after() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__MAX_CONNECTIONS", "1")]).await?;
    let (_first, _) = edge.join(json!("m1"), json!({})).await?;
    let Err(error) = edge.handshake("/ws", &[]).await else { panic!("one is the limit") };
    let Some(Error::Http(response)) = error.downcast_ref::<Error>() else { panic!("{error}") };
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    Ok(())
}
