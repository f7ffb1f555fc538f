//! What clients send over the native socket.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::filter::MAX_PATTERNS;

/// The most rooms for which one sign-in may bring cursors.
pub const MAX_RESUMED_ROOMS: usize = 256;

/// A message from a client.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ClientMessage {
    /// Sign in, resume, filter.
    Auth(Auth),
    /// A new token for the same subject, in place.
    Refresh {
        /// The new token.
        token: String,
    },
    /// Answered by `pong`.
    Ping,
}

/// The first message of a client that did not bring its token in the handshake.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Auth {
    /// The JSON Web Token.
    pub token: String,
    /// For each room, the last cursor that the client has stored. Cursors are judged when they are used: one
    /// that no edge gave out leads to a resync, not to an error.
    /// Two cursors of one room are none of the protocol: which of them counts would be anybody's guess.
    #[serde(default, deserialize_with = "each_once")]
    pub resume: BTreeMap<String, String>,
    /// Only these types: exact names, or prefixes as `booking.*`.
    #[serde(default)]
    pub types: Option<Vec<String>>,
    /// What the client counted since its last connection, to be judged by [`crate::Report::judge`].
    #[serde(default)]
    pub report: Option<serde_json::Value>,
}

/// Why a text is not a message. The client is told, so it names no internals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedMessage {
    /// Not JSON, or not the fields of a known `op`.
    #[error("not a message: {0}")]
    Json(String),
    /// More of something than is allowed.
    #[error("too many {what}: at most {limit}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
}

impl ClientMessage {
    /// Reads one text frame.
    pub fn parse(text: &str) -> Result<Self, MalformedMessage> {
        let message: Self =
            serde_json::from_str(text).map_err(|error| MalformedMessage::Json(brief(&error)))?;
        if let Self::Auth(auth) = &message {
            auth.check_bounds()?;
        }
        Ok(message)
    }
}

impl Auth {
    fn check_bounds(&self) -> Result<(), MalformedMessage> {
        let patterns = self.types.as_ref().map_or(0, Vec::len);
        let bounds = [
            ("rooms in resume", self.resume.len(), MAX_RESUMED_ROOMS),
            ("patterns in types", patterns, MAX_PATTERNS),
        ];
        match bounds.into_iter().find(|(_, count, limit)| count > limit) {
            Some((what, _, limit)) => Err(MalformedMessage::TooMany { what, limit }),
            None => Ok(()),
        }
    }
}

/// A map as serde reads it takes the last of what comes twice.
fn each_once<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct EachOnce;

    impl<'de> Visitor<'de> for EachOnce {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object of texts, each name once")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((name, value)) = entries.next_entry()? {
                if map.insert(name, value).is_some() {
                    return Err(de::Error::custom("a name comes twice"));
                }
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(EachOnce)
}

/// A close frame's reason has room for 123 bytes, and a parser's message may quote what the client sent.
fn brief(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => {
            "unknown op, or a field is missing or of the wrong kind".to_owned()
        }
        _ => format!("not JSON, at line {} column {}", error.line(), error.column()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_documented_messages_parse() {
        assert!(matches!(ClientMessage::parse(r#"{"op":"ping"}"#), Ok(ClientMessage::Ping)));
        let refresh = ClientMessage::parse(r#"{"op":"refresh","token":"a.b.c"}"#);
        assert!(matches!(refresh, Ok(ClientMessage::Refresh { token }) if token == "a.b.c"));
        let auth = r#"{"op":"auth","token":"t","resume":{"m1":"1.0000000000000001:5"},"types":["booking.*"],"report":{"x":1}}"#;
        let Ok(ClientMessage::Auth(auth)) = ClientMessage::parse(auth) else { panic!("auth must parse") };
        assert_eq!(auth.resume["m1"], "1.0000000000000001:5");
        assert_eq!(auth.report, Some(serde_json::json!({ "x": 1 })));
        let odd = r#"{"op":"auth","token":"t","report":[7]}"#;
        assert!(
            matches!(ClientMessage::parse(odd), Ok(ClientMessage::Auth(_))),
            "judged elsewhere, never an error"
        );
    }

    #[test]
    fn what_is_not_a_message_says_why_and_quotes_nothing() {
        for text in
            ["", "[]", "{}", r#"{"op":"dance"}"#, r#"{"op":"auth"}"#, r#"{"op":"auth","token":7}"#, "\u{0}"]
        {
            let error = ClientMessage::parse(text).expect_err(text).to_string();
            assert!(error.len() < 123 && !error.contains("dance"), "{error}");
        }
    }

    #[test]
    fn a_refusal_says_where_json_ends_or_that_the_fields_are_wrong() {
        let refusal = |text| ClientMessage::parse(text).expect_err("no message").to_string();
        assert_eq!(refusal("{\n\"op\":"), "not a message: not JSON, at line 2 column 5");
        let fields = "not a message: unknown op, or a field is missing or of the wrong kind";
        assert_eq!(
            (refusal("{}").as_str(), refusal(r#"{"op":"auth","token":7}"#).as_str()),
            (fields, fields)
        );
    }

    #[test]
    fn as_many_as_are_allowed_are_taken() {
        let types: Vec<String> = (0..MAX_PATTERNS).map(|n| n.to_string()).collect();
        let resume: BTreeMap<_, _> = (0..MAX_RESUMED_ROOMS).map(|n| (n.to_string(), "1")).collect();
        let text = serde_json::json!({ "op": "auth", "token": "t", "types": types, "resume": resume });
        assert!(ClientMessage::parse(&text.to_string()).is_ok());
        let resume: BTreeMap<_, _> = (0..=MAX_RESUMED_ROOMS).map(|n| (n.to_string(), "1")).collect();
        let text = serde_json::json!({ "op": "auth", "token": "t", "resume": resume });
        let error = ClientMessage::parse(&text.to_string()).expect_err("too many");
        assert_eq!(error.to_string(), "too many rooms in resume: at most 256");
    }

    #[test]
    fn bounds_are_kept() {
        let types: Vec<String> = (0..=MAX_PATTERNS).map(|n| n.to_string()).collect();
        let text = serde_json::json!({ "op": "auth", "token": "t", "types": types }).to_string();
        assert!(matches!(
            ClientMessage::parse(&text),
            Err(MalformedMessage::TooMany { limit: MAX_PATTERNS, .. })
        ));
    }

    #[test]
    fn what_is_said_twice_is_not_a_message() {
        for text in [
            r#"{"op":"auth","op":"refresh","token":"t"}"#,
            r#"{"op":"ping","\u006fp":"ping"}"#,
            r#"{"op":"auth","token":"t","token":"t"}"#,
            r#"{"op":"refresh","token":"t","token":"u"}"#,
            r#"{"op":"auth","token":"t","resume":{},"resume":{}}"#,
            r#"{"op":"auth","token":"t","resume":{"m1":"1.1:1","m1":"1.1:2"}}"#,
            r#"{"op":"auth","token":"t","resume":{"m1":"1.1:1","\u006d1":"1.1:1"}}"#,
            r#"{"op":"auth","token":"t","types":[],"types":["*"]}"#,
            r#"{"op":"auth","token":"t","report":{},"report":{}}"#,
        ] {
            assert!(ClientMessage::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash() {
        let deep = format!(
            r#"{{"op":"auth","token":"t","report":{}1{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert!(ClientMessage::parse(&deep).is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC*|\\{\"op\":\"(auth|ping|refresh)\"(,\"[a-z]{1,8}\":(1|null|\"x\"|\\{\\}|\\[\\])){0,4}\\}") {
            let _ = ClientMessage::parse(&text);
        }

        #[test]
        fn an_auth_round_trips(token: String, rooms in prop::collection::btree_map("\\PC{0,10}", "\\PC{0,10}", 0..5)) {
            let text = serde_json::json!({ "op": "auth", "token": token, "resume": rooms }).to_string();
            match ClientMessage::parse(&text) {
                Ok(ClientMessage::Auth(auth)) => prop_assert_eq!((auth.token, auth.resume), (token, rooms)),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
