//! What PostgreSQL's notifications are taken for, in plain mode.

use std::sync::LazyLock;

use rowcast_listener::plain::Channels;
use rowcast_protocol::RoomName;
use rowcast_store::Note;
use serde_json::Value;

static CHANNELS: LazyLock<Channels> = LazyLock::new(|| {
    let config = serde_json::json!({
        "channels": [
            "booking_created",
            { "channel": "deep", "room_field": ["/data/merchant.id", "data.merchantId"], "type_field": "kind" },
            { "channel": "fixed", "room": "m1", "type": "booking.changed" },
        ],
    });
    Channels::new(&serde_json::from_value(config).expect("a configuration"))
});

/// Whatever a payload is, what comes of it has a usable room and a type that the database would take, and both stand in the
/// payload or in the configuration.
pub fn notification(data: &[u8]) {
    let Ok(payload) = std::str::from_utf8(data) else { return };
    for channel in ["booking_created", "deep", "fixed", "stranger"] {
        let note = Note { channel: channel.to_owned(), payload: payload.to_owned() };
        let Ok(event) = CHANNELS.decode(&note) else { continue };
        assert_ne!(channel, "stranger");
        let plain: Value = serde_json::from_str(payload).expect("what was taken is JSON");
        assert!(plain.is_object());
        assert!(RoomName::parse(&event.room).is_ok(), "{event:?}");
        let type_ = &event.event_type;
        assert!((1..=150).contains(&type_.len()) && !type_.chars().any(char::is_control), "{event:?}");
        assert!(!type_.starts_with("rowcast.") && type_ != "connect", "{event:?}");
        if channel == "booking_created" {
            let room =
                plain.get("merchantId").or_else(|| plain.get("data").and_then(|data| data.get("merchantId")));
            let named = [&plain, &plain["data"]].map(|at| at.get("merchantId").map(spelled));
            assert!(named.contains(&Some(event.room.clone())), "{room:?} and not {event:?}");
        }
    }
}

fn spelled(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
