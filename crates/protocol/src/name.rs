//! Room names, and their form inside Redis keys and channels.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest room name, in bytes of UTF-8.
pub const MAX_ROOM_BYTES: usize = 200;

/// A room's name: the text of a merchant column, equal to the token's room claim. 1–200 bytes; cheap to clone.
#[derive(Clone, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::derived_hash_with_manual_eq, reason = "equal texts have equal hashes, at whatever address")]
pub struct RoomName(Arc<str>);

impl PartialEq for RoomName {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

/// Why a text is not a room's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoom {
    /// The empty text would make an empty hash tag, which Redis Cluster ignores.
    #[error("a room's name must not be empty")]
    Empty,
    /// Longer than [`MAX_ROOM_BYTES`].
    #[error("a room's name has at most {MAX_ROOM_BYTES} bytes, this one has {0}")]
    TooLong(usize),
}

impl RoomName {
    /// Checks a text and takes it as a room's name.
    pub fn parse(text: &str) -> Result<Self, InvalidRoom> {
        match text.len() {
            0 => Err(InvalidRoom::Empty),
            length if length > MAX_ROOM_BYTES => Err(InvalidRoom::TooLong(length)),
            _ => Ok(Self(text.into())),
        }
    }

    /// The name as it is.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name with every byte outside `[A-Za-z0-9._-]` percent-encoded: safe inside a key, a hash tag and a
    /// channel, and different for different names.
    pub fn encoded(&self) -> String {
        use fmt::Write;
        let mut encoded = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => encoded.push(byte as char),
                other => write!(encoded, "%{other:02X}").expect("writing to a String cannot fail"),
            }
        }
        encoded
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_text() {
        let name = |text: &str| RoomName::parse(text).expect("valid");
        assert!(name("m1") == name("m1") && name("m1") != name("m2"));
        let m1 = name("m1");
        assert!(m1 == m1.clone());
        assert_eq!(
            (m1.as_str(), m1.to_string().as_str(), format!("{m1:?}").as_str()),
            ("m1", "m1", "\"m1\"")
        );
        let set = std::collections::HashSet::from([m1]);
        assert!(set.contains("m1") && !set.contains("m2"));
        assert_eq!(name(&"x".repeat(MAX_ROOM_BYTES)).as_str().len(), MAX_ROOM_BYTES);
    }

    #[test]
    fn names_that_would_break_a_slot_are_refused_or_encoded() {
        assert_eq!(RoomName::parse(""), Err(InvalidRoom::Empty));
        assert_eq!(RoomName::parse(&"x".repeat(201)), Err(InvalidRoom::TooLong(201)));
        let encoded = |name: &str| RoomName::parse(name).expect("valid").encoded();
        assert_eq!(encoded("}x"), "%7Dx");
        assert_eq!(encoded("merchant-7.a_b"), "merchant-7.a_b");
        assert_eq!(encoded("a%7Db"), "a%257Db");
        assert_eq!(encoded("ü:{"), "%C3%BC%3A%7B");
    }
}
