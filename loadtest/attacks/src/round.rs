//! One round of an attack: one connection, and how it ended.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};

use crate::wire::{self, Heard};
use crate::{Attack, Pace, Target, Then, Way, socketio};

/// A request has been answered when nothing more came for so long.
const QUIET: Duration = Duration::from_secs(1);

/// What a server may say after this side could not send any more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Of more answers than these it matters only which there were.
const FEW: usize = 4;

/// Bytes that a reader who does not read takes all the same, or less.
const DEAF_BUFFER: u32 = 4 * 1024;

/// The most that is written at once.
const CHUNK: usize = 16 * 1024;

/// How a round ended, as [`crate::Counts::outcomes`] says.
pub(crate) async fn run(
    attack: &Attack,
    target: &Target,
    pace: &Pace,
    number: usize,
    bytes: &mut u64,
) -> String {
    let Ok(stream) = connect(attack, target).await else { return "unreachable".to_owned() };
    if matches!(attack.then, Then::Leave) {
        // Else each leaves a port behind that is not free for a minute.
        let _ = stream.set_zero_linger();
    }
    let (reader, writer) = stream.into_split();
    let mut round = Round { reader, heard: Heard::default() };
    let mut sending = Sending { writer, pace, bytes };
    if let Some((path, token, hello, wanted)) = entrance(attack.way, target) {
        sending.send(&[wire::handshake(path, token), hello].concat()).await;
        if let Some(outcome) = round.shake_hands(wanted).await {
            return outcome;
        }
    }
    let sent = sending.send(&(attack.opening)(target, number)).await;
    match attack.then {
        Then::Leave => "left".to_owned(),
        Then::Deaf => std::future::pending().await,
        Then::SendDeaf(more) => {
            sending.send_over_and_over(&more(target), sent).await;
            "ended".to_owned()
        }
        Then::Listen => round.hear(None).await,
        Then::Until(op) => round.hear(Some(op)).await,
        Then::Send(more) => {
            let more = more(target);
            round.hear_while(sending.send_over_and_over(&more, sent)).await
        }
        Then::Trickle(byte, pause) => round.hear_while(sending.trickle(byte, pause)).await,
    }
}

/// How a way goes in: a path, a token in the handshake, what is said behind it, and what is waited for.
fn entrance(way: Way, target: &Target) -> Option<(&'static str, &str, Vec<u8>, &'static str)> {
    match way {
        Way::Http => None,
        Way::Socket => Some(("/ws", "", Vec::new(), "")),
        Way::SignedIn => Some(("/ws", &target.token, Vec::new(), "welcome")),
        Way::Engine => Some((socketio::PATH, "", Vec::new(), "")),
        Way::Namespace => Some((socketio::PATH, "", socketio::connect(&target.token), "42")),
    }
}

async fn connect(attack: &Attack, target: &Target) -> std::io::Result<TcpStream> {
    if !matches!(attack.then, Then::Deaf | Then::SendDeaf(_)) {
        return TcpStream::connect(&target.address).await;
    }
    let address = tokio::net::lookup_host(&target.address).await?.next();
    let address = address.ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_recv_buffer_size(DEAF_BUFFER)?;
    socket.connect(address).await
}

struct Sending<'a> {
    writer: OwnedWriteHalf,
    pace: &'a Pace,
    bytes: &'a mut u64,
}

impl Sending<'_> {
    /// Whether the server took it.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        for chunk in bytes.chunks(CHUNK) {
            self.pace.bytes(chunk.len()).await;
            if self.writer.write_all(chunk).await.is_err() {
                return false;
            }
            *self.bytes += chunk.len() as u64;
        }
        true
    }

    async fn send_over_and_over(mut self, bytes: &[u8], mut goes_on: bool) {
        while goes_on {
            goes_on = self.send(bytes).await;
        }
    }

    async fn trickle(mut self, byte: u8, pause: Duration) {
        while self.send(&[byte]).await {
            tokio::time::sleep(pause).await;
        }
    }
}

struct Round {
    reader: OwnedReadHalf,
    heard: Heard,
}

impl Round {
    /// Whether more came.
    async fn read(&mut self) -> bool {
        let mut buffer = [0; 4 * 1024];
        match self.reader.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.heard.feed(&buffer[..count]);
                true
            }
        }
    }

    /// Waits for the upgrade, and then for a frame if one is wanted; how the round has ended if it does not come.
    async fn shake_hands(&mut self, wanted: &str) -> Option<String> {
        loop {
            if self.heard.compresses {
                return Some("compresses".to_owned());
            }
            if self.heard.upgraded && (wanted.is_empty() || self.heard.ops.contains(wanted)) {
                return None;
            }
            let refused =
                !self.heard.upgraded && self.heard.statuses.first().is_some_and(|&status| status != 101);
            if refused || self.heard.close.is_some() || !self.read().await {
                return Some(self.outcome());
            }
        }
    }

    /// Hears the server out.
    async fn hear(&mut self, until: Option<&str>) -> String {
        loop {
            if self.heard.close.is_some() {
                return self.outcome();
            }
            if let Some(op) = until.filter(|op| self.heard.ops.contains(*op)) {
                return op.to_owned();
            }
            let answered = !self.heard.upgraded && !self.heard.statuses.is_empty();
            let limit = if answered { QUIET } else { Duration::MAX };
            match tokio::time::timeout(limit, self.read()).await {
                Ok(true) => {}
                Ok(false) | Err(_) => return self.outcome(),
            }
        }
    }

    async fn hear_while(&mut self, sends: impl Future<Output = ()>) -> String {
        tokio::select! {
            outcome = self.hear(None) => return outcome,
            () = sends => {}
        }
        // What was said before the connection broke may still be on its way.
        let heard = tokio::time::timeout(LAST_WORDS, self.hear(None)).await;
        heard.unwrap_or_else(|_| self.outcome())
    }

    fn outcome(&self) -> String {
        if let Some(code) = self.heard.close {
            return format!("close {code}");
        }
        let mut statuses: Vec<String> =
            self.heard.statuses.iter().filter(|&&status| status != 101).map(u16::to_string).collect();
        if statuses.len() > FEW {
            statuses.dedup();
        }
        if statuses.is_empty() { "ended".to_owned() } else { statuses.join(" ") }
    }
}
