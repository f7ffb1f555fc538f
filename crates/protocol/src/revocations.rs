//! Which tokens count no more, whatever their signature and their end say. A sheet that the leader mirrors
//! ([`crate::mirror`]); judging tokens otherwise is the edge's.

use std::collections::HashMap;

use serde::Deserialize;

use crate::name::RoomName;
use crate::timestamp::Micros;

/// By what tokens are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationKind {
    /// `sub`.
    Subject,
    /// `jti`.
    TokenId,
    /// A room that the token names.
    Room,
}

impl RevocationKind {
    /// Its name in PostgreSQL and in Redis.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::TokenId => "token_id",
            Self::Room => "room",
        }
    }
}

/// Before when a token must have been issued to be revoked, in µs since 1970; none revokes it whenever it was issued.
type Before = Option<i64>;

/// All revocations, as they are at one moment: for each kind its values, each with its time. Unknown kinds are ignored,
/// so that neighbouring versions understand each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Revocations {
    subject: HashMap<Box<str>, Before>,
    token_id: HashMap<Box<str>, Before>,
    room: HashMap<Box<str>, Before>,
}

impl Revocations {
    /// Reads a sheet's content.
    ///
    /// # Errors
    /// When it is not of the form `{"subject":{"ana":1700000000000000},"token_id":{"7f":null},"room":{}}`.
    pub fn parse(content: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(content)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.subject.len() + self.token_id.len() + self.room.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// By what a token is revoked, if it is: one that matches and was issued before the revocation's time. A token that
    /// does not say when it was issued counts as older than any time. It is revoked as a whole when any of its rooms is.
    pub fn revokes<'a>(
        &self,
        subject: Option<&str>,
        token_id: Option<&str>,
        issued_at: Option<Micros>,
        rooms: impl IntoIterator<Item = &'a RoomName>,
    ) -> Option<RevocationKind> {
        let too_old = |values: &HashMap<Box<str>, Before>, value: &str| {
            let issued_before = |before: i64| issued_at.is_none_or(|at| at.0 < before);
            values.get(value).is_some_and(|before| before.is_none_or(issued_before))
        };
        if subject.is_some_and(|subject| too_old(&self.subject, subject)) {
            return Some(RevocationKind::Subject);
        }
        if token_id.is_some_and(|id| too_old(&self.token_id, id)) {
            return Some(RevocationKind::TokenId);
        }
        let by_room =
            !self.room.is_empty() && rooms.into_iter().any(|room| too_old(&self.room, room.as_str()));
        by_room.then_some(RevocationKind::Room)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).expect("a good name")
    }

    #[test]
    fn a_token_counts_from_the_moment_on_and_without_a_time_never() {
        let sheet = r#"{"subject":{"ana":1000000,"b\"en":null},"token_id":{"t":5},"room":{"m1":2000000},"later":{"x":1}}"#;
        let revocations = Revocations::parse(sheet).expect("readable");
        assert_eq!((revocations.len(), revocations.is_empty()), (4, false));
        let by = |subject, id, at: Option<i64>, rooms: &[&str]| {
            let rooms: Vec<_> = rooms.iter().map(|name| room(name)).collect();
            revocations.revokes(subject, id, at.map(Micros), &rooms)
        };
        assert_eq!(by(Some("ana"), None, Some(999_999), &[]), Some(RevocationKind::Subject));
        assert_eq!(by(Some("ana"), None, Some(1_000_000), &[]), None, "not before it");
        assert_eq!(by(Some("ana"), None, None, &[]), Some(RevocationKind::Subject), "without a time");
        assert_eq!(by(Some("Ana"), None, None, &["ana"]), None);
        assert_eq!(by(Some("b\"en"), None, Some(i64::MAX), &[]), Some(RevocationKind::Subject), "for good");
        assert_eq!(by(None, Some("t"), Some(4), &[]), Some(RevocationKind::TokenId));
        assert_eq!(by(None, Some("ana"), None, &[]), None, "another kind");
        assert_eq!(by(None, None, Some(0), &["m0", "m1"]), Some(RevocationKind::Room), "one of its rooms");
        assert_eq!(by(Some("t"), None, Some(0), &["m0"]), None);
        assert_eq!(Revocations::default().revokes(Some("ana"), Some("t"), None, &[room("m1")]), None);
    }

    #[test]
    fn what_is_not_such_a_sheet_is_refused() {
        assert_eq!(Revocations::parse("{}").expect("none"), Revocations::default());
        for content in ["", "7", r#"{"subject":{"a":"soon"}}"#, r#"{"room":"m1"}"#, r#"{"room":{"m":1.5}}"#] {
            assert!(Revocations::parse(content).is_err(), "{content}");
        }
    }

    /// Few values and times, so that they meet.
    fn value() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "ü\"\\", "\u{0}"]).prop_map(str::to_owned)
    }

    fn time() -> impl Strategy<Value = Option<i64>> {
        prop::option::of(prop::sample::select(vec![i64::MIN, 0, 999_999, 1_000_000, 1_000_001, i64::MAX]))
    }

    proptest! {
        #[test]
        fn it_says_the_same_as_a_look_at_every_entry(
            entries in prop::collection::vec((0..3usize, value(), time()), 0..8),
            subject in prop::option::of(value()),
            id in prop::option::of(value()),
            issued in time(),
            rooms in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4),
        ) {
            const KINDS: [RevocationKind; 3] = [RevocationKind::Subject, RevocationKind::TokenId, RevocationKind::Room];
            let mut sheet = json!({});
            for (kind, value, before) in &entries {
                sheet[KINDS[*kind].name()][value.as_str()] = Value::from(*before);
            }
            let matches = |kind: RevocationKind, value: &str, before: Option<i64>| {
                let is = match kind {
                    RevocationKind::Subject => subject.as_deref() == Some(value),
                    RevocationKind::TokenId => id.as_deref() == Some(value),
                    RevocationKind::Room => rooms.contains(&value),
                };
                is && match (before, issued) {
                    (Some(before), Some(issued)) => issued < before,
                    _ => true,
                }
            };
            let of = |kind: RevocationKind| sheet[kind.name()].as_object().into_iter().flatten();
            let expected = KINDS.into_iter().find(|kind| {
                of(*kind).any(|(value, before)| matches(*kind, value, before.as_i64()))
            });
            let revocations = Revocations::parse(&sheet.to_string()).expect("readable");
            let rooms: Vec<_> = rooms.iter().map(|name| room(name)).collect();
            let found = revocations.revokes(subject.as_deref(), id.as_deref(), issued.map(Micros), &rooms);
            prop_assert_eq!(found, expected);
        }
    }

    /// What docs/revocation.md says: `cargo test --release -p rowcast-protocol -- --ignored --nocapture revocations`.
    #[test]
    #[ignore = "measures"]
    fn how_long_reading_a_sheet_and_judging_by_it_take() {
        let sheet = |entries| {
            let each = (0..entries).map(|n| (format!("{n:08x}-5b1c-4d7e-9f00-{n:012x}"), Value::Null));
            json!({ "subject": { "a": 1 }, "token_id": each.collect::<serde_json::Map<_, _>>(), "room": { "b": 1 } }).to_string()
        };
        let tokens: Vec<_> =
            (0..20_000).map(|n| (format!("user {n}"), format!("id {n}"), [room("m1")])).collect();
        for entries in [1_000, 10_000, 100_000, 250_000] {
            let sheet = sheet(entries);
            let begin = std::time::Instant::now();
            let revocations = Revocations::parse(&sheet).expect("readable");
            let parsed = begin.elapsed();
            let begin = std::time::Instant::now();
            let judge = |(subject, id, rooms): &&(String, String, [RoomName; 1])| {
                revocations.revokes(Some(subject), Some(id), Some(Micros(1)), rooms).is_some()
            };
            assert_eq!(tokens.iter().filter(judge).count(), 0);
            let megabytes = sheet.len() as f64 / 1e6;
            println!(
                "{entries} entries, {megabytes:.1} MB: read in {parsed:?}, 20000 tokens judged in {:?}",
                begin.elapsed()
            );
        }
    }
}
