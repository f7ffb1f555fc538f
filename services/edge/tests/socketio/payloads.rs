//! What listeners are given: each kind of data, flat and in an envelope, and names that stock clients keep for themselves.

use anyhow::Result;
use serde_json::{Value, json};

use crate::support::Stage;
use crate::support::socketio::Io;

#[tokio::test]
async fn a_flat_payload_is_the_data_with_type_and_merchant() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut io = Io::join(&edge, json!("m1")).await?;
    let big = "x".repeat(300_000);
    let big_object = json!({ "big": big });
    for (data, expected) in [
        (
            r#"{"id":7,"status":"open"}"#,
            json!({ "id": 7, "status": "open", "type": "t", "merchantId": "m1" }),
        ),
        ("{\n \"id\" : 7 }", json!({ "id": 7, "type": "t", "merchantId": "m1" })),
        ("{}", json!({ "type": "t", "merchantId": "m1" })),
        (r#"{"type":"own","merchantId":5}"#, json!({ "type": "own", "merchantId": 5 })),
        (r#"[{"type":"x"}]"#, json!([{ "type": "x" }])),
        (r#""text""#, json!("text")),
        ("null", Value::Null),
        ("12345678901234567890", json!(12_345_678_901_234_567_890_u64)),
        (&big_object.to_string(), json!({ "big": big, "type": "t", "merchantId": "m1" })),
    ] {
        leader.append_text("m1", "t", data).await?;
        let event = io.event().await?;
        assert_eq!((&*event.name, &event.payload), ("t", &expected));
        assert!(event.offset.is_some_and(|offset| offset.starts_with("m1=1.")));
    }
    Ok(())
}

#[tokio::test]
async fn an_envelope_is_the_event_as_native_sockets_have_it() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__SOCKETIO__PAYLOAD", "envelope")]).await?;
    let (mut native, _) = edge.join(json!("m1"), json!({})).await?;
    let mut io = Io::join(&edge, json!("m1")).await?;
    leader.append_text("m1", "booking.created", r#"{"id":7}"#).await?;
    let mut expected = native.next_of("event").await?;
    expected.as_object_mut().expect("an object").remove("op");
    let event = io.event().await?;
    assert_eq!((&*event.name, &event.payload), ("booking.created", &expected));
    Ok(())
}

#[tokio::test]
async fn names_that_would_end_a_stock_client_are_emitted_with_a_prefix() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut io = Io::join(&edge, json!("m1")).await?;
    for name in ["disconnecting", "newListener", "removeListener", "connect", "resync", "connected"] {
        leader.append("m1", name, json!({ "id": 1 })).await?;
        let event = io.event().await?;
        assert_eq!((event.name, event.payload["type"].as_str()), (format!("rowcast.{name}"), Some(name)));
    }
    Ok(())
}

#[tokio::test]
async fn an_event_that_is_no_json_makes_clients_fetch_anew() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut io = Io::join(&edge, json!("m1")).await?;
    leader.append_text("m1", "t", "{broken").await?;
    leader.append("m1", "t", json!({ "n": 2 })).await?;
    let resync = io.event().await?;
    assert_eq!((&*resync.name, &resync.payload["reason"]), ("resync", &json!("unreadable")));
    assert!(resync.offset.is_some_and(|offset| offset.ends_with(":1")));
    assert_eq!(io.event().await?.payload["n"], 2);
    Ok(())
}
