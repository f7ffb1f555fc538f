//! A hole in history is not silent: from a statement whose trigger failed to the client's light, and to its resync.

mod support;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use jsonwebtoken::{EncodingKey, Header};
use rowcast_sandbox::Connection;
use serde_json::{Value, json};
use support::{SECRET, System};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const PATIENCE: Duration = Duration::from_secs(30);

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn sign_in(edge: &str, room: &str) -> Result<Self> {
        let mut request = format!("ws://{edge}/ws").into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("rowcast.v1"));
        let (mut socket, _) = connect_async(request).await?;
        let claims = json!({ "merchantId": room, "sub": "test", "exp": 4_000_000_000_u64 });
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&Header::default(), &claims, &key)?;
        socket.send(Message::text(json!({ "op": "auth", "token": token }).to_string())).await?;
        Ok(Self(socket))
    }

    async fn frame(&mut self) -> Result<Value> {
        loop {
            match timeout(PATIENCE, self.0.next()).await.context("no frame")?.context("closed")?? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(frame) => bail!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The next frame for which this holds; what comes before is passed over.
    async fn until(&mut self, condition: impl Fn(&Value) -> bool) -> Result<Value> {
        loop {
            let frame = self.frame().await?;
            if condition(&frame) {
                return Ok(frame);
            }
        }
    }
}

fn light(frame: &Value, live: bool) -> bool {
    frame["op"] == "status" && frame["live"] == live
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_column_turns_the_light_within_five_seconds_and_ends_in_a_resync() -> Result<()> {
    let system = System::start(1, 1).await?;
    let application = Connection::open(&system.database_url).await?;
    application
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY, m text, v int); SELECT rowcast.watch('t', 'm')")
        .await?;
    let mut client = Client::sign_in(&system.edge_addresses[0], "a").await?;
    let welcome = client.until(|frame| frame["op"] == "welcome").await?;
    if welcome["live"] != true {
        client.until(|frame| light(frame, true)).await?;
    }
    application.batch_execute("INSERT INTO t VALUES (1, 'a', 1)").await?;
    let event = client.until(|frame| frame["op"] == "event").await?;
    assert_eq!(event["data"]["v"], 1);

    // Nobody told Rowcast; the application's statement goes through all the same.
    application.batch_execute("ALTER TABLE t RENAME v TO value; UPDATE t SET value = 2").await?;
    let lost = Instant::now();
    let status = client.until(|frame| light(frame, false)).await?;
    assert!(lost.elapsed() < Duration::from_secs(5), "{:?}", lost.elapsed());
    assert_eq!(status["reason"], "impaired");

    application.batch_execute("SELECT rowcast.watch('t', 'm'); UPDATE t SET value = 3").await?;
    let event = client.until(|frame| frame["op"] == "event").await?;
    assert_eq!(event["data"], json!({ "id": 1, "m": "a", "value": 3 }), "what works goes on");
    let (mut resync, mut live) = (None, false);
    while resync.is_none() || !live {
        let frame = client.frame().await?;
        live |= light(&frame, true);
        if frame["op"] == "resync" {
            resync = Some(frame);
        }
    }
    let cursor = resync.and_then(|frame| frame["cursor"].as_str().map(str::to_owned)).unwrap_or_default();
    assert!(cursor.starts_with("2."), "of a new generation: {cursor}");
    application.batch_execute("UPDATE t SET value = 4").await?;
    let event = client.until(|frame| frame["op"] == "event").await?;
    assert_eq!(event["data"]["value"], 4);
    Ok(())
}
