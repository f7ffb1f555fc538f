//! Payloads, good and bad.

use super::*;

fn channels(config: serde_json::Value) -> Channels {
    let config: ListenerConfig = serde_json::from_value(config).expect("a configuration");
    super::super::validate(&config).expect("it fits");
    Channels::new(&config)
}

fn decode(channels: &Channels, channel: &str, payload: &str) -> Result<(String, String, bool), &'static str> {
    let note = Note { channel: channel.to_owned(), payload: payload.to_owned() };
    match channels.decode(&note) {
        Ok(event) => Ok((event.room, event.event_type, event.truncated)),
        Err(refusal) => Err(refusal.reason()),
    }
}

fn event(room: &str, type_: &str) -> Result<(String, String, bool), &'static str> {
    Ok((room.to_owned(), type_.to_owned(), false))
}

#[test]
fn room_and_type_come_from_the_payload_and_a_missing_type_from_the_channel() {
    let channels = channels(serde_json::json!({ "channels": ["bookings", "Booking_INSERT"] }));
    assert_eq!(
        decode(&channels, "bookings", r#"{"merchantId":"m1","type":"booking.new"}"#),
        event("m1", "booking.new")
    );
    assert_eq!(decode(&channels, "bookings", r#"{"merchantId":7}"#), event("7", "bookings"));
    // The generic trigger: the row below `data`, nothing above it.
    let generic = r#"{"operation":"INSERT","table":"Booking","id":1,"data":{"id":1,"merchantId":"m1"}}"#;
    assert_eq!(decode(&channels, "Booking_INSERT", generic), event("m1", "Booking_INSERT"));
    let both = r#"{"merchantId":null,"data":{"merchantId":"m2"},"type":null}"#;
    assert_eq!(decode(&channels, "bookings", both), event("m2", "bookings"));
}

#[test]
fn a_channel_can_have_paths_and_constants_of_its_own() {
    let channels = channels(serde_json::json!({ "channels": [
        { "channel": "a", "room_field": "row.shop", "type_field": ["kind", "/what/a.b"] },
        { "channel": "b", "room": "everyone", "type": "news" },
    ]}));
    assert_eq!(decode(&channels, "a", r#"{"row":{"shop":3},"kind":"x"}"#), event("3", "x"));
    assert_eq!(decode(&channels, "a", r#"{"row":{"shop":3},"what":{"a.b":"y"}}"#), event("3", "y"));
    assert_eq!(decode(&channels, "b", r#"{"id":1}"#), event("everyone", "news"));
    assert_eq!(decode(&channels, "c", "{}"), Err("channel"));
}

#[test]
fn what_can_not_be_an_event_is_refused_with_its_reason() {
    let channels = channels(serde_json::json!({ "channels": ["c"], "max_event_bytes": "200B" }));
    let deep = format!("{}{}", "[".repeat(150), "]".repeat(150));
    let long = format!(r#"{{"merchantId":"{}"}}"#, "m".repeat(300));
    let cases = [
        ("", "malformed"),
        ("hello", "malformed"),
        (r#"{"merchantId":"m1""#, "malformed"),
        (r#"["merchantId"]"#, "malformed"),
        ("7", "malformed"),
        (&deep, "oversize"),
        (&long, "oversize"),
        ("{}", "room"),
        (r#"{"merchantId":null}"#, "room"),
        (r#"{"merchantId":""}"#, "room"),
        (r#"{"merchantId":true}"#, "room"),
        (r#"{"merchantId":1.5}"#, "room"),
        (r#"{"merchantId":123456789012345678901234567890}"#, "room"),
        (r#"{"merchantId":{"id":1}}"#, "room"),
        (r#"{"merchantId":"m1","type":7}"#, "type"),
        (r#"{"merchantId":"m1","type":""}"#, "type"),
        (r#"{"merchantId":"m1","type":"connect"}"#, "type"),
        (r#"{"merchantId":"m1","type":"rowcast.resync"}"#, "type"),
        (r#"{"merchantId":"m1","type":"a\nb"}"#, "type"),
    ];
    for (payload, reason) in cases {
        assert_eq!(decode(&channels, "c", payload), Err(reason), "{payload}");
    }
}

#[test]
fn a_payload_that_calls_itself_too_large_is_a_reference() {
    let channels = channels(serde_json::json!({ "channels": ["c"] }));
    let payload = r#"{"id":1,"merchantId":"m1","error":"payload_too_large"}"#;
    assert_eq!(decode(&channels, "c", payload), Ok(("m1".to_owned(), "c".to_owned(), true)));
}

#[test]
fn wrong_settings_are_refused_by_name() {
    let cases = [
        (serde_json::json!({ "channels": [""] }), "1 to 63 bytes"),
        (serde_json::json!({ "channels": ["x".repeat(64)] }), "1 to 63 bytes"),
        (serde_json::json!({ "channels": ["rowcast"] }), "own channel"),
        (serde_json::json!({ "channels": ["a", { "channel": "a" }] }), "twice"),
        (serde_json::json!({ "channels": [{ "channel": "a", "type": "connect" }] }), "Socket.IO"),
        (serde_json::json!({ "channels": [{ "channel": "a", "room": "" }] }), "empty"),
        (serde_json::json!({ "channels": [{ "channel": "a", "room_field": "a..b" }] }), "no path"),
        (serde_json::json!({ "plain_room_field": [] }), "plain_room_field"),
        (serde_json::json!({ "plain_room_field": "a, b" }), "several are a list"),
    ];
    for (config, words) in cases {
        let read: ListenerConfig = serde_json::from_value(config.clone()).expect("it reads");
        let error = super::super::validate(&read).expect_err("it is wrong").to_string();
        assert!(error.contains(words), "{config}: {error}");
    }
    let unknown = serde_json::json!({ "channels": [{ "channel": "a", "roomfield": "x" }] });
    let error = serde_json::from_value::<ListenerConfig>(unknown).expect_err("it is wrong").to_string();
    assert!(error.contains("room_field"), "{error}");
}

#[test]
fn types_that_clients_of_socket_io_keep_for_themselves_are_those_of_the_migration() {
    let migration = include_str!("../../../../../migrations/V7__reserved_types.sql");
    let list = migration.split("WHEN type IN (").nth(1).and_then(|rest| rest.split(')').next());
    let there: Vec<&str> =
        list.expect("the list").split(',').map(|name| name.trim().trim_matches('\'')).collect();
    assert_eq!(there, RESERVED_TYPES);
    let channels = channels(serde_json::json!({ "channels": ["c"] }));
    for type_ in there {
        let payload = format!(r#"{{"merchantId":"m1","type":"{type_}"}}"#);
        assert_eq!(decode(&channels, "c", &payload), Err("type"), "{type_}");
    }
}
