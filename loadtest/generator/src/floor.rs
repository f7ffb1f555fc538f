//! The floor: what LISTEN and a loop over sockets take, with nothing else. No tokens, no queue, no Redis, no cursor
//! that means anything, and a client that is slow or was away has lost what it missed.
//!
//! It is the measure for Rowcast's latency: the same writer, the same statement but for the trigger, the same clients.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use futures_util::SinkExt;
use rowcast_protocol::SUBPROTOCOL;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_postgres::{AsyncMessage, NoTls};
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::event::Row;
use crate::plan::Plan;
use crate::process::Watched;

/// A floor server as a process of its own, so that its CPU can be measured. It ends with this value.
pub struct Floor {
    child: Child,
    /// Its address, as an edge's.
    pub url: String,
}

impl Floor {
    /// Starts `program floor-server` for a plan's channel; `program` is this crate's binary.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(program: &Path, plan: &Plan) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["floor-server", "--channel", &plan.channel()])
            .env("ROWCAST_DATABASE__URL", &plan.database_url)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        if line.trim().is_empty() {
            bail!("the floor server ended at once ({})", child.wait().await?);
        }
        Ok(Self { child, url: format!("http://{}", line.trim()) })
    }

    /// Its process.
    pub fn process(&self) -> Option<Watched> {
        self.child.id().map(|pid| Watched::new("floor", pid))
    }
}

type Rooms = Rc<RefCell<HashMap<String, Vec<Rc<TcpStream>>>>>;

/// Serves a channel until PostgreSQL goes away. Runs inside a `LocalSet`.
///
/// # Errors
/// When it can not listen, or PostgreSQL is gone.
pub async fn serve(listener: TcpListener, database_url: &str, channel: &str) -> Result<()> {
    let rooms = Rooms::default();
    let (client, mut connection) = tokio_postgres::connect(database_url, NoTls).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn_local(accept(listener, rooms.clone()));
    let listen = format!("LISTEN {channel}");
    // The answer comes through the same connection that is polled below.
    tasks.spawn_local(async move {
        client.batch_execute(&listen).await?;
        // The connection ends with its client.
        std::future::pending().await
    });
    loop {
        tokio::select! {
            message = poll_fn(|context| connection.poll_message(context)) => match message {
                Some(Ok(AsyncMessage::Notification(notification))) => deliver(&rooms, notification.payload())?,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("PostgreSQL is gone"),
                None => bail!("PostgreSQL is gone"),
            },
            Some(ended) = tasks.join_next() => ended.context("a task of the floor panicked")??,
        }
    }
}

/// What the writer notifies.
#[derive(Deserialize)]
struct Notified<'a> {
    #[serde(borrow)]
    at: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

fn deliver(rooms: &Rooms, payload: &str) -> Result<()> {
    let Notified { at, data } = serde_json::from_str(payload)?;
    let row: Row<'_> = serde_json::from_str(data.get())?;
    let (room, n) = (&row.room, row.n);
    let text = format!(
        r#"{{"op":"event","room":"{room}","cursor":"1.0000000000000001:{n}","id":"{n}-0","type":"load.created","at":"{at}","data":{data}}}"#
    );
    let frame = frame(text.as_bytes());
    if let Some(sockets) = rooms.borrow_mut().get_mut(&*row.room) {
        // One that does not take a whole frame at once is left behind.
        sockets.retain(|socket| socket.try_write(&frame).is_ok_and(|written| written == frame.len()));
    }
    Ok(())
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        length @ ..126 => frame.push(u8::try_from(length).expect("below 126")),
        length => {
            frame.push(126);
            let length = u16::try_from(length).expect("a notification has less than 8,000 bytes");
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

async fn accept(listener: TcpListener, rooms: Rooms) -> Result<()> {
    let mut sockets = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                sockets.spawn_local(hold(accepted?.0, rooms.clone()));
            }
            // How a client left does not matter, a panic does.
            Some(ended) = sockets.join_next() => drop(ended.context("a socket of the floor panicked")?),
        }
    }
}

/// A client in the room that its path names.
async fn hold(stream: TcpStream, rooms: Rooms) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut room = String::new();
    #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
    let answer = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        request.uri().path().trim_start_matches('/').clone_into(&mut room);
        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, answer).await?;
    let welcome = format!(
        r#"{{"op":"welcome","session":"","rooms":{{"{room}":{{"cursor":"1.0000000000000001:0","resumed":false}}}},"heartbeat":3600}}"#
    );
    socket.send(Message::text(welcome)).await?;
    let stream = Rc::new(socket.into_inner());
    rooms.borrow_mut().entry(room.clone()).or_default().push(stream.clone());
    let mut ignored = [0; 1024];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut ignored) {
            Ok(1..) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => break,
        }
    }
    if let Some(sockets) = rooms.borrow_mut().get_mut(&room) {
        sockets.retain(|other| !Rc::ptr_eq(other, &stream));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_length_that_they_say() {
        assert_eq!(frame(b"abc")[..2], [0x81, 3]);
        assert_eq!(frame(&[b'x'; 126])[..4], [0x81, 126, 0, 126]);
        assert_eq!(frame(&[b'x'; 126]).len(), 130);
    }
}
