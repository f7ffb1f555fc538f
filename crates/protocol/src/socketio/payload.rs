//! What stock clients are to be emitted for each of Rowcast's frames: an event's name and its payload.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json;

/// What stands for an event's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// The event's data. In an object, `type` and `merchantId` are added where it has none of these names.
    Flat,
    /// The whole event as the native socket has it.
    Envelope,
}

/// Types that no event can have under its own name: a packet with such a name ends a stock client's connection, or
/// (`connected`, `resync`) is the edge's own word to it. As in `rowcast.type_fault`.
pub const RESERVED_TYPES: [&str; 8] = [
    "connect",
    "disconnect",
    "connected",
    "connect_error",
    "disconnecting",
    "newListener",
    "removeListener",
    "resync",
];

/// In front of what is none of the application's events.
const PREFIX: &str = "rowcast.";

/// One thing to emit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emit<'a> {
    /// The event's name.
    pub name: Cow<'a, str>,
    /// Its payload, JSON text.
    pub payload: Cow<'a, str>,
}

impl<'a> Emit<'a> {
    /// An application's event, from the native frame's JSON text. None where that is not one.
    pub fn event(frame: &'a str, shape: Shape) -> Option<Self> {
        let event: Event<'a> = serde_json::from_str(frame).ok()?;
        let payload = match shape {
            Shape::Flat => event.flat(),
            Shape::Envelope => Cow::Owned(without_op(frame)?.1),
        };
        Some(Self { name: emitted(event.r#type), payload })
    }

    /// Any other frame: `resync` as it is called, the others with `rowcast.` in front. None where it is no frame.
    pub fn frame(frame: &'a str) -> Option<Self> {
        let (op, payload) = without_op(frame)?;
        let name = if op == "resync" { Cow::Borrowed(op) } else { Cow::Owned(format!("{PREFIX}{op}")) };
        Some(Self { name, payload: Cow::Owned(payload) })
    }

    /// What comes first: the welcome, with the room under the name that clients of one room look for.
    pub fn connected(welcome: &'a str, room: &str) -> Option<Self> {
        let (_, fields) = without_op(welcome)?;
        let payload = format!("{{\"room\":{},{}", json(room), fields.strip_prefix('{')?);
        Some(Self { name: Cow::Borrowed("connected"), payload: Cow::Owned(payload) })
    }

    /// The packet's text between [`super::event_head`] and [`super::tail`].
    pub fn body(&self) -> String {
        format!("[{},{}", json(&*self.name), self.payload)
    }
}

/// Names that a client would not take, or would take for something else, get the prefix that is nobody's.
fn emitted(event_type: Cow<'_, str>) -> Cow<'_, str> {
    if RESERVED_TYPES.contains(&&*event_type) {
        Cow::Owned(format!("{PREFIX}{event_type}"))
    } else {
        event_type
    }
}

/// An event's frame, its data unread.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    truncated: bool,
}

impl<'a> Event<'a> {
    fn flat(&self) -> Cow<'a, str> {
        let data = self.data.get();
        let Some(fields) = data.strip_prefix('{') else { return Cow::Borrowed(data) };
        let Ok(Names(names)) = serde_json::from_str(data) else { return Cow::Borrowed(data) };
        let own = [
            ("type", json(&*self.r#type)),
            ("merchantId", json(&*self.room)),
            ("truncated", self.truncated.to_string()),
        ];
        let mut payload = String::with_capacity(data.len() + 64);
        for (name, value) in own {
            if !names.contains(name) && (name != "truncated" || self.truncated) {
                payload.push(if payload.is_empty() { '{' } else { ',' });
                payload.push_str(&format!("\"{name}\":{value}"));
            }
        }
        if payload.is_empty() {
            return Cow::Borrowed(data);
        }
        if !names.is_empty() {
            payload.push(',');
        }
        payload.push_str(fields);
        Cow::Owned(payload)
    }
}

/// The names of an object's fields.
struct Names<'a>(HashSet<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Names<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Names<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut names = HashSet::new();
                while let Some((super::Text(name), IgnoredAny)) = map.next_entry()? {
                    names.insert(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The `op` of a frame, and the frame without it. Frames begin with their `op`.
fn without_op(frame: &str) -> Option<(&str, String)> {
    let (op, rest) = frame.strip_prefix("{\"op\":\"")?.split_once('"')?;
    let fields = rest.strip_prefix(',').unwrap_or(rest);
    Some((op, format!("{{{fields}")))
}
