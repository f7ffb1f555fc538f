//! What clients of Socket.IO say, and what they are given.

use rowcast_protocol::socketio::{Emit, Packet, Shape};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// A packet is what a plain reading of the protocol takes it for: its kind, namespace and arguments come back from the text.
pub fn socketio_packet(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(packet) = Packet::parse(text) else { return };
    let begins = |prefix: &str| assert!(text.starts_with(prefix), "{packet:?} of {text:?}");
    let behind = |kind: &str, namespace: &str| {
        assert!(namespace.starts_with('/') && !namespace.contains(','), "{namespace:?}");
        let rest = &text[kind.len()..];
        let named = rest.strip_prefix(namespace).filter(|rest| rest.is_empty() || rest.starts_with(','));
        named.map_or(rest, |rest| rest.trim_start_matches(',')).to_owned()
    };
    match &packet {
        Packet::Close => assert_eq!(text, "1"),
        Packet::Alive => assert!(text.starts_with(['3', '5', '6'])),
        Packet::Connect { namespace, auth } => {
            begins("40");
            let plain: Value = serde_json::from_str(&behind("40", namespace)).unwrap_or(json!({}));
            assert_eq!(auth.token.as_deref(), plain["token"].as_str());
            assert_eq!(auth.offset.as_deref(), plain["offset"].as_str());
            assert_eq!(auth.pid.as_deref(), plain["pid"].as_str());
        }
        Packet::Disconnect { .. } => begins("41"),
        Packet::Event { namespace, id, name, argument } => {
            begins("42");
            let rest = behind("42", namespace);
            let digits = rest.find(|one: char| !one.is_ascii_digit()).unwrap_or(rest.len());
            let (number, payload) = rest.split_at(digits);
            assert_eq!(*id, number.parse().ok());
            let shallow: Vec<&RawValue> = serde_json::from_str(payload).expect("an event is JSON");
            assert_eq!(*argument, shallow.get(1).map(|argument| argument.get()));
            // Of numbers beyond all bounds, and of what nests deeper than is read here, nothing more can be said.
            let Ok(plain) = serde_json::from_str::<Vec<Value>>(payload) else { return };
            match &plain[0] {
                Value::String(text) => assert_eq!(text, name),
                other => assert!(other.is_number()),
            }
        }
        Packet::Ack { .. } => begins("43"),
        Packet::Binary { .. } => assert!(text.starts_with("45") || text.starts_with("46")),
    }
}

/// The first line is a type, the rest the data of an event: what is emitted has every field of it, and `type` and
/// `merchantId` besides where it has none of these names; no name is one that would end a client.
pub fn socketio_event(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (event_type, data) = text.split_once('\n').unwrap_or((text, "{}"));
    let name = Value::from(event_type);
    let frame = format!(
        r#"{{"op":"event","room":"m1","cursor":"c","id":"1-0","type":{name},"at":"t","data":{data}}}"#
    );
    let whole: Option<Value> = serde_json::from_str(&frame).ok();
    let Some(emit) = Emit::event(&frame, Shape::Flat) else {
        return;
    };
    let kept = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
    assert!(!kept.contains(&&*emit.name) && emit.name.ends_with(event_type));
    // Of JSON that nests deeper than is read here, nothing more can be said.
    let Some(whole) = whole else { return };
    let payload: Value = serde_json::from_str(&emit.payload).expect("what is emitted is JSON");
    let expected = match &whole["data"] {
        Value::Object(fields) => {
            let mut all = Map::from_iter([("type".to_owned(), name), ("merchantId".to_owned(), json!("m1"))]);
            all.extend(fields.clone());
            // More fields of the frame itself may stand behind the data.
            if whole["truncated"] == true && !fields.contains_key("truncated") {
                all.insert("truncated".to_owned(), true.into());
            }
            Value::Object(all)
        }
        other => other.clone(),
    };
    assert_eq!(payload, expected);
}
