//! What the published suite of Engine.IO's protocol asks for, as far as it is about WebSockets: docs/conformance.md has the
//! list.

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::socketio::{Io, PATH, Said};
use crate::support::{Client, Edge, Stage};

/// Status and body of a handshake that is refused.
async fn refused(edge: &Edge, path: &str) -> Result<(u16, Value)> {
    match Client::handshake(&edge.listen, path, &[]).await {
        Ok(_) => anyhow::bail!("{path} is served"),
        Err(error) => match error.downcast::<Error>()? {
            Error::Http(response) => {
                let body = response.body().clone().unwrap_or_default();
                Ok((response.status().as_u16(), serde_json::from_slice(&body)?))
            }
            other => Err(other.into()),
        },
    }
}

#[tokio::test]
async fn a_session_opens_with_what_a_client_has_to_know() -> Result<()> {
    let mut stage = Stage::new().await?;
    let edge = stage.edge(&[("EDGE__HEARTBEAT", "7s"), ("EDGE__SOCKETIO__PING_TIMEOUT", "3s")]).await?;
    for path in [PATH, "/socket.io?EIO=4&transport=websocket", "/socket.io/?transport=websocket&EIO=4&t=x"] {
        let io = Io::open_at(&edge.listen, path, &[]).await?;
        let sid = io.hello["sid"].clone();
        let expected = serde_json::json!({
            "sid": sid, "upgrades": [], "pingInterval": 7_000, "pingTimeout": 3_000, "maxPayload": 65_536,
        });
        ensure!(sid.is_string() && io.hello == expected, "{}", io.hello);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_handshake_of_it_is_refused_in_its_own_numbers() -> Result<()> {
    let mut stage = Stage::new().await?;
    let edge = stage.edge(&[]).await?;
    for (query, code) in [
        ("transport=websocket", 5),
        ("EIO=abc&transport=websocket", 5),
        ("EIO=3&transport=websocket", 5),
        ("EIO=4", 0),
        ("EIO=4&transport=abc", 0),
        ("EIO=4&transport=polling", 0),
        ("EIO=4&transport=websocket&sid=abc", 1),
        ("EIO=4&transport=websocket&EIO=4", 3),
    ] {
        let (status, body) = refused(&edge, &format!("/socket.io/?{query}")).await?;
        assert_eq!((status, &body["code"]), (400, &code.into()), "{query}: {body}");
        assert!(body["hint"].as_str().is_some_and(|hint| hint.len() > 20), "{body}");
    }
    // The same without an upgrade: what polls is told where to go.
    for (method, query, code) in [
        ("GET", "EIO=4&transport=polling", 0),
        ("GET", "transport=polling", 0),
        ("GET", "EIO=4&transport=websocket", 3),
        ("POST", "EIO=4&transport=websocket", 2),
        ("PUT", "EIO=4&transport=polling", 0),
    ] {
        let answer = edge.request(method, &format!("/socket.io/?{query}"), &[]).await?;
        let body = answer.json()?;
        assert_eq!((answer.status, &body["code"]), (400, &code.into()), "{method} {query}: {body}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_is_pinged_at_every_interval_whatever_else_it_says() -> Result<()> {
    let mut stage = Stage::new().await?;
    let settings = [("EDGE__HEARTBEAT", "1s"), ("EDGE__SIGN_IN_TIMEOUT", "20s")];
    let edge = stage.edge(&settings).await?;
    let mut io = Io::open(&edge).await?;
    for _ in 0..3 {
        assert_eq!(io.said().await?, Said::Packet("2".to_owned()));
        io.send("3").await?;
        // Signs of life make no ping unnecessary.
        io.send("6").await?;
        io.send("43/notifications,1[]").await?;
    }
    Ok(())
}

#[tokio::test]
async fn who_answers_no_ping_is_closed() -> Result<()> {
    let mut stage = Stage::new().await?;
    let settings =
        [("EDGE__HEARTBEAT", "1s"), ("EDGE__SOCKETIO__PING_TIMEOUT", "1s"), ("EDGE__SIGN_IN_TIMEOUT", "30s")];
    let edge = stage.edge(&settings).await?;
    let (code, _, packets) = Io::open(&edge).await?.closed().await?;
    assert_eq!(code, 4008);
    assert!(packets.contains(&"2".to_owned()), "{packets:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_that_closes_is_gone_and_one_that_sends_no_packet_is_closed() -> Result<()> {
    let mut stage = Stage::new().await?;
    let edge = stage.edge(&[]).await?;
    for (text, code) in [("1", 1000), ("abc", 4400), ("", 4400), ("2", 4400), ("0{}", 4400), ("4", 4400)] {
        let mut io = Io::open(&edge).await?;
        io.send(text).await?;
        assert_eq!(io.close_code().await?, code, "{text:?}");
    }
    let mut io = Io::open(&edge).await?;
    io.client.send_raw(Message::binary(vec![1, 2, 3, 4])).await?;
    assert_eq!(io.close_code().await?, 4400);
    Ok(())
}

#[tokio::test]
async fn it_is_behind_the_base_path_and_can_be_switched_off() -> Result<()> {
    let mut stage = Stage::new().await?;
    let edge = stage.edge(&[("EDGE__BASE_PATH", "/rt")]).await?;
    Io::open_at(&edge.listen, "/rt/socket.io/?EIO=4&transport=websocket", &[]).await?;
    assert_eq!(refused(&edge, PATH).await?.0, 404);
    let edge = stage.edge(&[("EDGE__SOCKETIO__ENABLED", "false")]).await?;
    assert_eq!(refused(&edge, PATH).await?.0, 404);
    assert_eq!(edge.request("GET", "/socket.io/?EIO=4&transport=polling", &[]).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn pages_of_other_origins_do_not_come_in_and_those_of_allowed_ones_can_read_a_refusal() -> Result<()> {
    let mut stage = Stage::new().await?;
    let edge = stage.edge(&[("EDGE__ALLOWED_ORIGINS", "https://app.example.com")]).await?;
    let open = async |origin| Client::handshake(&edge.listen, PATH, &[("Origin", origin)]).await;
    assert!(open("https://app.example.com").await.is_ok());
    assert!(open("https://evil.example.com").await.is_err());
    let origin = [("Origin", "https://app.example.com")];
    let polls = edge.request("GET", "/socket.io/?EIO=4&transport=polling", &origin).await?;
    assert_eq!((polls.status, polls.header("access-control-allow-origin")), (400, "https://app.example.com"));
    Ok(())
}
