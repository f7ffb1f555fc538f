//! Every limit at its edge, on a real edge with two threads: so many are served, one more is told what is wrong, and when
//! one leaves the next is served. Not here: whose address counts (`proxies.rs`).

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use rowcast_sandbox::{Launch, wait_until};
use serde_json::{Value, json};
use support::http::Stream;
use support::{Client, Edge, LIMIT, Stage, sign};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};

type Make = fn() -> Message;

fn token(user: &str, rooms: Value) -> String {
    sign(&json!({ "sub": user, "merchantId": rooms, "exp": 4_000_000_000_i64 }), support::SECRET)
}

/// A socket that was welcomed, or the close that it got in place of that.
async fn socket(edge: &Edge, token: &str) -> Result<Result<Client, (u16, String)>> {
    let mut client = edge.open(&[]).await?;
    client.send(json!({ "op": "auth", "token": token })).await?;
    match tokio::time::timeout(LIMIT, client.next()).await? {
        Ok(frame) if frame["op"] == "welcome" => Ok(Ok(client)),
        Ok(frame) => bail!("{frame}"),
        Err(error) => {
            let text = error.to_string();
            let code = text.split("Library(").nth(1).and_then(|rest| rest.split(')').next()?.parse().ok());
            Ok(Err((code.with_context(|| format!("no close code in {text}"))?, text)))
        }
    }
}

async fn welcomed(edge: &Edge, token: &str) -> Result<Client> {
    socket(edge, token).await?.map_err(|close| anyhow::anyhow!("{close:?}"))
}

/// A socket that is let in as soon as somebody who left has been noticed to be gone.
async fn let_in_at_last(edge: &Edge, token: &str) -> Result<Client> {
    for _ in 0..150 {
        if let Ok(Ok(client)) = socket(edge, token).await {
            return Ok(client);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("nobody is let in after somebody has left")
}

/// What a handshake is refused with: status, the limit, and after how many seconds to come again.
async fn refused_handshake(edge: &Edge) -> Result<(u16, String, u64)> {
    let Err(error) = edge.handshake("/ws", &[]).await else { bail!("it is served") };
    let Error::Http(response) = error.downcast::<Error>()? else { bail!("not refused by HTTP") };
    let retry = response.headers()["retry-after"].to_str()?.parse()?;
    let body: Value = serde_json::from_slice(response.body().as_deref().context("a body")?)?;
    ensure!(
        body["error"] == "limit" && body["message"].as_str().is_some_and(|text| text.len() > 20),
        "{body}"
    );
    Ok((response.status().as_u16(), body["limit"].as_str().context("which limit")?.to_owned(), retry))
}

/// The same of requests for a page and for a stream, which are refused alike.
async fn refused_requests(edge: &Edge, token: &str) -> Result<(u16, String)> {
    let mut refusals = Vec::new();
    for accept in ["application/json", "text/event-stream"] {
        let answer = edge.ask(token, &[], &[("accept", accept)]).await?.answer().await?;
        ensure!((1..=5).contains(&answer.header("retry-after").parse::<u64>()?), "{answer:?}");
        let body = answer.json()?;
        ensure!(body["error"] == "limit", "{body}");
        refusals.push((answer.status, body["limit"].as_str().context("which limit")?.to_owned()));
    }
    ensure!(refusals[0] == refusals[1], "{refusals:?}");
    Ok(refusals.remove(0))
}

async fn stream(edge: &Edge, token: &str) -> Result<Stream> {
    edge.stream(token, &[], "").await
}

async fn limited(edge: &Edge, limit: &str) -> Result<f64> {
    edge.metric("rowcast_edge_limited_total", &format!("limit=\"{limit}\"")).await
}

/// Connections that say something and then nothing.
async fn half_open(edge: &Edge, count: usize, said: &str) -> Result<Vec<TcpStream>> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = TcpStream::connect(&edge.listen).await?;
        connection.write_all(said.as_bytes()).await?;
        connections.push(connection);
    }
    Ok(connections)
}

/// Waits until the connection was ended from the other side.
async fn ended(connection: &mut TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    match tokio::time::timeout(LIMIT, connection.read_to_end(&mut rest)).await.context("it stays open")? {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn those_who_wait_longest_make_room_for_real_clients() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__MAX_PENDING", "20"), ("EDGE__WORKERS", "1")]).await?;
    let (mut real, _) = edge.join(json!("m1"), json!({})).await?;
    let mut oldest = half_open(&edge, 5, "GET /ws HTT").await?;
    let silent = half_open(&edge, 300, "").await?;
    for connection in &mut oldest {
        ended(connection).await?;
    }
    wait_until("those above the bound to be cut", LIMIT, || async {
        limited(&edge, "pending").await.is_ok_and(|cut| cut >= 285.0)
    })
    .await?;
    // Who has signed in is not among them, and who comes is served.
    real.so_far().await?;
    let (_late, _) = edge.join(json!("m1"), json!({})).await?;
    ensure!(edge.metric("rowcast_edge_pending_connections", "").await? <= 20.0);
    drop(silent);
    Ok(())
}

#[tokio::test]
async fn sockets_that_do_not_sign_in_are_pending_too() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let settings = [("EDGE__MAX_PENDING", "10"), ("EDGE__WORKERS", "1"), ("EDGE__SIGN_IN_TIMEOUT", "600s")];
    let edge = stage.edge(&settings).await?;
    let mut strangers = Vec::new();
    for _ in 0..30 {
        strangers.push(edge.open(&[]).await?);
    }
    for stranger in &mut strangers[..15] {
        let end = tokio::time::timeout(LIMIT, stranger.socket.next()).await.context("one is not cut")?;
        ensure!(matches!(end, None | Some(Err(_))), "not without a word: {end:?}");
    }
    let (_client, _) = edge.join(json!("m1"), json!({})).await?;
    Ok(())
}

#[tokio::test]
async fn a_connection_carries_nobody_before_and_after_its_requests() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let pending = async |expected: f64| {
        wait_until("so many that carry nobody", LIMIT, || async {
            edge.metric("rowcast_edge_pending_connections", "").await.is_ok_and(|pending| pending == expected)
        })
        .await
    };
    pending(0.0).await?;
    let token = token("u", json!("m1"));
    let (socket, stream) = (welcomed(&edge, &token).await?, stream(&edge, &token).await?);
    pending(0.0).await?;
    // A page that waits is somebody, a connection that is kept alive behind it nobody.
    let mut exchange = edge.ask(&token, &[("wait", "1"), ("types", "none")], &[]).await?;
    pending(0.0).await?;
    ensure!(exchange.head().await?.status == 200);
    pending(1.0).await?;
    let _stranger = edge.open(&[]).await?;
    pending(2.0).await?;
    drop((socket, stream));
    drop(exchange);
    pending(1.0).await
}

#[tokio::test]
async fn an_edge_raises_its_limit_of_open_files() -> Result<()> {
    let stage = Stage::new().await?;
    let ports = stage.folder.path().join("few-files.json");
    let edge = Launch::new("edge", "/bin/sh", stage.folder.path().join("few-files.log"))
        .args(["-c", "ulimit -Sn 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_rowcast-edge"), "--ports-file"])
        .arg(&ports)
        .env("ROWCAST_REDIS__URL", stage.redis.url())
        .env("ROWCAST_AUTH__HS256_SECRET", support::SECRET)
        .env("ROWCAST_EDGE__LISTEN", "127.0.0.1:0")
        .env("ROWCAST_ADMIN__LISTEN", "127.0.0.1:0")
        .env("ROWCAST_EDGE__SIGN_IN_TIMEOUT", "600s")
        .spawn()?;
    let told = edge.wait_ready(LIMIT, || async { anyhow::Ok(std::fs::read(&ports)?) }).await?;
    let bound: Value = serde_json::from_slice(&told)?;
    let listen = bound["listen"].as_str().context("an address")?.to_owned();
    let edge =
        Edge { process: edge, listen, admin: bound["admin"].as_str().context("an address")?.to_owned() };
    // More than a process with 64 files could answer.
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(tokio::time::timeout(LIMIT, edge.open(&[])).await??);
    }
    Ok(())
}

#[tokio::test]
async fn an_edge_has_so_many_clients_of_any_kind() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__MAX_CONNECTIONS", "2")]).await?;
    let token = token("u", json!("m1"));
    let first = welcomed(&edge, &token).await?;
    let _stream = stream(&edge, &token).await?;
    let (status, limit, retry) = refused_handshake(&edge).await?;
    ensure!((status, limit.as_str()) == (503, "connections") && (1..=5).contains(&retry));
    ensure!(refused_requests(&edge, &token).await? == (503, "connections".to_owned()));
    ensure!(limited(&edge, "connections").await? == 3.0);
    drop(first);
    let_in_at_last(&edge, &token).await?;
    Ok(())
}

#[tokio::test]
async fn a_room_has_so_many_clients_of_any_kind() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__MAX_PER_ROOM", "2")]).await?;
    let (one, both) = (token("u", json!("m1")), token("u", json!(["m1", "m2"])));
    let mut first = welcomed(&edge, &one).await?;
    let _stream = stream(&edge, &one).await?;
    for token in [&one, &both] {
        let Err((code, text)) = socket(&edge, token).await? else { bail!("two are the limit") };
        ensure!(code == 4429 && text.contains("room: too many clients"), "{code} {text}");
        ensure!(refused_requests(&edge, token).await? == (429, "room".to_owned()));
    }
    ensure!(limited(&edge, "room").await? == 6.0);
    // Those refused hold nothing of the other room, and nobody who is in was hurt.
    let _others =
        (welcomed(&edge, &token("u", json!("m2"))).await?, stream(&edge, &token("u", json!("m2"))).await?);
    first.so_far().await?;
    drop(first);
    let_in_at_last(&edge, &one).await?;
    Ok(())
}

#[tokio::test]
async fn a_refresh_into_a_full_room_is_refused_and_gives_back_what_was_held() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__MAX_PER_ROOM", "1")]).await?;
    let _full = welcomed(&edge, &token("u", json!("m2"))).await?;
    let mut mine = welcomed(&edge, &token("u", json!("m1"))).await?;
    mine.send(json!({ "op": "refresh", "token": token("u", json!(["m3", "m4"])) })).await?;
    mine.next_of("refreshed").await?;
    let _left = let_in_at_last(&edge, &token("u", json!("m1"))).await?;
    mine.send(json!({ "op": "refresh", "token": token("u", json!(["m5", "m2"])) })).await?;
    let (code, reason) = mine.closed().await?;
    ensure!(code == 4429 && reason.starts_with("room: "), "{code} {reason}");
    let_in_at_last(&edge, &token("u", json!(["m3", "m4", "m5"]))).await?;
    Ok(())
}

#[tokio::test]
async fn a_user_has_so_many_clients_and_a_token_that_lies_takes_none() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__MAX_PER_USER", "2")]).await?;
    let forged = sign(
        &json!({ "sub": "u", "merchantId": "m1", "exp": 4_000_000_000_i64 }),
        "some other secret, also long",
    );
    for _ in 0..3 {
        let Err((code, _)) = socket(&edge, &forged).await? else { bail!("it is forged") };
        ensure!(code == 4401, "{code}");
    }
    let mine = token("u", json!("m1"));
    let first = welcomed(&edge, &mine).await?;
    let _stream = stream(&edge, &token("u", json!("m2"))).await?;
    let Err((code, text)) = socket(&edge, &mine).await? else { bail!("two are the limit") };
    ensure!(code == 4429 && text.contains("user: too many clients"), "{code} {text}");
    ensure!(refused_requests(&edge, &mine).await? == (429, "user".to_owned()));
    welcomed(&edge, &token("v", json!("m1"))).await?;
    let nameless = sign(&json!({ "merchantId": "m1", "exp": 4_000_000_000_i64 }), support::SECRET);
    let _nameless = [
        welcomed(&edge, &nameless).await?,
        welcomed(&edge, &nameless).await?,
        welcomed(&edge, &nameless).await?,
    ];
    drop(first);
    let_in_at_last(&edge, &mine).await?;
    Ok(())
}

#[tokio::test]
async fn an_address_has_so_many_clients() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__MAX_PER_ADDRESS", "2")]).await?;
    let token = token("u", json!("m1"));
    let first = welcomed(&edge, &token).await?;
    let _stream = stream(&edge, &token).await?;
    let (status, limit, _) = refused_handshake(&edge).await?;
    ensure!((status, limit.as_str()) == (429, "address"));
    ensure!(refused_requests(&edge, &token).await? == (429, "address".to_owned()));
    ensure!(limited(&edge, "address").await? == 3.0);
    drop(first);
    let_in_at_last(&edge, &token).await?;
    Ok(())
}

#[tokio::test]
async fn so_many_come_in_a_second_and_later_others_do() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    for (setting, limit, status) in [
        ("EDGE__HANDSHAKE_RATE", "handshakes", 503),
        ("EDGE__HANDSHAKE_RATE_PER_ADDRESS", "address_handshakes", 429),
    ] {
        let edge = stage.edge(&[(setting, "1")]).await?;
        let token = token("u", json!("m1"));
        // One a second: on the slowest machine some of a hundred at once are too many.
        let attempts = (0..100).map(|_| edge.handshake("/ws", &[]));
        let results = futures_util::future::join_all(attempts).await;
        let refused: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        ensure!(refused.len() > 20, "{} are refused", refused.len());
        for error in &refused {
            let Some(Error::Http(response)) = error.downcast_ref::<Error>() else { bail!("{error}") };
            ensure!(
                response.status() == status && response.headers().contains_key("retry-after"),
                "{response:?}"
            );
        }
        wait_until("a request to be refused too", LIMIT, || async {
            refused_requests(&edge, &token).await.is_ok_and(|refusal| refusal == (status, limit.to_owned()))
        })
        .await?;
        ensure!(limited(&edge, limit).await? >= refused.len() as f64);
        let_in_at_last(&edge, &token).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_socket_that_sends_too_many_frames_of_any_kind_is_closed() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__MESSAGE_RATE", "1"), ("EDGE__MESSAGE_BURST", "20")]).await?;
    let kinds: [(&str, Make); 4] = [
        ("messages", || Message::text(r#"{"op":"ping"}"#)),
        ("pings", || Message::Ping(vec![0; 100].into())),
        ("pongs", || Message::Pong(Vec::new().into())),
        ("fragments", || Message::Frame(Frame::message("x", OpCode::Data(Data::Continue), false))),
    ];
    for (index, (name, frame)) in kinds.iter().enumerate() {
        let mut client = welcomed(&edge, &token("u", json!("m1"))).await?;
        if *name == "fragments" {
            client.send_raw(Message::Frame(Frame::message("{", OpCode::Data(Data::Text), false))).await?;
        }
        for _ in 0..400 {
            if client.send_raw(frame()).await.is_err() {
                break;
            }
        }
        let (code, reason) = client.closed().await.with_context(|| name.to_string())?;
        ensure!(code == 4429 && reason.starts_with("messages: "), "{name}: {code} {reason}");
        ensure!(limited(&edge, "messages").await? == (index + 1) as f64, "{name}");
    }
    let mut calm = welcomed(&edge, &token("u", json!("m1"))).await?;
    for _ in 0..5 {
        calm.so_far().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_socket_that_sends_too_many_bytes_is_closed() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let settings =
        [("EDGE__MAX_MESSAGE", "4KiB"), ("EDGE__INBOUND_RATE", "1KiB"), ("EDGE__INBOUND_BURST", "8KiB")];
    let edge = stage.edge(&settings).await?;
    let mut client = welcomed(&edge, &token("u", json!("m1"))).await?;
    let padded = format!(r#"{{"op":"ping","padding":"{}"}}"#, "x".repeat(3_900));
    client.send_raw(Message::text(padded.clone())).await?;
    client.next_of("pong").await?;
    for _ in 0..20 {
        if client.send_raw(Message::text(padded.clone())).await.is_err() {
            break;
        }
    }
    let (code, reason) = client.closed().await?;
    ensure!(code == 4429 && reason.starts_with("bytes: "), "{code} {reason}");
    ensure!(limited(&edge, "bytes").await? == 1.0);
    Ok(())
}

/// Ends a client's connection without a word of goodbye.
fn reset(client: Client) -> Result<()> {
    let MaybeTlsStream::Plain(tcp) = client.socket.get_ref() else { bail!("not TCP alone") };
    tcp.set_zero_linger()?;
    Ok(())
}

#[tokio::test]
async fn in_a_storm_just_as_many_are_let_in_as_may_be_and_whoever_ends_makes_room() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let settings =
        [("EDGE__MAX_PER_ROOM", "10"), ("EDGE__MAX_PER_USER", "10"), ("EDGE__MAX_PER_ADDRESS", "200")];
    let edge = stage.edge(&settings).await?;
    let token = token("u", json!("m1"));
    for round in 0..3 {
        let attempts = (0..60).map(|_| socket(&edge, &token));
        let mut clients = Vec::new();
        for result in futures_util::future::join_all(attempts).await {
            clients.extend(result?.ok());
        }
        ensure!(clients.len() == 10, "{} are in, in round {round}", clients.len());
        for client in clients {
            reset(client)?;
        }
        wait_until("everybody to be gone", LIMIT, || async {
            edge.metric("rowcast_edge_connections", "").await.is_ok_and(|open| open == 0.0)
        })
        .await?;
    }
    Ok(())
}
