//! What a stock client of Socket.IO (socket.io-client 4.6 or newer) does with packets, without IO: it keeps the name of
//! its connection and the last argument of the last event that ended with a text, and brings both when it comes back.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rowcast_protocol::cursors;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Where the edge serves it.
pub const PATH: &str = "/socket.io/?EIO=4&transport=websocket";

/// The namespace that edges serve unless they are told otherwise.
pub const NAMESPACE: &str = "/notifications";

/// The answer to a ping.
pub const PONG: &str = "3";

/// What a client keeps over its connections.
#[derive(Debug, Clone, Default)]
pub struct Stock {
    pid: Option<String>,
    offset: Option<String>,
    patience: Option<Duration>,
}

/// What a packet says.
#[derive(Debug)]
pub enum Heard<'a> {
    /// To be answered with [`PONG`].
    Ping,
    /// It is in.
    Connected {
        /// Whether it goes on where it was.
        recovered: bool,
    },
    /// It is not let in.
    Refused(String),
    /// It was put out, and does not come back by itself.
    Ended,
    /// An event.
    Emitted(Emitted<'a>),
    /// Nothing that matters here.
    Other,
}

/// An event.
#[derive(Debug)]
pub struct Emitted<'a> {
    /// Its name.
    pub name: String,
    /// Its first argument.
    pub payload: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    ping_interval: u64,
    ping_timeout: u64,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Stock {
    /// The packet that asks to be let in.
    pub fn connect(&self, token: &str) -> String {
        let mut auth = json!({ "token": token });
        if let Some(pid) = &self.pid {
            auth["pid"] = pid.as_str().into();
            // JSON has no undefined: what a client does not know it leaves out.
            if let Some(offset) = &self.offset {
                auth["offset"] = offset.as_str().into();
            }
        }
        format!("40{NAMESPACE},{auth}")
    }

    /// How long a client waits for the next ping before it takes its connection for dead.
    pub fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// Whether it has an offset to bring.
    pub fn has_offset(&self) -> bool {
        self.offset.is_some()
    }

    /// The cursor of a room in its offset: where it stands there.
    pub fn cursor(&self, room: &str) -> Option<String> {
        cursors::parse(self.offset.as_deref()?).ok()?.remove(room)
    }

    /// Takes a packet in.
    ///
    /// # Errors
    /// When it is none that a server may send.
    pub fn hear<'a>(&mut self, packet: &'a str) -> Result<Heard<'a>> {
        if packet == "2" {
            return Ok(Heard::Ping);
        }
        if let Some(open) = packet.strip_prefix('0') {
            let open: Open = serde_json::from_str(open).context("an open packet")?;
            self.patience = Some(Duration::from_millis(open.ping_interval + open.ping_timeout));
            return Ok(Heard::Other);
        }
        let (kind, rest) = packet.split_at_checked(2).with_context(|| format!("not a packet: {packet:?}"))?;
        let data = rest.strip_prefix(NAMESPACE).and_then(|rest| rest.strip_prefix(','));
        let data = data.with_context(|| format!("not of {NAMESPACE}: {packet:?}"))?;
        match kind {
            "40" => self.connected(data),
            "41" => Ok(Heard::Ended),
            "42" => self.emitted(data),
            "43" => Ok(Heard::Other),
            "44" => Ok(Heard::Refused(data.to_owned())),
            _ => bail!("not a packet of a server: {packet:?}"),
        }
    }

    fn connected(&mut self, data: &str) -> Result<Heard<'static>> {
        let answer: Value = serde_json::from_str(data)?;
        let pid = answer["pid"].as_str().context("a server that recovers names the connection")?;
        let recovered = self.pid.as_deref() == Some(pid);
        self.pid = Some(pid.to_owned());
        Ok(Heard::Connected { recovered })
    }

    fn emitted<'a>(&mut self, data: &'a str) -> Result<Heard<'a>> {
        let arguments: Vec<&RawValue> = serde_json::from_str(data)?;
        let [name, .., last] = *arguments else { bail!("an event without an argument: {data}") };
        let Text(name) = serde_json::from_str(name.get())?;
        if let Ok(Text(offset)) = serde_json::from_str(last.get()) {
            self.offset = Some(offset.into_owned());
        }
        Ok(Heard::Emitted(Emitted { name: name.into_owned(), payload: arguments[1] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_hears_last_it_brings_back() {
        let mut stock = Stock::default();
        assert_eq!(stock.connect("t"), r#"40/notifications,{"token":"t"}"#);
        stock.hear(r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#).unwrap();
        assert_eq!(stock.patience(), Some(Duration::from_secs(45)));
        let connected = stock.hear(r#"40/notifications,{"sid":"s","pid":"p"}"#).unwrap();
        assert!(matches!(connected, Heard::Connected { recovered: false }));
        assert_eq!(stock.connect("t"), r#"40/notifications,{"pid":"p","token":"t"}"#);
        let heard = stock.hear(r#"42/notifications,["a.b",{"n":1},"a=1.00000000000000ab:7"]"#).unwrap();
        let Heard::Emitted(Emitted { name, payload }) = heard else { panic!("{heard:?}") };
        assert_eq!((&*name, payload.get()), ("a.b", r#"{"n":1}"#));
        stock.hear(r#"42/notifications,["rowcast.status",{"live":true}]"#).unwrap();
        assert_eq!(stock.cursor("a").as_deref(), Some("1.00000000000000ab:7"), "no text, no offset");
        assert!(stock.connect("t").contains(r#""offset":"a=1.00000000000000ab:7""#));
        let again = stock.hear(r#"40/notifications,{"sid":"t","pid":"p"}"#).unwrap();
        assert!(matches!(again, Heard::Connected { recovered: true }));
        let other = stock.hear(r#"40/notifications,{"sid":"t","pid":"q"}"#).unwrap();
        assert!(matches!(other, Heard::Connected { recovered: false }));
    }

    #[test]
    fn what_no_server_says_is_an_error() {
        let mut stock = Stock::default();
        for packet in ["", "4", "40", "42/other,[\"a\",1]", "42/notifications,[\"a\"]", "47/notifications,"] {
            assert!(stock.hear(packet).is_err(), "{packet}");
        }
    }
}
