//! An echo server for Autobahn's suite (scripts/autobahn.py): the decoder and the encoders of the edge's sockets, between
//! bytes and nothing. Sessions, tokens and queues are not here; what closes a socket closes it as it does there.

use std::time::Duration;

use actix_http::ws;
use anyhow::{Context, Result};
use rowcast_edge::wire::{self, Decoder, Incoming};
use rowcast_protocol::CloseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The suite's largest messages have 16 MiB.
const MAX_MESSAGE: usize = 17 * 1024 * 1024;

/// As long as a session waits for the other side's end.
const FAREWELL: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        // The suite opens one connection a case, and one that breaks is what it is there for.
        drop(tokio::spawn(async move {
            if let Err(error) = serve(stream).await {
                eprintln!("a connection broke: {error:#}");
            }
        }));
    }
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut decoder = Decoder::new(MAX_MESSAGE);
    decoder.feed(&shake_hands(&mut stream).await?);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let (answers, ends) = answers(&mut decoder);
        stream.write_all(&answers).await?;
        if ends {
            stream.shutdown().await?;
            // Closed with bytes unread, the kernel would throw away what was written.
            let rest = async { while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
            _ = tokio::time::timeout(FAREWELL, rest).await;
            return Ok(());
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            read => decoder.feed(&buffer[..read]),
        }
    }
}

/// Whatever is to be said to what was received, and whether that was all.
fn answers(decoder: &mut Decoder) -> (Vec<u8>, bool) {
    let mut answers = Vec::new();
    loop {
        match decoder.next_message() {
            Ok(None) => return (answers, false),
            Ok(Some(Incoming::Text(text))) => answers.extend(wire::text_frame(text.as_bytes())),
            Ok(Some(Incoming::Ping(payload))) => answers.extend(wire::pong_frame(&payload)),
            Ok(Some(Incoming::Pong)) => {}
            Ok(Some(Incoming::Close)) => {
                answers.extend(wire::close_frame(CloseCode::Normal, ""));
                return (answers, true);
            }
            Err(code) => {
                answers.extend(wire::close_frame(code, "not what this server takes"));
                return (answers, true);
            }
        }
    }
}

/// Answers the handshake; what came behind it is returned.
async fn shake_hands(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut received = Vec::new();
    let end = loop {
        if let Some(at) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        anyhow::ensure!(received.len() < 8_192 && stream.read_buf(&mut received).await? > 0, "no handshake");
    };
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let key = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    });
    let accept = ws::hash_key(key.context("no key")?.as_bytes());
    let accept = String::from_utf8_lossy(&accept);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(received.split_off(end))
}
