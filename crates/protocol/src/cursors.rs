//! The cursors of several rooms as one text, for where a client has one value to send back: `room=cursor&room=cursor`,
//! form-encoded, sorted by room. They are not judged here: a cursor that no edge gave out leads to a resync.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

/// A text that is not in this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the cursors of rooms: they must be passed back exactly as they were received")]
pub struct InvalidCursors;

/// Puts cursors into one text. The caller gives the rooms in their order.
pub fn encode<'a, C: Display>(cursors: impl IntoIterator<Item = (&'a str, C)>) -> String {
    let mut text = String::new();
    for (room, cursor) in cursors {
        if !text.is_empty() {
            text.push('&');
        }
        escape(&mut text, room);
        text.push('=');
        escape(&mut text, &cursor.to_string());
    }
    text
}

/// Takes such a text apart; an empty one has no cursors.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, InvalidCursors> {
    let pairs = form_urlencoded::parse(text.as_bytes());
    let pair = |(room, cursor): (_, std::borrow::Cow<'_, str>)| {
        let whole = !cursor.is_empty();
        whole.then(|| (std::borrow::Cow::into_owned(room), cursor.into_owned())).ok_or(InvalidCursors)
    };
    pairs.map(pair).collect()
}

/// What a form leaves as it is, and the colon of cursors: an id of server-sent events is read by people too.
fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b':' => out.push(byte as char),
            other => write!(out, "%{other:02X}").expect("writing to a String cannot fail"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_browsers_make_of_it_is_read_as_well() {
        let expected = BTreeMap::from([("a b&c".to_owned(), "1.00000000000000ab:7".to_owned())]);
        assert_eq!(encode(expected.iter().map(|(r, c)| (r.as_str(), c))), "a%20b%26c=1.00000000000000ab:7");
        for text in ["a%20b%26c=1.00000000000000ab:7", "a+b%26c=1.00000000000000ab%3A7"] {
            assert_eq!(parse(text), Ok(expected.clone()));
        }
        assert_eq!(parse(""), Ok(BTreeMap::new()));
        for text in ["nonsense", "a=", "a&b=1"] {
            assert_eq!(parse(text), Err(InvalidCursors));
        }
    }

    proptest! {
        #[test]
        fn cursors_round_trip(cursors in prop::collection::btree_map("\\PC{1,20}", "\\PC{1,20}", 0..5)) {
            let text = encode(cursors.iter().map(|(room, cursor)| (room.as_str(), cursor)));
            prop_assert!(!text.contains(['\n', '\r', ' ']));
            prop_assert_eq!(parse(&text), Ok(cursors));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC*|([a-z%=&+:.0-9]){0,40}") {
            let _ = parse(&text);
        }
    }
}
