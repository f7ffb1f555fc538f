//! Refreshing a token in place, before a real edge: what changes at once, and what ends the socket.

mod support;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::{Client, Edge, SECRET, Stage, sign, token};

const FAR: i64 = 4_000_000_000;

fn of(subject: Value, more: Value) -> String {
    let mut claims = json!({ "sub": subject, "merchantId": "m1", "exp": FAR });
    for (name, value) in more.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    sign(&claims, SECRET)
}

async fn enter(edge: &Edge, token: &str) -> Result<Client> {
    let mut client = edge.sign_in(json!({ "op": "auth", "token": token })).await?;
    client.next_of("welcome").await?;
    Ok(client)
}

async fn refresh(client: &mut Client, token: &str) -> Result<()> {
    client.send(json!({ "op": "refresh", "token": token })).await
}

#[tokio::test]
async fn what_still_waits_of_a_room_that_is_left_is_not_sent() -> Result<()> {
    const EVENTS: usize = 800;
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    // More than the kernel keeps for a socket that is not read.
    let settings =
        [("EDGE__QUEUE_SIZE", "64MiB"), ("EDGE__QUEUE_FRAMES", "4000"), ("EDGE__STALLED_TIMEOUT", "10m")];
    let edge = stage.edge(&settings).await?;
    let (mut client, _) = edge.join(json!(["m1", "m2"]), json!({})).await?;
    let filling = "x".repeat(30_000);
    for _ in 0..EVENTS / 50 {
        leader.append_all("m1", "t", vec![json!(filling); 50]).await?;
    }
    rowcast_sandbox::wait_until("events that wait", support::LIMIT, || async {
        edge.metric("rowcast_edge_deliveries_total", "").await.is_ok_and(|queued| queued >= EVENTS as f64)
    })
    .await?;
    refresh(&mut client, &token(json!("m2"))).await?;
    leader.append("m1", "t", json!("too late")).await?;
    leader.append("m2", "t", json!("its own")).await?;
    let mut before = 0;
    loop {
        let frame = client.next().await?;
        match frame["op"].as_str() {
            Some("event") => before += 1,
            Some("refreshed") => break ensure!(frame["rooms"].get("m1").is_none(), "{frame}"),
            _ => {}
        }
    }
    ensure!(before < EVENTS, "all that waited was sent");
    let next = client.next_of("event").await?;
    assert_eq!((&next["room"], &next["data"]), (&json!("m2"), &json!("its own")));
    Ok(())
}

#[tokio::test]
async fn types_change_with_the_token() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut client = enter(&edge, &of(json!("user"), json!({}))).await?;
    leader.append("m1", "payment.created", json!(1)).await?;
    assert_eq!(client.next_of("event").await?["type"], "payment.created");
    refresh(&mut client, &of(json!("user"), json!({ "types": ["booking.*"] }))).await?;
    client.next_of("refreshed").await?;
    leader.append("m1", "payment.created", json!(2)).await?;
    leader.append("m1", "booking.created", json!(3)).await?;
    assert_eq!(client.next_of("event").await?["data"], 3);
    Ok(())
}

#[tokio::test]
async fn a_refresh_that_is_not_good_ends_the_socket_though_its_own_token_is() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    for (new, code) in [
        (of(json!("somebody else"), json!({})), 4403),
        (of(json!(7), json!({})), 4403),
        (of(json!("user"), json!({ "merchantId": [] })), 4403),
        (of(json!("user"), json!({ "exp": 1 })), 4401),
        (
            sign(
                &json!({ "sub": "user", "merchantId": "m1", "exp": FAR }),
                "not the secret of this edge at all",
            ),
            4401,
        ),
        ("nonsense".to_owned(), 4401),
    ] {
        let mut client = enter(&edge, &of(json!("user"), json!({}))).await?;
        refresh(&mut client, &new).await?;
        assert_eq!(client.closed().await?.0, code, "{new}");
    }
    // Numbers are names as well: neither is nobody.
    let mut client = enter(&edge, &of(json!(1), json!({}))).await?;
    refresh(&mut client, &of(json!("1"), json!({}))).await?;
    client.next_of("refreshed").await?;
    refresh(&mut client, &of(json!(2), json!({}))).await?;
    assert_eq!(client.closed().await?.0, 4403);
    Ok(())
}

#[tokio::test]
async fn refreshes_of_one_socket_are_limited() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("AUTH__MAX_REFRESHES", "3")]).await?;
    let token = of(json!("user"), json!({}));
    let mut client = enter(&edge, &token).await?;
    for _ in 0..3 {
        refresh(&mut client, &token).await?;
        client.next_of("refreshed").await?;
    }
    let mut other = enter(&edge, &token).await?;
    refresh(&mut client, &token).await?;
    let (code, reason) = client.closed().await?;
    assert!(code == 4429 && reason.starts_with("refreshes:"), "{code} {reason}");
    refresh(&mut other, &token).await?;
    other.next_of("refreshed").await?;
    assert_eq!(edge.metric("rowcast_edge_refreshes_total", "result=\"limit\"").await?, 1.0);
    assert_eq!(edge.metric("rowcast_edge_limited_total", "refreshes").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn every_way_in_ends_with_its_token_and_streams_and_sockets_hear_it_before() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    // A page does not wait long while the light is off.
    let (mut first, welcome) = edge.join(json!("m1"), json!({})).await?;
    first.live_from(&welcome).await?;
    let short = support::token_until(json!("m1"), 3);
    let mut socket = enter(&edge, &short).await?;
    let mut stream = edge.stream(&short, &[], "").await?;
    let page = edge.ask(&short, &[("wait", "30")], &[]).await?;
    assert!(socket.next_of("token_expiring").await?["in"].as_u64().is_some_and(|left| left <= 60));
    stream.next_of("token_expiring").await?;
    assert_eq!(socket.closed().await?, (4401, "the token has expired".to_owned()));
    assert_eq!(stream.next_of("bye").await?.frame["code"], 4401);
    assert!(stream.next().await?.is_none(), "the stream ends");
    let answer = page.answer().await?;
    assert_eq!(answer.refusal()?, (401, "token".to_owned()), "{answer:?}");
    Ok(())
}
