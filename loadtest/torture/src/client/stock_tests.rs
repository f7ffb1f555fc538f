//! What a client of Socket.IO writes down: what it is told at its CONNECT, and where it stands in each of its rooms.

use std::sync::Arc;

use clap::Parser as _;

use super::*;
use crate::clock::Clock;
use crate::plan::Plan;

/// The name of the connection that it had.
const BEFORE: &str = r#"40/notifications,{"sid":"s","pid":"before"}"#;

/// A client of the rooms 9, 10 and 11, which had a connection.
fn client() -> Client {
    let plan = Plan::try_parse_from(["torture"]).unwrap();
    let (mut client, _) = Client::new(&plan, 9, String::new(), Arc::from([]), Clock::start());
    client.stock = Some(rowcast_generator::socketio::Stock::default());
    hear(&mut client, BEFORE);
    client
}

fn hear(client: &mut Client, text: &str) {
    let heard = client.stock.as_mut().unwrap().hear(text).unwrap();
    client.heard(heard, text).unwrap();
}

fn connected(resumed: [bool; 3]) -> String {
    let [one, two, three] =
        resumed.map(|resumed| format!(r#"{{"cursor":"1.00000000000000ab:7","resumed":{resumed}}}"#));
    format!(
        r#"42/notifications,["connected",{{"room":"room-9","rooms":{{"room-9":{one},"room-10":{two},"room-11":{three}}}}}]"#
    )
}

fn resync(reason: &str) -> String {
    format!(
        r#"42/notifications,["resync",{{"room":"room-9","cursor":"1.00000000000000ab:7","reason":"{reason}"}},"room-9=1.00000000000000ab:7"]"#
    )
}

#[test]
fn who_is_recovered_goes_on_in_every_room_and_who_is_not_does_not() {
    let after = r#"40/notifications,{"sid":"s","pid":"after"}"#;
    for (answer, resumed, misled) in [
        (BEFORE, [true; 3], 0),
        (after, [true, false, true], 0),
        (after, [false; 3], 0),
        (BEFORE, [true, true, false], 1),
        (BEFORE, [false; 3], 1),
        (after, [true; 3], 1),
    ] {
        let mut client = client();
        hear(&mut client, answer);
        hear(&mut client, &connected(resumed));
        let entries = &client.account.entries;
        let found = entries.iter().filter(|entry| matches!(entry, Entry::Misled { .. })).count();
        assert_eq!((found, entries.len()), (misled, misled), "{answer} {resumed:?}: {entries:?}");
    }
}

#[test]
fn only_who_brings_nothing_for_a_room_may_be_told_to_begin_there() {
    let mut client = client();
    hear(&mut client, &resync(START));
    assert!(client.account.entries.is_empty(), "{:?}", client.account.entries);
    hear(&mut client, &resync(START));
    assert_eq!(client.account.entries.len(), 1);
    // A room that it comes to for another reason is one that it had.
    let mut other = self::client();
    hear(&mut other, &resync("history"));
    assert_eq!(other.account.entries.len(), 1);
}

#[test]
fn a_row_stands_where_the_offset_says_for_its_own_room() {
    let mut client = client();
    let offset = rowcast_protocol::cursors::encode([
        ("room-9", "1.00000000000000ab:7"),
        ("room-10", "1.00000000000000ac:8"),
    ]);
    let row = format!(
        r#"42/notifications,["row.created",{{"id":1,"room":"room-10","version":1,"merchantId":"room-10"}},"{offset}"]"#
    );
    hear(&mut client, &row);
    let [Entry::Event { room: 10, cursor, .. }] = &*client.account.entries else {
        panic!("{:?}", client.account.entries)
    };
    assert_eq!(cursor.to_string(), "1.00000000000000ac:8");
}
