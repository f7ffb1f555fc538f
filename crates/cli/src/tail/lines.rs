//! What `tail` prints, for people and for programs.

use std::time::SystemTime;

use rowcast_protocol::Micros;
use serde_json::{Value, json, value::RawValue};

use crate::client::{Delivery, Event, Step};

/// Turns events into lines.
pub(crate) trait Lines {
    /// The line of an event, if it has one.
    fn line(&mut self, event: &Event) -> Option<String>;
}

/// Lines for people.
pub(crate) struct Text {
    colours: bool,
}

impl Text {
    /// With or without ANSI colours.
    pub fn new(colours: bool) -> Self {
        Self { colours }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn delivery(&self, event: &Delivery, step: Step) -> String {
        let colour = match event.type_.rsplit('.').next() {
            Some("created") => GREEN,
            Some("updated") => YELLOW,
            Some("deleted") => RED,
            _ => CYAN,
        };
        let took = event.latency_ms().map_or_else(|| "?".to_owned(), |ms| format!("{ms:.1} ms"));
        let changed = match &event.changed {
            Some(columns) => format!(" {}", self.paint(DIM, &format!("[{}]", columns.join(", ")))),
            None => String::new(),
        };
        let truncated =
            if event.truncated { self.paint(DIM, " (too large: only a reference)") } else { String::new() };
        let gap = if step == Step::Gap {
            self.paint(RED, "events before this one are missing\n")
        } else {
            String::new()
        };
        format!(
            "{gap}{} {:>9} {} {}{changed} {}{truncated}",
            self.paint(DIM, &clock(event.received_at)),
            took,
            self.paint(BOLD, &printable(&event.room)),
            self.paint(colour, &printable(&event.type_)),
            printable(&one_line(event.data.get())),
        )
    }

    fn note(&self, colour: &str, text: &str) -> String {
        format!("{} {}", self.paint(DIM, &clock(SystemTime::now())), self.paint(colour, text))
    }

    fn light(&self, live: bool, reason: &str) -> String {
        match live {
            true => self.paint(GREEN, "live"),
            false if reason.is_empty() => self.paint(RED, "delayed"),
            false => self.paint(RED, &format!("delayed: {}", printable(reason))),
        }
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

impl Lines for Text {
    fn line(&mut self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Delivery(delivery, step) => self.delivery(delivery, *step),
            Event::Welcome(welcome) => {
                let rooms: Vec<String> = welcome
                    .rooms
                    .iter()
                    .map(|(room, state)| {
                        let resumed = if state.resumed { " (resumed)" } else { "" };
                        format!("{}{resumed}", printable(room))
                    })
                    .collect();
                let light = self.light(welcome.live, "");
                let text =
                    format!("connected to {}; token good until {};", rooms.join(", "), welcome.expires_at);
                format!("{} {light}", self.note(CYAN, &text))
            }
            Event::Resync(resync) => self.note(
                YELLOW,
                &format!(
                    "resync {}: {}; fetch a snapshot, events follow from here",
                    printable(&resync.room),
                    printable(&resync.reason)
                ),
            ),
            Event::Status(status) => {
                let light = self.light(status.live, status.reason.as_deref().unwrap_or_default());
                format!("{} since {}", self.note(DIM, &light), status.since)
            }
            Event::TokenExpiring(seconds) => self.note(DIM, &format!("the token ends in {seconds} s")),
            Event::Refreshed { expires_at } => {
                self.note(DIM, &format!("token renewed, good until {}", printable(expires_at)))
            }
            Event::Bye { code } => self.note(DIM, &format!("the server says goodbye ({code})")),
            Event::Disconnected { reason, retry_in, .. } => self.note(
                RED,
                &format!(
                    "disconnected: {}; next attempt in {:.1} s",
                    printable(reason),
                    retry_in.as_secs_f64()
                ),
            ),
        })
    }
}

/// One JSON object a line, under the names of the wire.
pub(crate) struct Json;

impl Lines for Json {
    fn line(&mut self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Delivery(delivery, step) => return delivery_json(delivery, *step),
            Event::Welcome(welcome) => {
                let rooms: serde_json::Map<String, Value> = welcome
                    .rooms
                    .iter()
                    .map(|(room, state)| {
                        (room.clone(), json!({ "cursor": state.cursor, "resumed": state.resumed }))
                    })
                    .collect();
                json!({
                    "op": "welcome", "session": welcome.session, "rooms": rooms,
                    "expires_at": welcome.expires_at, "live": welcome.live,
                })
            }
            Event::Resync(resync) => {
                json!({ "op": "resync", "room": resync.room, "cursor": resync.cursor, "reason": resync.reason })
            }
            Event::Status(status) => {
                json!({ "op": "status", "live": status.live, "since": status.since, "reason": status.reason })
            }
            Event::TokenExpiring(seconds) => json!({ "op": "token_expiring", "in": seconds }),
            Event::Refreshed { expires_at } => json!({ "op": "refreshed", "expires_at": expires_at }),
            Event::Bye { code } => json!({ "op": "bye", "code": code }),
            Event::Disconnected { reason, code, retry_in } => json!({
                "op": "disconnected", "reason": reason, "code": code,
                "retry_in_ms": u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX),
            }),
        }
        .to_string())
    }
}

fn delivery_json(delivery: &Delivery, step: Step) -> Option<String> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        op: &'static str,
        room: &'a str,
        cursor: &'a str,
        id: &'a str,
        r#type: &'a str,
        at: &'a str,
        received_at: String,
        latency_ms: Option<f64>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        gap: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        changed: Option<&'a [String]>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        truncated: bool,
        data: &'a RawValue,
    }
    // White space of the data's own may hold line breaks, as the column type json keeps it.
    let data = RawValue::from_string(one_line(delivery.data.get())).ok()?;
    let line = Line {
        op: "event",
        room: &delivery.room,
        cursor: &delivery.cursor,
        id: &delivery.id,
        r#type: &delivery.type_,
        at: &delivery.at,
        received_at: Micros::from_system_time(delivery.received_at).to_string(),
        latency_ms: delivery.latency_ms(),
        gap: step == Step::Gap,
        changed: delivery.changed.as_deref(),
        truncated: delivery.truncated,
        data: &data,
    };
    Some(serde_json::to_string(&line).expect("texts, numbers and JSON that was read before"))
}

/// The time of day in UTC, to the millisecond.
fn clock(time: SystemTime) -> String {
    let text = Micros::from_system_time(time).to_string();
    text.get(11..23).unwrap_or(&text).to_owned()
}

/// JSON on one line. Within its texts control characters are escaped, so those found are white space.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r', '\t'], " ")
}

/// Text from elsewhere without control characters, which could move a terminal's cursor or worse. JSON escapes its own.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn delivery() -> Delivery {
        let frame = r#"{"room":"m1","cursor":"c","id":"1-2","type":"booking.updated","at":"1970-01-01T00:00:01.000000Z",
            "changed":["status"],"data":{"id":1,"big":12345678901234567890123}}"#;
        let mut delivery: Delivery = serde_json::from_str(frame).unwrap();
        delivery.received_at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_001_900);
        delivery
    }

    #[test]
    fn a_line_for_people_has_the_time_the_room_the_type_and_the_data() {
        let line = Text::new(false).line(&Event::Delivery(delivery(), Step::Next)).unwrap();
        assert_eq!(
            line,
            r#"00:00:01.001    1.9 ms m1 booking.updated [status] {"id":1,"big":12345678901234567890123}"#
        );
        let coloured = Text::new(true).line(&Event::Delivery(delivery(), Step::Next)).unwrap();
        assert!(coloured.contains("\x1b[33mbooking.updated\x1b[0m"), "{coloured}");
        let gap = Text::new(false).line(&Event::Delivery(delivery(), Step::Gap)).unwrap();
        assert!(gap.contains("missing"), "{gap}");
    }

    #[test]
    fn a_line_for_programs_is_json_with_the_data_as_it_came() {
        let line = Json.line(&Event::Delivery(delivery(), Step::Next)).unwrap();
        assert!(line.contains(r#""data":{"id":1,"big":12345678901234567890123}"#), "{line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["latency_ms"], &value["op"]), (&json!(1.9), &json!("event")));

        let lost = Event::Disconnected {
            reason: "x".to_owned(),
            code: Some(1012),
            retry_in: Duration::from_secs(1),
        };
        let value: Value = serde_json::from_str(&Json.line(&lost).unwrap()).unwrap();
        assert_eq!((&value["code"], &value["retry_in_ms"]), (&json!(1012), &json!(1000)));
    }

    #[test]
    fn data_with_line_breaks_stays_on_one_line() {
        let mut delivery = delivery();
        delivery.data = RawValue::from_string("{\n\t\"a\": \"b\\n\"}".to_owned()).unwrap();
        let event = Event::Delivery(delivery, Step::Next);
        for line in [Text::new(false).line(&event).unwrap(), Json.line(&event).unwrap()] {
            assert!(line.contains(r#"{  "a": "b\n"}"#) && line.lines().count() == 1, "{line}");
        }
    }

    #[test]
    fn what_others_write_cannot_control_the_terminal() {
        let mut delivery = delivery();
        delivery.room = "m\x1b[2J".to_owned();
        let line = Text::new(false).line(&Event::Delivery(delivery, Step::Next)).unwrap();
        assert!(!line.contains('\x1b'), "{line:?}");
    }
}
