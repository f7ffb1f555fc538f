//! What clients say over a socket.

use rowcast_protocol::client::MAX_RESUMED_ROOMS;
use rowcast_protocol::filter::MAX_PATTERNS;
use rowcast_protocol::report::{MAX_AGES, MAX_RECONNECTS};
use rowcast_protocol::{ClientMessage, Report, TypeFilter};
use serde_json::{Value, json};

/// A message is bounded, is what any other reader of JSON takes it for, and comes back from its own fields; a refusal fits
/// a close frame.
pub fn client_message(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let message = match ClientMessage::parse(text) {
        Ok(message) => message,
        Err(refusal) => {
            let refusal = refusal.to_string();
            return assert!(refusal.len() <= 123, "it does not fit a close frame: {refusal}");
        }
    };
    let plain: Value = serde_json::from_str(text).expect("what was taken for a message is JSON");
    match message {
        ClientMessage::Ping => assert_eq!(plain["op"], "ping"),
        ClientMessage::Refresh { token } => {
            assert_eq!((&plain["op"], &plain["token"]), (&json!("refresh"), &json!(token)));
        }
        ClientMessage::Auth(auth) => {
            assert!(auth.resume.len() <= MAX_RESUMED_ROOMS);
            assert!(auth.types.as_ref().is_none_or(|types| types.len() <= MAX_PATTERNS));
            assert_eq!((&plain["op"], &plain["token"]), (&json!("auth"), &json!(auth.token)));
            let resume = plain.get("resume").cloned().unwrap_or(json!({}));
            assert_eq!(resume, json!(auth.resume));
            assert_eq!(
                plain.get("types").filter(|types| !types.is_null()),
                auth.types.map(|types| json!(types)).as_ref()
            );
            assert_eq!(plain.get("report").filter(|report| !report.is_null()), auth.report.as_ref());
        }
    }
}

/// A report is within its bounds, whatever the client says of itself.
pub fn report(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    let Ok(report) = Report::judge(&value) else { return };
    assert!(value.is_object());
    assert!(
        report.reconnects.len() <= MAX_RECONNECTS
            && report.ages.len() <= MAX_AGES
            && report.states.len() <= 4
    );
    let times = report.reconnects.iter().chain(&report.ages);
    assert!(times.into_iter().all(|seconds| (0.0..=3_600.0).contains(seconds)), "{report:?}");
    assert!(report.states.iter().all(|(_, seconds)| (0.0..=30.0 * 86_400.0).contains(seconds)), "{report:?}");
    assert!(report.refreshes_ok <= 1_000 && report.refreshes_failed <= 1_000, "{report:?}");
}

/// The first line is a type, the others are patterns: the filter takes what a plain comparison takes.
pub fn type_filter(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let event_type = lines.next().unwrap_or_default();
    let patterns: Vec<&str> = lines.collect();
    let filter = TypeFilter::of(&patterns);
    let expected = patterns.iter().any(|pattern| match pattern.chars().next_back() {
        Some('*') => event_type.as_bytes().starts_with(&pattern.as_bytes()[..pattern.len() - 1]),
        _ => *pattern == event_type,
    });
    assert_eq!(filter.takes(event_type), expected);
    assert!(!filter.is_all() && TypeFilter::all().takes(event_type));
}
