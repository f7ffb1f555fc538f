//! What a request for events asks for, read from its query and headers. Pure; whether the token allows it is judged by
//! the caller.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rowcast_protocol::client::MAX_RESUMED_ROOMS;
use rowcast_protocol::filter::MAX_PATTERNS;
use rowcast_protocol::{RoomName, cursors};

use super::error::Refusal;

/// Stands for a cursor that cannot be read: it leads to a resync.
const UNREADABLE: &str = "?";

/// What a query may say.
const PARAMETERS: [&str; 5] = ["room", "after", "access_token", "wait", "types"];

/// A request for events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ask {
    /// The one room that is asked for; all of the token's without.
    pub room: Option<String>,
    after: Option<After>,
    /// How long an empty page may wait for something to say.
    pub wait: Duration,
    /// Which types of events are wanted.
    pub types: Option<Vec<String>>,
    /// A token in the URL; the caller decides whether it counts.
    pub access_token: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum After {
    /// One room's cursor.
    One(String),
    Each(BTreeMap<String, String>),
    Unreadable,
}

impl Ask {
    /// Reads a query, and the `Last-Event-ID` of a stream that comes back: what it saw last counts before what its
    /// URL began with. A longer `wait` than `max_wait` is cut.
    pub fn parse(query: &str, last_event_id: Option<&str>, max_wait: Duration) -> Result<Self, Refusal> {
        let mut ask = Self::default();
        let mut after = None;
        let mut named = BTreeSet::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).filter(|(_, value)| !value.is_empty()) {
            // Of two, who is in front may have looked at the other one.
            if PARAMETERS.contains(&&*name) && !named.insert(name.clone()) {
                return Err(Refusal::Malformed(format!("{name} comes twice").into()));
            }
            match &*name {
                "room" => ask.room = Some(value.into_owned()),
                "after" => after = Some(value.into_owned()),
                "access_token" => ask.access_token = Some(value.into_owned()),
                "wait" => ask.wait = seconds(&value)?.min(max_wait),
                "types" => ask.types = Some(types(&value)?),
                _ => {}
            }
        }
        ask.after = match (last_event_id.filter(|id| !id.is_empty()), after, &ask.room) {
            (Some(id), _, _) => Some(After::each(id)?),
            (None, Some(after), Some(_)) => Some(After::One(after)),
            (None, Some(after), None) => Some(After::each(&after)?),
            (None, None, _) => None,
        };
        Ok(ask)
    }

    /// From where it goes on in these rooms.
    pub fn resume(&self, rooms: &[RoomName]) -> BTreeMap<String, String> {
        let names = rooms.iter().map(|room| room.as_str().to_owned());
        match &self.after {
            None => BTreeMap::new(),
            Some(After::One(cursor)) => names.map(|name| (name, cursor.clone())).collect(),
            Some(After::Unreadable) => names.map(|name| (name, UNREADABLE.to_owned())).collect(),
            Some(After::Each(cursors)) => {
                names.filter_map(|name| cursors.get(&name).cloned().map(|cursor| (name, cursor))).collect()
            }
        }
    }
}

impl After {
    fn each(text: &str) -> Result<Self, Refusal> {
        match cursors::parse(text) {
            Ok(cursors) if cursors.len() > MAX_RESUMED_ROOMS => {
                Err(Refusal::Malformed(format!("at most {MAX_RESUMED_ROOMS} rooms in after").into()))
            }
            Ok(cursors) => Ok(Self::Each(cursors)),
            Err(cursors::InvalidCursors) => Ok(Self::Unreadable),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, Refusal> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
    let wait = seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    wait.ok_or(Refusal::Malformed("wait is a number of seconds".into()))
}

fn types(text: &str) -> Result<Vec<String>, Refusal> {
    let types: Vec<_> = text.split(',').map(|pattern| pattern.trim().to_owned()).collect();
    if types.len() > MAX_PATTERNS {
        return Err(Refusal::Malformed(format!("at most {MAX_PATTERNS} patterns in types").into()));
    }
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_WAIT: Duration = Duration::from_secs(30);

    fn rooms() -> Vec<RoomName> {
        ["a", "b c"].map(|name| RoomName::parse(name).expect("valid")).to_vec()
    }

    fn resume(query: &str, last_event_id: Option<&str>) -> Vec<(String, String)> {
        Ask::parse(query, last_event_id, MAX_WAIT).expect("good").resume(&rooms()).into_iter().collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(room, cursor)| ((*room).to_owned(), (*cursor).to_owned())).collect()
    }

    #[test]
    fn cursors_come_for_one_room_or_for_all_and_the_last_event_counts_first() {
        assert_eq!(resume("room=a&after=x%3A1", None), pairs(&[("a", "x:1"), ("b c", "x:1")]));
        assert_eq!(
            resume("after=a%3Dx%3A1%26b%2520c%3Dy%26other%3Dz", None),
            pairs(&[("a", "x:1"), ("b c", "y")])
        );
        assert_eq!(resume("after=a%3Dx", Some("a=y")), pairs(&[("a", "y")]));
        assert_eq!(resume("room=a&after=x", Some("a=y")), pairs(&[("a", "y")]));
        assert_eq!(resume("after=", None), []);
        assert_eq!(resume("after=nonsense", None), pairs(&[("a", "?"), ("b c", "?")]));
    }

    #[test]
    fn parameters_are_bounded_and_understood_or_refused() {
        let ask = |query: &str| Ask::parse(query, None, MAX_WAIT);
        assert_eq!(ask("wait=2.5&types=a.*,b").expect("good").wait, Duration::from_millis(2_500));
        assert_eq!(ask("wait=1e300").expect("good").wait, MAX_WAIT);
        assert_eq!(ask("types=a.*,%20b").expect("good").types, Some(vec!["a.*".to_owned(), "b".to_owned()]));
        assert_eq!(ask("room=&room=a&x=1&x=2").expect("good").room, Some("a".to_owned()));
        for query in
            ["room=a&room=a", "after=a&aft%65r=b", "access_token=a&access_token=b", "types=a&types=b"]
        {
            assert_eq!(ask(query).expect_err(query).code(), "malformed");
        }
        for query in ["wait=-1", "wait=soon", "wait=NaN", &format!("types={}", ",".repeat(MAX_PATTERNS))] {
            assert_eq!(ask(query).expect_err(query).code(), "malformed");
        }
    }
}
