//! The client against a small scripted server in this file. Against a real edge it is tested with the services.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::CloseFrame,
    },
};

use super::*;

/// A server that does what a test tells it, one connection after the other. It is no edge.
struct FakeEdge {
    listener: TcpListener,
}

/// One accepted connection and its first frame.
struct Peer {
    socket: WebSocketStream<TcpStream>,
    hello: Value,
}

impl FakeEdge {
    async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    fn client(&self, token: TokenSource) -> Client {
        let mut options = Options::new(self.url(), token);
        options.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(5));
        Client::new(options)
    }

    async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        #[allow(clippy::result_large_err)] // The callback's type is the library's.
        let choose = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            assert_eq!(request.uri().path(), "/ws");
            let asked = request.headers()["sec-websocket-protocol"].clone();
            response.headers_mut().insert("sec-websocket-protocol", asked);
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(stream, choose).await.unwrap();
        let Message::Text(hello) = socket.next().await.unwrap().unwrap() else { panic!("not a text") };
        Peer { socket, hello: serde_json::from_str(&hello).unwrap() }
    }

    /// Accepts and signs in, each room at the offset given.
    async fn welcome(&self, rooms: &[(&str, u64, bool)]) -> Peer {
        let mut peer = self.accept().await;
        let rooms: serde_json::Map<String, Value> = rooms
            .iter()
            .map(|(room, offset, resumed)| {
                ((*room).to_owned(), json!({ "cursor": cursor(*offset), "resumed": resumed }))
            })
            .collect();
        peer.send(json!({
            "op": "welcome", "session": "s", "rooms": rooms, "heartbeat": 25,
            "expires_at": "2030-01-01T00:00:00.000000Z", "live": true,
        }))
        .await;
        peer
    }

    /// Answers one connection with plain HTTP.
    async fn answer(&self, head: &str) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        stream.write_all(format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }
}

impl Peer {
    async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn event(&mut self, room: &str, offset: u64) {
        self.send(json!({
            "op": "event", "room": room, "cursor": cursor(offset), "id": format!("{offset}-0"),
            "type": "booking.created", "at": "2030-01-01T00:00:00.000000Z", "data": { "n": offset },
        }))
        .await;
    }

    async fn close(mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "on purpose".into() };
        self.socket.close(Some(frame)).await.unwrap();
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

fn cursor(offset: u64) -> String {
    format!("1.00000000000000ab:{offset}")
}

fn fixed() -> TokenSource {
    TokenSource::Fixed("a.b.c".to_owned())
}

fn renewable() -> TokenSource {
    let count = std::sync::atomic::AtomicU32::new(0);
    TokenSource::Renewable(Arc::new(move || {
        Ok(format!("token-{}", count.fetch_add(1, std::sync::atomic::Ordering::Relaxed)))
    }))
}

/// Drives the client while the script runs, until it has returned `count` events or given up.
async fn drive(client: &mut Client, count: usize) -> Result<Vec<Event>, ClientError> {
    let mut events = Vec::new();
    while events.len() < count {
        events.push(client.next().await?);
    }
    Ok(events)
}

fn offsets(events: &[Event]) -> Vec<(u64, Step)> {
    let offset = |delivery: &Delivery| delivery.cursor.rsplit_once(':').unwrap().1.parse().unwrap();
    events
        .iter()
        .filter_map(|event| match event {
            Event::Delivery(delivery, step) => Some((offset(delivery), *step)),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn the_first_frame_signs_in_and_a_lost_connection_resumes_from_the_last_event() {
    let edge = FakeEdge::start().await;
    let mut client = edge.client(fixed());
    let script = async {
        let mut first = edge.welcome(&[("m1", 4, false)]).await;
        assert_eq!((&first.hello["op"], &first.hello["token"]), (&json!("auth"), &json!("a.b.c")));
        assert_eq!(first.hello["resume"], json!({}));
        first.event("m1", 5).await;
        first.event("m1", 6).await;
        drop(first);
        let mut second = edge.welcome(&[("m1", 6, true)]).await;
        assert_eq!(second.hello["resume"], json!({ "m1": cursor(6) }));
        for offset in [6, 7, 9] {
            second.event("m1", offset).await;
        }
        second
    };
    // welcome, 5, 6, disconnected, welcome, 7, 9: the repeated 6 is dropped.
    let (events, _open) = tokio::join!(drive(&mut client, 7), script);
    assert_eq!(
        offsets(&events.unwrap()),
        [(5, Step::Next), (6, Step::Next), (7, Step::Next), (9, Step::Gap)]
    );
    let counted = Counters { events: 4, repeats: 1, gaps: 1, resyncs: 0, reconnects: 1 };
    assert_eq!(client.counters(), counted);
}

#[tokio::test]
async fn a_refused_resume_keeps_the_old_cursor_until_its_resync_has_come() {
    let edge = FakeEdge::start().await;
    let mut client = edge.client(fixed());
    let script = async {
        drop(edge.welcome(&[("m1", 4, false)]).await);
        // The history is gone, and so is the connection before it could say so.
        drop(edge.welcome(&[("m1", 90, false)]).await);
        let mut third = edge.welcome(&[("m1", 95, false)]).await;
        assert_eq!(third.hello["resume"], json!({ "m1": cursor(4) }));
        third.send(json!({ "op": "resync", "room": "m1", "cursor": cursor(95), "reason": "trimmed" })).await;
        drop(third);
        let fourth = edge.welcome(&[("m1", 95, true)]).await;
        assert_eq!(fourth.hello["resume"], json!({ "m1": cursor(95) }));
    };
    let (events, ()) = tokio::join!(drive(&mut client, 8), script);
    assert!(matches!(&events.unwrap()[5], Event::Resync(resync) if resync.reason == "trimmed"));
    assert_eq!(client.counters().resyncs, 1);
}

#[tokio::test]
async fn a_bye_sets_the_delay_before_the_next_attempt() {
    let edge = FakeEdge::start().await;
    let mut client = edge.client(fixed());
    let script = async {
        let mut peer = edge.welcome(&[("m1", 0, false)]).await;
        peer.send(json!({ "op": "bye", "code": 1012, "reconnect_in_ms": 37 })).await;
        peer.close(1012).await;
        edge.welcome(&[("m1", 0, true)]).await
    };
    let (events, _open) = tokio::join!(drive(&mut client, 4), script);
    let events = events.unwrap();
    assert!(matches!(events[1], Event::Bye { code: 1012 }));
    assert!(
        matches!(&events[2], Event::Disconnected { retry_in, code: Some(1012), .. } if retry_in.as_millis() == 37),
        "{events:?}"
    );
}

#[tokio::test]
async fn switched_off_sockets_are_asked_for_again_with_the_clients_own_patience() {
    let edge = FakeEdge::start().await;
    let mut client = edge.client(fixed());
    let script = async {
        let mut peer = edge.welcome(&[("m1", 4, false)]).await;
        for _ in 0..3 {
            peer.send(json!({ "op": "mode", "transport": "polling" })).await;
            // An hour: whoever could poll would come back then, by another way.
            peer.send(json!({ "op": "bye", "code": 4410, "reconnect_in_ms": 3_600_000 })).await;
            peer.close(4410).await;
            peer = edge.accept().await;
        }
        drop(peer);
        let back = edge.welcome(&[("m1", 4, true)]).await;
        assert_eq!(back.hello["resume"], json!({ "m1": cursor(4) }));
    };
    let (events, ()) = tokio::join!(drive(&mut client, 9), script);
    let events = events.unwrap();
    let off = |event: &&Event| matches!(event, Event::Disconnected { code: Some(4410), .. });
    assert_eq!(events.iter().filter(off).count(), 3, "{events:?}");
    assert!(matches!(events.last(), Some(Event::Welcome(_))), "{events:?}");
}

#[tokio::test]
async fn a_refused_token_ends_a_client_that_has_no_other() {
    let edge = FakeEdge::start().await;
    let mut client = edge.client(fixed());
    let (error, ()) = tokio::join!(drive(&mut client, 1), async { edge.accept().await.close(4401).await });
    let error = error.unwrap_err();
    assert!(matches!(&error, ClientError::Refused { code: 4401, .. }), "{error}");
    assert!(error.to_string().contains("wrong or expired (4401: on purpose)"), "{error}");
    assert_eq!(client.next().await.unwrap_err(), error);
}

#[tokio::test]
async fn a_renewable_token_is_asked_anew_and_given_up_after_three_refusals() {
    let edge = FakeEdge::start().await;
    let mut client = edge.client(renewable());
    let script = async {
        let mut tokens = Vec::new();
        for _ in 0..MAX_TOKEN_REFUSALS {
            let peer = edge.accept().await;
            tokens.push(peer.hello["token"].clone());
            peer.close(4401).await;
        }
        tokens
    };
    let (outcome, tokens) = tokio::join!(drive(&mut client, 10), script);
    assert!(matches!(outcome, Err(ClientError::Refused { code: 4401, .. })));
    assert_eq!(tokens, ["token-0", "token-1", "token-2"]);
}

#[tokio::test]
async fn an_expiring_token_is_refreshed_in_place() {
    let edge = FakeEdge::start().await;
    let mut client = edge.client(renewable());
    let script = async {
        let mut peer = edge.welcome(&[("m1", 0, false)]).await;
        peer.send(json!({ "op": "token_expiring", "in": 60 })).await;
        let Message::Text(refresh) = peer.socket.next().await.unwrap().unwrap() else { panic!("not a text") };
        let frame = json!({ "op": "refreshed", "expires_at": "2031-01-01T00:00:00.000000Z", "rooms": {} });
        peer.send(frame).await;
        serde_json::from_str::<Value>(&refresh).unwrap()
    };
    let (events, refresh) = tokio::join!(drive(&mut client, 3), script);
    assert_eq!(refresh, json!({ "op": "refresh", "token": "token-1" }));
    let events = events.unwrap();
    assert!(matches!(events[1], Event::TokenExpiring(60)));
    assert!(matches!(&events[2], Event::Refreshed { expires_at } if expires_at.starts_with("2031")));
}

#[tokio::test]
async fn close_codes_decide_whether_a_client_comes_back() {
    for (code, comes_back) in
        [(1012, true), (4008, true), (4429, true), (1011, true), (4403, false), (4410, true)]
    {
        let edge = FakeEdge::start().await;
        let mut client = edge.client(fixed());
        let script = async { edge.welcome(&[("m1", 0, false)]).await.close(code).await };
        let (outcome, ()) = tokio::join!(drive(&mut client, 2), script);
        assert_eq!(outcome.is_ok(), comes_back, "{code}: {outcome:?}");
    }
}

#[tokio::test]
async fn an_http_answer_means_later_or_never() {
    let edge = FakeEdge::start().await;
    let mut client = edge.client(fixed());
    let script = edge.answer("503 Service Unavailable\r\nRetry-After: 2");
    let (events, ()) = tokio::join!(drive(&mut client, 1), script);
    let events = events.unwrap();
    assert!(
        matches!(&events[0], Event::Disconnected { retry_in, .. } if *retry_in == Duration::from_secs(2)),
        "{events:?}"
    );

    let mut client = edge.client(fixed());
    let (outcome, ()) = tokio::join!(drive(&mut client, 1), edge.answer("404 Not Found"));
    assert!(
        matches!(&outcome, Err(ClientError::Refused { code: 404, reason }) if reason.contains("/ws")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again() {
    let edge = FakeEdge::start().await;
    let mut client = edge.client(fixed());
    drop(edge);
    for event in drive(&mut client, 3).await.unwrap() {
        assert!(
            matches!(&event, Event::Disconnected { reason, .. } if reason.contains("cannot connect")),
            "{event:?}"
        );
    }
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let edge = FakeEdge::start().await;
    let mut client = edge.client(fixed());
    let (welcome, _open) = tokio::join!(drive(&mut client, 1), edge.welcome(&[("m1", 0, false)]));
    assert_eq!(welcome.unwrap().len(), 1);
    // Nothing will come any more, so time can leap to whatever the client waits for.
    tokio::time::pause();
    let before = Instant::now();
    let event = client.next().await.unwrap();
    assert!(
        matches!(&event, Event::Disconnected { reason, .. } if reason.contains("no sign of life")),
        "{event:?}"
    );
    // Twice the heartbeat of 25 s and a little more.
    let waited = before.elapsed();
    assert!(waited > Duration::from_secs(50) && waited < Duration::from_secs(60), "{waited:?}");
}
