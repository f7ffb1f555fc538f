//! What the published suite of Socket.IO's protocol asks for: docs/conformance.md has the list.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::socketio::{Io, emitted};
use crate::support::{Edge, Leader, Stage, token};

const NAMESPACES: (&str, &str) = ("EDGE__SOCKETIO__NAMESPACES", "/,/custom");

async fn served() -> Result<(Stage, Leader, Edge)> {
    let mut stage = Stage::new().await?;
    let leader = stage.leader().await?;
    let edge = stage.edge(&[NAMESPACES]).await?;
    Ok((stage, leader, edge))
}

/// Connects to a namespace by its prefix in packets, and reads all that comes first.
async fn connect(io: &mut Io, prefix: &str, auth: &Value) -> Result<()> {
    io.send(&format!("40{prefix}{auth}")).await?;
    let answer = io.packet().await?;
    let answer = answer.strip_prefix(&format!("40{prefix}")).unwrap_or_default();
    let answer: Value = serde_json::from_str(answer)?;
    ensure!(answer["sid"].is_string() && answer["pid"].is_string(), "{answer}");
    for name in ["connected", "resync"] {
        assert_eq!(event(io, prefix).await?, name);
    }
    Ok(())
}

/// The name of the next event, which is of this namespace.
async fn event(io: &mut Io, prefix: &str) -> Result<String> {
    let packet = io.packet().await?;
    let arguments = packet.strip_prefix(&format!("42{prefix}")).filter(|text| text.starts_with('['));
    Ok(emitted(arguments.unwrap_or(&packet))?.name)
}

#[tokio::test]
async fn the_main_and_a_custom_namespace_can_be_connected_to_at_once_and_get_the_same() -> Result<()> {
    let (_stage, mut leader, edge) = served().await?;
    let mut io = Io::open(&edge).await?;
    let auth = json!({ "token": token(json!("m1")) });
    connect(&mut io, "", &auth).await?;
    connect(&mut io, "/custom,", &auth).await?;
    leader.append("m1", "t", json!({ "n": 1 })).await?;
    let mut both = [io.packet().await?, io.packet().await?];
    both.sort();
    assert!(both[0].starts_with("42/custom,[\"t\",{") && both[1].starts_with("42[\"t\",{"), "{both:?}");
    Ok(())
}

#[tokio::test]
async fn another_namespace_is_refused_and_the_socket_goes_on() -> Result<()> {
    let (_stage, _leader, edge) = served().await?;
    let mut io = Io::open(&edge).await?;
    for (namespace, packet) in [("/random", "40/random"), ("/custom/x", "40/custom/x,{\"token\":\"t\"}")] {
        io.send(packet).await?;
        assert_eq!(io.packet().await?, format!("44{namespace},{{\"message\":\"Invalid namespace\"}}"));
    }
    connect(&mut io, "", &json!({ "token": token(json!("m1")) })).await
}

#[tokio::test]
async fn a_handshake_that_is_none_closes_the_socket_and_so_does_none_in_time() -> Result<()> {
    let mut stage = Stage::new().await?;
    let edge = stage.edge(&[("EDGE__SIGN_IN_TIMEOUT", "300ms")]).await?;
    assert_eq!(Io::open(&edge).await?.close_code().await?, 4408);
    for packet in ["4abc", "40[]", "40/notifications,nonsense", "44{}", "42/notifications,[\"x\"]"] {
        let mut io = Io::open(&edge).await?;
        io.send(packet).await?;
        assert_eq!(io.close_code().await?, 4400, "{packet}");
    }
    Ok(())
}

#[tokio::test]
async fn one_namespace_can_be_left_while_another_goes_on() -> Result<()> {
    let (_stage, mut leader, edge) = served().await?;
    let mut io = Io::open(&edge).await?;
    let auth = json!({ "token": token(json!("m1")) });
    connect(&mut io, "", &auth).await?;
    connect(&mut io, "/custom,", &auth).await?;
    io.send("41/custom,").await?;
    // An answer comes behind what was there before.
    io.send("427[\"ping\"]").await?;
    assert_eq!(io.packet().await?, "437[]");
    leader.append("m1", "t", json!({ "n": 1 })).await?;
    leader.append("m1", "t", json!({ "n": 2 })).await?;
    for _ in 0..2 {
        assert_eq!(event(&mut io, "").await?, "t");
    }
    // It can be entered again, and the last one left too: the socket stays for a while.
    connect(&mut io, "/custom,", &auth).await?;
    io.send("41").await?;
    io.send("41/custom,").await?;
    connect(&mut io, "", &auth).await
}

#[tokio::test]
async fn who_comes_twice_without_an_answer_in_between_has_left_and_its_neighbours_stay() -> Result<()> {
    let (_stage, mut leader, edge) = served().await?;
    let mut io = Io::open(&edge).await?;
    let auth = json!({ "token": token(json!("m1")) });
    connect(&mut io, "", &auth).await?;
    let twice = format!("40/custom,{auth}");
    for _ in 0..5 {
        io.send(&twice).await?;
        io.send("42/custom,[\"early\"]").await?;
    }
    // Until the last of them is in, and hears what the other one does.
    for n in 0..100 {
        leader.append("m1", "t", json!({ "n": n })).await?;
        let mut heard = false;
        loop {
            let packet = io.packet().await?;
            ensure!(!packet.starts_with("41"), "put out: {packet}");
            heard |= packet.starts_with("42/custom,[\"t\"");
            if packet.starts_with("42[\"t\"") {
                break;
            }
        }
        io.send("420[\"ping\"]").await?;
        loop {
            match io.packet().await? {
                packet if packet == "430[]" => break,
                packet => heard |= packet.starts_with("42/custom,[\"t\""),
            }
        }
        if heard {
            return Ok(());
        }
    }
    anyhow::bail!("the custom namespace hears nothing")
}

#[tokio::test]
async fn what_was_meant_for_a_connection_that_a_refusal_replaced_disturbs_no_neighbour() -> Result<()> {
    let (_stage, _leader, edge) = served().await?;
    let mut io = Io::open(&edge).await?;
    let auth = json!({ "token": token(json!("m1")) });
    connect(&mut io, "", &auth).await?;
    for again in [json!({ "token": "nonsense" }), json!({})] {
        connect(&mut io, "/custom,", &auth).await?;
        io.send(&format!("40/custom,{again}")).await?;
        let answer = io.packet().await?;
        assert!(answer.starts_with("44/custom,"), "{answer}");
        // A client that has only heard the answer before this one emits what it had to say.
        io.send("42/custom,[\"late\"]").await?;
        io.send("427[\"ping\"]").await?;
        assert_eq!(io.packet().await?, "437[]");
    }
    Ok(())
}

#[tokio::test]
async fn what_clients_emit_and_acknowledge_is_taken_without_a_word_but_for_ping() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut io = Io::join(&edge, json!("m1")).await?;
    for packet in [
        r#"42/notifications,["message",1,"2",{"3":[true]}]"#,
        r#"42/notifications,456["message-with-ack",1,"2",{"3":[false]}]"#,
        r#"42/notifications,["refresh"]"#,
        r#"42/notifications,["refresh",{"page":2}]"#,
        "42/notifications,[7]",
        r#"43/notifications,12[{"ok":true}]"#,
    ] {
        io.send(packet).await?;
    }
    assert_eq!(io.so_far().await?, []);
    assert_eq!(io.offset.as_deref().map(|offset| offset.starts_with("m1=")), Some(true), "pong is no offset");
    io.send("42/notifications,18446744073709551615[\"ping\",{}]").await?;
    assert_eq!(io.packet().await?, "43/notifications,18446744073709551615[]");
    Ok(())
}

#[tokio::test]
async fn what_breaks_the_format_closes_the_socket() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    for packet in [
        "4abc",
        "42/notifications,{}",
        r#"42/notifications,abc["message-with-ack",1]"#,
        "42/notifications,[",
        "42/notifications,[{}]",
        "42/other,[\"x\"]",
        "47/notifications,",
    ] {
        let mut io = Io::join(&edge, json!("m1")).await?;
        io.send(packet).await?;
        let (code, _, packets) = io.closed().await?;
        assert_eq!(code, 4400, "{packet}");
        // A client that would only do the same again is not to come back by itself.
        assert_eq!(packets.last().map(String::as_str), Some("41/notifications,"), "{packets:?}");
    }
    Ok(())
}

#[tokio::test]
async fn binary_ends_the_namespace_and_binary_frames_end_the_socket() -> Result<()> {
    let (_stage, _leader, edge) = served().await?;
    let auth = json!({ "token": token(json!("m1")) });
    for packet in [
        r#"452-/custom,["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        r#"451-/custom,789["message",{"_placeholder":true,"num":0}]"#,
        r#"461-/custom,7[{"_placeholder":true,"num":0}]"#,
    ] {
        let mut io = Io::open(&edge).await?;
        connect(&mut io, "", &auth).await?;
        connect(&mut io, "/custom,", &auth).await?;
        io.send(packet).await?;
        let bye = io.packet().await?;
        assert!(bye.starts_with("42/custom,[\"rowcast.bye\",{\"code\":4400"), "{bye}");
        assert_eq!(io.packet().await?, "41/custom,");
        io.send("420[\"ping\"]").await?;
        assert_eq!(io.packet().await?, "430[]", "the other one goes on");
        io.client.send_raw(Message::binary(vec![1, 2, 3])).await?;
        assert_eq!(io.close_code().await?, 4400);
    }
    Ok(())
}
