//! Engine.IO 4 and Socket.IO 5 as stock clients speak them over a WebSocket: packets in ([`Packet`]) and out, and what
//! becomes of Rowcast's own frames ([`payload`]). Who is connected to what, and when, is not here.

pub mod payload;

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

pub use payload::{Emit, RESERVED_TYPES, Shape};

/// The version of Engine.IO that is spoken, as the `EIO` of a handshake names it.
pub const ENGINE_VERSION: &str = "4";

/// The namespace that packets do not name.
pub const MAIN_NAMESPACE: &str = "/";

/// Engine.IO's ping. Clients answer it; they do not ask themselves.
pub const PING: &str = "2";

/// The longest name of a namespace that is listened to.
const LONGEST_NAMESPACE: usize = 200;

/// A packet from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The client goes.
    Close,
    /// Nothing but a sign of life: the answer to a ping, or a packet without a meaning here.
    Alive,
    /// It wants into a namespace.
    Connect {
        /// Which.
        namespace: &'a str,
        /// What it says of itself, an object.
        auth: Auth,
    },
    /// It leaves a namespace.
    Disconnect {
        /// Which.
        namespace: &'a str,
    },
    /// It emits something.
    Event {
        /// Where.
        namespace: &'a str,
        /// It waits for an acknowledgement of this number.
        id: Option<u64>,
        /// The event's name.
        name: Cow<'a, str>,
        /// Its first argument, JSON text.
        argument: Option<&'a str>,
    },
    /// It acknowledges something.
    Ack {
        /// Where.
        namespace: &'a str,
    },
    /// It emits or acknowledges something with binary attachments, which follow.
    Binary {
        /// Where.
        namespace: &'a str,
    },
}

/// What a client says with a CONNECT. What is not of the kind that it should be counts as not said: stock clients send
/// whatever their application puts there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// The JSON Web Token.
    pub token: Option<String>,
    /// The name of the connection that is to be recovered.
    pub pid: Option<String>,
    /// How far the client was in it.
    pub offset: Option<String>,
    /// Only these types.
    pub types: Option<Vec<String>>,
}

/// A text that is not a packet of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedPacket {
    /// Not one of Engine.IO's that a client may send.
    #[error("not a packet of Engine.IO 4")]
    Engine,
    /// Not one of Socket.IO's that a client may send.
    #[error("not a packet of Socket.IO 5")]
    Socket,
    /// Its JSON is none, or not of the kind that belongs to its packet.
    #[error("a packet's payload is malformed")]
    Payload,
}

impl<'a> Packet<'a> {
    /// Reads the text of one WebSocket message.
    pub fn parse(text: &'a str) -> Result<Self, MalformedPacket> {
        let Some(kind) = text.bytes().next() else { return Err(MalformedPacket::Engine) };
        match kind {
            b'1' if text.len() == 1 => Ok(Self::Close),
            b'3' | b'5' | b'6' => Ok(Self::Alive),
            b'4' => Self::message(&text[1..]),
            // An open is the server's; so are pings since version 4.
            _ => Err(MalformedPacket::Engine),
        }
    }

    fn message(text: &'a str) -> Result<Self, MalformedPacket> {
        let kind = text.bytes().next().ok_or(MalformedPacket::Socket)?;
        let rest = text.get(1..).ok_or(MalformedPacket::Socket)?;
        let binary = matches!(kind, b'5' | b'6');
        let rest = if binary { attachments(rest)? } else { rest };
        let (namespace, rest) = namespace(rest)?;
        match kind {
            b'0' => Ok(Self::Connect { namespace, auth: auth(rest)? }),
            b'1' if rest.is_empty() => Ok(Self::Disconnect { namespace }),
            b'2' => event(namespace, rest),
            b'3' => {
                let (id, payload) = number(rest)?;
                let whole = id.is_some() && serde_json::from_str::<Vec<&RawValue>>(payload).is_ok();
                if whole { Ok(Self::Ack { namespace }) } else { Err(MalformedPacket::Payload) }
            }
            _ if binary => Ok(Self::Binary { namespace }),
            // A connect error is the server's.
            _ => Err(MalformedPacket::Socket),
        }
    }
}

fn attachments(text: &str) -> Result<&str, MalformedPacket> {
    let (count, rest) = text.split_once('-').ok_or(MalformedPacket::Socket)?;
    let digits = !count.is_empty() && count.len() <= 4 && count.bytes().all(|byte| byte.is_ascii_digit());
    if digits { Ok(rest) } else { Err(MalformedPacket::Socket) }
}

fn namespace(text: &str) -> Result<(&str, &str), MalformedPacket> {
    if !text.starts_with('/') {
        return Ok((MAIN_NAMESPACE, text));
    }
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    if name.len() > LONGEST_NAMESPACE { Err(MalformedPacket::Socket) } else { Ok((name, rest)) }
}

fn number(text: &str) -> Result<(Option<u64>, &str), MalformedPacket> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Ok((None, rest));
    }
    digits.parse().map(|id| (Some(id), rest)).map_err(|_| MalformedPacket::Socket)
}

fn event<'a>(namespace: &'a str, text: &'a str) -> Result<Packet<'a>, MalformedPacket> {
    let (id, payload) = number(text)?;
    let arguments: Vec<&RawValue> = serde_json::from_str(payload).map_err(|_| MalformedPacket::Payload)?;
    let name = arguments.first().ok_or(MalformedPacket::Payload)?.get();
    let name = match name.as_bytes().first() {
        Some(b'"') => {
            // Serde borrows where nothing is escaped.
            let Text(name) = serde_json::from_str(name).map_err(|_| MalformedPacket::Payload)?;
            name
        }
        // The protocol lets a name be a number.
        Some(b'-' | b'0'..=b'9') => Cow::Borrowed(name),
        _ => return Err(MalformedPacket::Payload),
    };
    Ok(Packet::Event { namespace, id, name, argument: arguments.get(1).map(|argument| argument.get()) })
}

#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn auth(text: &str) -> Result<Auth, MalformedPacket> {
    if text.is_empty() {
        return Ok(Auth::default());
    }
    let mut fields: serde_json::Map<String, Value> =
        serde_json::from_str(text).map_err(|_| MalformedPacket::Payload)?;
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (token, pid, offset) = (text("token"), text("pid"), text("offset"));
    let types = match fields.remove("types") {
        Some(Value::Array(types)) => {
            let named = |value| if let Value::String(name) = value { Some(name) } else { None };
            types.into_iter().map(named).collect()
        }
        _ => None,
    };
    Ok(Auth { token, pid, offset, types })
}

/// What an argument of `refresh` says.
pub fn refresh_token(argument: &str) -> Option<String> {
    auth(argument).ok()?.token
}

/// Engine.IO's first packet, in which the server says how it lives.
pub fn open(sid: &str, ping_interval: Duration, ping_timeout: Duration, max_payload: u64) -> String {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Open<'a> {
        sid: &'a str,
        upgrades: [&'a str; 0],
        ping_interval: u64,
        ping_timeout: u64,
        max_payload: u64,
    }
    let open = Open {
        sid,
        upgrades: [],
        ping_interval: milliseconds(ping_interval),
        ping_timeout: milliseconds(ping_timeout),
        max_payload,
    };
    format!("0{}", json(&open))
}

/// The answer to a CONNECT that lets the client in.
pub fn connected(namespace: &str, sid: &str, pid: &str) -> String {
    #[derive(Serialize)]
    struct Connected<'a> {
        sid: &'a str,
        pid: &'a str,
    }
    format!("40{}{}", prefix(namespace), json(&Connected { sid, pid }))
}

/// The answer to a CONNECT that does not. Stock clients do not try again by themselves after it.
pub fn connect_error(namespace: &str, message: &str, data: Option<&Value>) -> String {
    #[derive(Serialize)]
    struct ConnectError<'a> {
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a Value>,
    }
    format!("44{}{}", prefix(namespace), json(&ConnectError { message, data }))
}

/// The server ends a namespace. Stock clients do not come back by themselves after it.
pub fn disconnect(namespace: &str) -> String {
    format!("41{}", prefix(namespace))
}

/// An acknowledgement; `argument` is JSON text.
pub fn ack(namespace: &str, id: u64, argument: Option<&str>) -> String {
    format!("43{}{id}[{}]", prefix(namespace), argument.unwrap_or_default())
}

/// What stands before an event's body: [`Emit::body`] and [`tail`] follow.
pub fn event_head(namespace: &str) -> String {
    format!("42{}", prefix(namespace))
}

/// What stands behind an event's body. Stock clients keep the last argument of whatever they hear, if it is a text, and
/// send it back to be recovered from there.
pub fn tail(offset: Option<&str>) -> String {
    offset.map_or_else(|| "]".to_owned(), |offset| format!(",{}]", json(offset)))
}

fn prefix(namespace: &str) -> String {
    if namespace == MAIN_NAMESPACE { String::new() } else { format!("{namespace},") }
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("texts, numbers and values have a JSON text")
}

/// Whether clients can be told of a namespace of this name.
pub fn is_namespace(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b'?' | b'"' | b'\\');
    name.starts_with('/') && name.len() <= LONGEST_NAMESPACE && name.bytes().all(plain)
}

#[cfg(test)]
mod tests;
