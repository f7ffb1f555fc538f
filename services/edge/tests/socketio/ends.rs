//! How a stock client is refused and put out: what it should do next decides whether it is told in a packet, behind which
//! it does not come back by itself, or by a close, behind which it does.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rowcast_sandbox::{Signal, wait_until};
use serde_json::{Value, json};

use crate::support::socketio::{Io, PATH, Said};
use crate::support::{LIMIT, SECRET, Stage, sign, token, token_until};

/// The payload of the `rowcast.bye` among these packets.
fn bye(packets: &[String]) -> Value {
    let begin = "42/notifications,[\"rowcast.bye\",";
    let packet = packets.iter().find_map(|packet| packet.strip_prefix(begin)?.strip_suffix(']'));
    packet.and_then(|payload| serde_json::from_str(payload).ok()).unwrap_or_default()
}

fn is_put_out(packets: &[String]) -> bool {
    packets.iter().any(|packet| packet == "41/notifications,")
}

#[tokio::test]
async fn a_bad_token_is_refused_in_words_that_applications_look_for_and_the_socket_stays() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut io = Io::open(&edge).await?;
    let far = 4_000_000_000_i64;
    for (auth, message, reason) in [
        (json!({ "token": token_until(json!("m1"), -5) }), "jwt expired", "expired"),
        (
            json!({ "token": sign(&json!({ "merchantId": "m1", "exp": far, "nbf": far }), SECRET) }),
            "jwt not active",
            "not_yet",
        ),
        (json!({ "token": "nonsense" }), "jwt refused: the token is not valid here", "invalid"),
        (json!({ "token": 7 }), "jwt must be provided", "missing"),
        (json!({}), "jwt must be provided", "missing"),
    ] {
        let (said, data) = io.refused(auth).await?;
        assert_eq!((&*said, &data["reason"], &data["code"]), (message, &json!(reason), &json!(4401)));
        assert_eq!(data["reconnect"], "new_token");
    }
    let roomless = sign(&json!({ "exp": far }), SECRET);
    let (said, data) = io.refused(json!({ "token": roomless })).await?;
    assert!(said.starts_with("not allowed: "), "{said}");
    assert_eq!((&data["code"], &data["reconnect"]), (&json!(4403), &json!("never")));
    // The application has got another one.
    io.connect(json!({ "token": format!("Bearer {}", token(json!("m1"))) })).await?;
    assert_eq!(edge.metric("rowcast_edge_sign_ins_total", "\"missing\"").await?, 2.0);
    Ok(())
}

#[tokio::test]
async fn the_token_may_come_with_the_handshake() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("AUTH__TOKEN_IN_URL", "true")]).await?;
    let strict = stage.edge(&[]).await?;
    let good = token(json!("m1"));
    let bearer = format!("Bearer {good}");
    let in_url = format!("{PATH}&token={good}");
    Io::open_at(&edge.listen, PATH, &[("Authorization", &bearer)]).await?.connect(json!({})).await?;
    Io::open_at(&edge.listen, &in_url, &[]).await?.connect(json!({})).await?;
    let (said, _) = Io::open_at(&strict.listen, &in_url, &[]).await?.refused(json!({})).await?;
    assert_eq!(said, "jwt must be provided");
    Ok(())
}

#[tokio::test]
async fn who_is_refused_again_and_again_is_closed() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut io = Io::open(&edge).await?;
    for _ in 0..16 {
        io.refused(json!({ "token": "nonsense" })).await?;
    }
    assert_eq!(io.close_code().await?, 4429);
    assert_eq!(edge.metric("rowcast_edge_limited_total", "sign_ins").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn a_token_that_ends_or_is_revoked_closes_the_socket_so_that_the_client_comes_back_for_its_refusal()
-> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut ending = Io::open(&edge).await?;
    ending.connect(json!({ "token": token_until(json!("m1"), 2) })).await?;
    let (code, _, packets) = ending.closed().await?;
    assert_eq!((code, &bye(&packets)["code"], is_put_out(&packets)), (4401, &json!(4401), false));

    let mut revoked = Io::join(&edge, json!("m2")).await?;
    leader.revoke(json!({ "room": { "m2": null } })).await?;
    let (code, _, packets) = revoked.closed().await?;
    assert_eq!((code, is_put_out(&packets)), (4401, false), "{packets:?}");
    assert_eq!(edge.metric("rowcast_edge_revoked_total", "socketio").await?, 1.0);
    let (said, data) = Io::open(&edge).await?.refused(json!({ "token": token(json!("m2")) })).await?;
    assert_eq!((&*said, &data["reason"]), ("jwt revoked", &json!("revoked")));
    Ok(())
}

#[tokio::test]
async fn who_may_not_refresh_is_put_out_and_does_not_come_back_by_itself() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut io = Io::join(&edge, json!("m1")).await?;
    let other = sign(&json!({ "sub": "other", "merchantId": "m1", "exp": 4_000_000_000_i64 }), SECRET);
    io.send(&format!("42/notifications,[\"refresh\",{}]", json!({ "token": other }))).await?;
    let mut packets = Vec::new();
    while !is_put_out(&packets) {
        packets.push(io.packet().await?);
    }
    assert_eq!(bye(&packets)["code"], 4403, "{packets:?}");
    Ok(())
}

#[tokio::test]
async fn limits_are_those_of_other_sockets_and_close_the_socket() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__MAX_PER_ROOM", "1"), ("EDGE__MESSAGE_BURST", "20")]).await?;
    let (native, _) = edge.join(json!("m1"), json!({})).await?;
    let mut second = Io::open(&edge).await?;
    let begun = Instant::now();
    second.send(&format!("40/notifications,{}", json!({ "token": token(json!("m1")) }))).await?;
    // It would come back at once: it is kept for a while.
    let (code, reason, packets) = second.closed().await?;
    assert!(code == 4429 && reason.starts_with("room: "), "{code} {reason}");
    assert!(packets.iter().all(|packet| packet == "2"), "{packets:?}");
    assert!(begun.elapsed() >= Duration::from_secs(2), "it was closed after {:?}", begun.elapsed());
    drop(native);
    wait_until("the room has a place", LIMIT, || async { Io::join(&edge, json!("m1")).await.is_ok() })
        .await?;

    let mut loud = Io::join(&edge, json!("m2")).await?;
    for _ in 0..200 {
        if loud.send("42/notifications,[\"x\"]").await.is_err() {
            break;
        }
    }
    let (code, reason, packets) = loud.closed().await?;
    assert!(code == 4429 && reason.starts_with("messages: ") && !is_put_out(&packets), "{code} {reason}");
    Ok(())
}

#[tokio::test]
async fn sockets_that_are_switched_off_are_put_out_and_refused_without_asking_for_a_token() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__SWITCH_WINDOW", "200ms")]).await?;
    let mut io = Io::join(&edge, json!("m1")).await?;
    leader.switch(false).await?;
    let mode = io.event_of("rowcast.mode").await?;
    assert_eq!(mode.payload, json!({ "transport": "polling" }));
    let bye = io.event_of("rowcast.bye").await?;
    assert_eq!(bye.payload["code"], 4410);
    assert_eq!(io.packet().await?, "41/notifications,");
    let (said, data) = Io::open(&edge).await?.refused(json!({ "token": token(json!("m1")) })).await?;
    assert!(said.starts_with("switched to polling") && !said.contains("jwt"), "{said}");
    assert_eq!(data["code"], 4410);
    leader.switch(true).await?;
    wait_until("it is on again", LIMIT, || async { Io::join(&edge, json!("m1")).await.is_ok() }).await?;
    Ok(())
}

#[tokio::test]
async fn a_drain_sends_everybody_elsewhere_where_they_are_recovered() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__DRAIN_WINDOW", "1s")]).await?;
    let other = stage.edge(&[]).await?;
    let mut all = Vec::new();
    for _ in 0..10 {
        all.push(Io::join(&edge, json!("m1")).await?);
    }
    let mut waiting = Io::open(&edge).await?;
    edge.process.signal(Signal::TERM)?;
    leader.append("m1", "t", json!({ "n": 1 })).await?;
    for io in &mut all {
        let mut heard = false;
        let (code, said) = loop {
            match io.said().await? {
                Said::Closed(code, _) => break (code, bye(&[])),
                Said::Packet(packet) if packet.contains("rowcast.bye") => {
                    let Said::Closed(code, _) = io.said().await? else {
                        anyhow::bail!("something behind a bye")
                    };
                    break (code, bye(&[packet]));
                }
                Said::Packet(packet) if packet.contains("\"n\":1") => {
                    let text = packet.strip_prefix("42/notifications,").unwrap_or_default();
                    io.offset = crate::support::socketio::emitted(text)?.offset;
                    heard = true;
                }
                Said::Packet(_) => {}
            }
        };
        assert_eq!((code, &said["code"]), (1012, &json!(1012)));
        assert!(said["reconnect_in_ms"].is_u64());
        let (mut back, recovered) = io.back(&other, &token(json!("m1"))).await?;
        assert!(recovered);
        if !heard {
            assert_eq!(back.event().await?.payload["n"], 1);
        }
        assert_eq!(back.so_far().await?, []);
    }
    ensure!(waiting.close_code().await? == 1012, "who is in no namespace goes too");
    ensure!(edge.process.wait_exit(LIMIT).await?.success(), "it ends in order");
    Ok(())
}

#[tokio::test]
async fn a_slow_reader_falls_back_to_the_log_and_loses_nothing() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__QUEUE_FRAMES", "8"), ("EDGE__QUEUE_SIZE", "64KiB")]).await?;
    let mut io = Io::join(&edge, json!("m1")).await?;
    let padding = "x".repeat(10_000);
    let all: Vec<Value> = (0..1_000).map(|n| json!({ "n": n, "padding": padding })).collect();
    for some in all.chunks(50) {
        leader.append_all("m1", "t", some.to_vec()).await?;
    }
    wait_until("it has fallen behind", LIMIT, || async {
        edge.metric("rowcast_edge_slow_sessions_total", "").await.is_ok_and(|slow| slow >= 1.0)
    })
    .await?;
    for n in 0..1_000 {
        assert_eq!(io.event_of("t").await?.payload["n"].as_u64(), Some(n));
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_closed_and_leaves_its_rooms() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__STALLED_TIMEOUT", "1s")]).await?;
    let io = Io::join(&edge, json!("m1")).await?;
    assert_eq!(edge.metric("rowcast_edge_connections", "socketio").await?, 1.0);
    let padding = "x".repeat(100_000);
    for _ in 0..100 {
        leader.append("m1", "t", json!({ "padding": padding })).await?;
    }
    wait_until("it is gone", LIMIT, || async {
        edge.metric("rowcast_edge_connections", "socketio").await.is_ok_and(|open| open == 0.0)
    })
    .await?;
    assert_eq!(edge.metric("rowcast_edge_closes_total", "transport=\"socketio\"").await?, 1.0);
    drop(io);
    Ok(())
}
