//! What HTTP requests bring: queries, `Last-Event-ID`, `Origin`.

use std::time::Duration;

use actix_http::header::{self, HeaderMap, HeaderValue};
use rowcast_edge::http::ask::Ask;
use rowcast_edge::http::origins::{Judgement, Origins};
use rowcast_protocol::RoomName;
use rowcast_protocol::filter::MAX_PATTERNS;

const MAX_WAIT: Duration = Duration::from_secs(30);

/// A query, and behind a line break the `Last-Event-ID`. What is asked for is bounded, and rooms are resumed that exist.
pub fn ask(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (query, id) = match text.split_once('\n') {
        Some((query, id)) => (query, Some(id)),
        None => (&*text, None),
    };
    let Ok(ask) = Ask::parse(query, id, MAX_WAIT) else { return };
    assert!(ask.wait <= MAX_WAIT);
    assert!(ask.types.as_ref().is_none_or(|types| types.len() <= MAX_PATTERNS));
    assert!(ask.room.as_ref().is_none_or(|room| !room.is_empty()));
    let rooms = ["m1", "a b&c"].map(|name| RoomName::parse(name).expect("a room's name"));
    let resumed = ask.resume(&rooms);
    assert!(resumed.keys().all(|name| rooms.iter().any(|room| room.as_str() == name)));
    assert!(resumed.values().all(|cursor| !cursor.is_empty()));
}

/// An `Origin`: what is allowed is what a plain reading of the list allows. Lists are read without a panic.
pub fn origin(data: &[u8]) {
    let list = ["https://app.example.com", "https://*.shop.test:8443"].map(str::to_owned);
    let origins = Origins::parse(&list).expect("a list");
    if let Ok(value) = HeaderValue::from_bytes(data) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, value.clone());
        let expected = std::str::from_utf8(data).is_ok_and(allowed);
        match origins.judge(&headers) {
            Judgement::Allowed(told) => assert!(expected && told == value, "{value:?} is allowed"),
            Judgement::Refused => assert!(!expected, "{value:?} is refused"),
            Judgement::NotJudged => panic!("there is a list and an origin"),
        }
    }
    let text = String::from_utf8_lossy(data).into_owned();
    if let Err(fault) = Origins::parse(&[text]) {
        assert!(fault.contains("https://*.example.com"), "{fault}");
    }
}

fn allowed(origin: &str) -> bool {
    let origin = origin.to_ascii_lowercase();
    let Some(host) = origin.strip_prefix("https://") else { return false };
    let Some(name) = host.strip_suffix(".shop.test:8443") else { return host == "app.example.com" };
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}
