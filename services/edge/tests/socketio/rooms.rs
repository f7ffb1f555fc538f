//! What a client may see and is told of meanwhile: filters, refreshes, the light.

use anyhow::{Context, Result};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::socketio::Io;
use crate::support::{SECRET, Stage, heartbeat, sign, token, token_until};

#[tokio::test]
async fn nobody_gets_what_is_of_another_room() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut one = Io::join(&edge, json!("m1")).await?;
    let mut other = Io::join(&edge, json!("m2")).await?;
    for n in 0..50 {
        leader.append("m1", "t", json!({ "n": n })).await?;
    }
    leader.append("m2", "t", json!({ "n": "other" })).await?;
    for n in 0..50 {
        let event = one.event().await?;
        assert_eq!((event.payload["n"].as_u64(), &event.payload["merchantId"]), (Some(n), &json!("m1")));
    }
    assert_eq!(other.event().await?.payload["n"], "other", "nothing foreign comes before its own");
    Ok(())
}

#[tokio::test]
async fn types_of_the_token_and_of_the_client_filter_and_its_cursor_goes_on() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let claims = json!({ "sub": "u", "merchantId": "m1", "exp": 4_000_000_000_i64, "types": ["a.*"] });
    let limited = sign(&claims, SECRET);
    let mut by_token = Io::open(&edge).await?;
    by_token.connect(json!({ "token": limited })).await?;
    let mut by_wish = Io::open(&edge).await?;
    by_wish.connect(json!({ "token": token(json!("m1")), "types": ["a.*"] })).await?;
    for n in 0..150 {
        leader.append("m1", "b.c", json!({ "n": n })).await?;
    }
    leader.append("m1", "a.b", json!({ "n": 7 })).await?;
    for io in [&mut by_token, &mut by_wish] {
        assert_eq!(io.event().await?.name, "resync");
        let cursor = io.event().await?;
        assert_eq!((&*cursor.name, &cursor.payload["room"]), ("rowcast.cursor", &json!("m1")));
        assert!(cursor.offset.is_some_and(|offset| offset.ends_with(":100")), "so that it stays on the log");
        assert_eq!(io.event().await?.name, "a.b");
    }
    Ok(())
}

#[tokio::test]
async fn a_refresh_in_place_is_acknowledged_and_moves_the_client_between_rooms() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut io = Io::join(&edge, json!("m1")).await?;
    let refresh = |claim, id: &str| {
        format!(
            "42/notifications,{id}[\"refresh\",{}]",
            json!({ "token": format!("Bearer {}", token(claim)) })
        )
    };
    io.send(&refresh(json!(["m1", "m2"]), "5")).await?;
    let refreshed = io.event().await?;
    assert_eq!((&*refreshed.name, &refreshed.offset), ("rowcast.refreshed", &None));
    assert_eq!(refreshed.payload["rooms"]["m2"]["resumed"], false);
    let answer = io.packet().await?;
    let answer = answer.strip_prefix("43/notifications,5").context("an acknowledgement")?;
    assert_eq!(serde_json::from_str::<Value>(answer)?, json!([refreshed.payload]));
    let resync = io.event().await?;
    assert_eq!((&*resync.name, &resync.payload["room"]), ("resync", &json!("m2")));
    leader.append("m2", "t", json!({ "n": 2 })).await?;
    assert_eq!(io.event().await?.payload["merchantId"], "m2");
    io.send(&refresh(json!("m2"), "")).await?;
    assert_eq!(io.event().await?.name, "rowcast.refreshed");
    leader.append("m1", "t", json!({ "n": 1 })).await?;
    leader.append("m2", "t", json!({ "n": 3 })).await?;
    let event = io.event().await?;
    assert_eq!((&event.payload["merchantId"], event.payload["n"].as_u64()), (&json!("m2"), Some(3)));
    assert!(event.offset.is_some_and(|offset| !offset.contains("m1")));
    Ok(())
}

#[tokio::test]
async fn a_client_hears_of_its_token_and_of_the_light() -> Result<()> {
    let mut stage = Stage::new().await?;
    let leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut io = Io::open(&edge).await?;
    let connected = io.connect(json!({ "token": token_until(json!("m1"), 30) })).await?;
    assert_eq!((&connected["room"], connected["heartbeat"].as_u64()), (&json!("m1"), Some(25)));
    let expiring = io.event_of("rowcast.token_expiring").await?;
    assert!(expiring.payload["in"].as_u64().is_some_and(|left| left <= 30), "{expiring:?}");
    if connected["live"] != true {
        assert_eq!(io.event_of("rowcast.status").await?.payload["live"], true);
    }
    leader.say(rowcast_protocol::Heartbeat { lag_ms: 60_000, ..heartbeat(1, 1) });
    let dark = io.event_of("rowcast.status").await?;
    assert_eq!((&dark.payload["live"], &dark.offset), (&json!(false), &None));
    leader.say(heartbeat(1, 1));
    assert_eq!(io.event_of("rowcast.status").await?.payload["live"], true);
    Ok(())
}

#[tokio::test]
async fn refreshes_that_come_together_are_all_acknowledged() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut io = Io::join(&edge, json!("m1")).await?;
    let argument = json!({ "token": token(json!("m1")) });
    for id in ["1", "2", ""] {
        let packet = format!("42/notifications,{id}[\"refresh\",{argument}]");
        io.client.socket.feed(Message::text(packet)).await?;
    }
    io.client.socket.flush().await?;
    let mut missing = vec!["43/notifications,1[{", "43/notifications,2[{"];
    while !missing.is_empty() {
        let packet = io.packet().await?;
        missing.retain(|begin| !packet.starts_with(begin));
    }
    Ok(())
}
