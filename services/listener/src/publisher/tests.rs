//! What the publisher promises beyond the seeded schedules (`crate::schedules`).

use std::time::Duration;

use rowcast_bus::Head;
use rowcast_protocol::{EventId, Offset, StreamId};

use super::*;

const LIMITS: Limits = Limits {
    max_rows: 5_000,
    batch_commands: 100,
    batch_bytes: 1 << 20,
    event_bytes: 1_000,
    log_entries: 100,
    rooms: 10,
};

fn publisher(limits: Limits) -> Publisher {
    let mut next = 0;
    let mut publisher = Publisher::new(
        Epoch(7),
        limits,
        Box::new(move || {
            next += 1;
            next
        }),
    );
    publisher.caught_up();
    publisher
}

fn row(id: i64, room: &str, now: Instant) -> Row {
    Row {
        id: EventId { row: id, occurred_at: 0 },
        round: 1,
        room: room.to_owned(),
        event_type: "x".to_owned(),
        data: "{}".to_owned(),
        changed: None,
        truncated: false,
        visible: Past::at(now),
        written: None,
    }
}

/// A Redis without a fault, in which no room has a head.
fn agree(commands: &[Command]) -> Vec<Reply> {
    let absent = Reply::absent();
    let reply = |command: &Command| match command {
        Command::Sync { .. } => absent.clone(),
        _ => Reply::Done,
    };
    commands.iter().map(reply).collect()
}

fn rooms_of(commands: &[Command]) -> Vec<&str> {
    let room = |command| match command {
        &Command::Sync { ref room, .. }
        | &Command::Append { ref room, .. }
        | &Command::Create { ref room, .. } => Some(room.as_str()),
        Command::Mirror(..) | Command::Check(_) | Command::Heartbeat(_) => None,
    };
    commands.iter().filter_map(room).collect()
}

#[test]
fn a_room_with_many_rows_does_not_hold_up_another() {
    let now = Instant::now();
    let mut publisher = publisher(LIMITS);
    publisher.enqueue((0..2_000).map(|id| row(id, "big", now)));
    publisher.enqueue([row(5_000, "small", now)]);
    let asked = publisher.next_batch(LaneId::FIRST, now, None);
    assert_eq!(rooms_of(&asked), ["big", "small"]);
    publisher.on_replies(LaneId::FIRST, now, agree(&asked));
    let sent = publisher.next_batch(LaneId::FIRST, now, None);
    let place = rooms_of(&sent).iter().position(|room| *room == "small");
    assert_eq!(place, Some(TURN), "after one turn of the other's");
}

#[test]
fn one_batch_is_under_way_and_is_no_larger_than_its_bounds() {
    let now = Instant::now();
    let mut publisher = publisher(LIMITS);
    publisher.enqueue((0..500).map(|id| row(id, &format!("room-{}", id % 7), now)));
    let asked = publisher.next_batch(LaneId::FIRST, now, None);
    assert!(publisher.next_batch(LaneId::FIRST, now, None).is_empty());
    publisher.on_replies(LaneId::FIRST, now, agree(&asked));
    let sent = publisher.next_batch(LaneId::FIRST, now, None);
    assert_eq!(sent.len(), LIMITS.batch_commands);

    let mut narrow = self::publisher(Limits { batch_bytes: 1_000, ..LIMITS });
    narrow.enqueue((0..20).map(|id| row(id, "m", now)));
    let asked = narrow.next_batch(LaneId::FIRST, now, None);
    narrow.on_replies(LaneId::FIRST, now, agree(&asked));
    assert!(narrow.next_batch(LaneId::FIRST, now, None).len() < 5);
}

#[test]
fn rows_of_a_room_that_await_deletion_stay_within_half_its_log() {
    let now = Instant::now();
    let mut publisher = publisher(LIMITS);
    publisher.enqueue((0..300).map(|id| row(id, "m", now)));
    let mut published = Vec::new();
    loop {
        let commands = publisher.next_batch(LaneId::FIRST, now, None);
        if commands.is_empty() {
            break;
        }
        publisher.on_replies(LaneId::FIRST, now, agree(&commands));
        published.extend(publisher.take_published());
    }
    assert_eq!(published.len(), LIMITS.log_entries / 2);
    assert!(publisher.waits_for_deletion(now, &published));
    assert_eq!(publisher.capacity(), LIMITS.max_rows - 300, "published rows count until they are deleted");
    publisher.on_deleted(now, &published);
    assert_eq!(publisher.next_batch(LaneId::FIRST, now, None).len(), LIMITS.log_entries / 2);
}

#[test]
fn idle_rooms_are_forgotten_and_those_with_rows_never() {
    let now = Instant::now();
    let mut publisher = publisher(LIMITS);
    publisher.enqueue([row(0, "busy", now)]);
    for id in 1..200 {
        publisher.enqueue([row(id, &format!("room-{id}"), now)]);
        for _ in 0..2 {
            // The busy one's row is never carried out.
            let commands = publisher.next_batch(LaneId::FIRST, now, None);
            let refuse = |(command, reply): (&Command, Reply)| match rooms_of(std::slice::from_ref(command))[..]
            {
                ["busy"] => Reply::Moved,
                _ => reply,
            };
            let replies = commands.iter().zip(agree(&commands)).map(refuse).collect();
            publisher.on_replies(LaneId::FIRST, now, replies);
        }
        let published = publisher.take_published();
        publisher.on_deleted(now, &published);
    }
    let (rooms, slots) = publisher.rooms.count();
    assert!(rooms <= LIMITS.rooms && slots <= LIMITS.rooms + 1, "{rooms} rooms in {slots} slots");
    assert_eq!(publisher.pending(), 1);
}

#[test]
fn a_newer_leader_stops_it_and_only_a_higher_epoch_starts_it_again() {
    let now = Instant::now();
    let mut publisher = publisher(LIMITS);
    publisher.enqueue([row(1, "m", now)]);
    let commands = publisher.next_batch(LaneId::FIRST, now, None);
    let head = Some(Head { stream: StreamId(9), offset: Offset(4), epoch: Epoch(8) });
    let synced =
        || Reply::Synced { head, since_append: Duration::ZERO, ids: Vec::new(), resyncs: Vec::new() };
    publisher.on_replies(LaneId::FIRST, now, vec![synced(), Reply::Done]);
    assert_eq!(commands.len(), 2, "a question and a check");
    assert_eq!(publisher.fenced(), Some(Epoch(8)));
    assert!(publisher.next_batch(LaneId::FIRST, now, None).is_empty());
    publisher.renew_epoch(Epoch(9));
    let commands = publisher.next_batch(LaneId::FIRST, now, None);
    assert!(matches!(commands[..], [Command::Sync { .. }, Command::Check(Epoch(9))]));
    publisher.on_replies(LaneId::FIRST, now, vec![synced(), Reply::Done]);
    let commands = publisher.next_batch(LaneId::FIRST, now, None);
    assert!(matches!(commands[..], [Command::Append { epoch: Epoch(9), expected: Offset(4), .. }]));
}

/// A room's way until its row is sent: how it begins the room's stream.
fn begins(publisher: &mut Publisher, now: Instant) -> Option<bool> {
    let absent = Reply::absent();
    let commands = publisher.next_batch(LaneId::FIRST, now, None);
    assert!(matches!(commands[..], [Command::Sync { .. }, Command::Check(_)]), "{commands:?}");
    publisher.on_replies(LaneId::FIRST, now, vec![absent, Reply::Done]);
    let commands = publisher.next_batch(LaneId::FIRST, now, None);
    let first = match &commands[..] {
        [Command::Create { stream, .. }] => Some(stream.is_first()),
        _ => None,
    };
    publisher.on_replies(LaneId::FIRST, now, agree(&commands));
    let published = publisher.take_published();
    publisher.on_deleted(now, &published);
    first
}

#[test]
fn a_missing_head_is_believed_only_while_history_is_there() {
    let now = Instant::now();
    let mut publisher = publisher(LIMITS);
    publisher.enqueue([row(1, "m", now)]);
    publisher.next_batch(LaneId::FIRST, now, None);
    let absent = Reply::absent();
    let outcome = publisher.on_replies(LaneId::FIRST, now, vec![absent, Reply::Moved]);
    assert!(outcome.history_gone);
    publisher.forget_heads(LaneId::FIRST);
    assert_eq!(begins(&mut publisher, now), Some(true), "asked for again; a new history begins");
    // One room's keys alone are gone: history goes on, and who has seen nothing of the room may have missed some.
    publisher.enqueue([row(2, "m", now)]);
    let commands = publisher.next_batch(LaneId::FIRST, now, None);
    assert!(matches!(commands[..], [Command::Append { .. }]));
    publisher.on_replies(LaneId::FIRST, now, vec![Reply::Moved]);
    assert_eq!(begins(&mut publisher, now), Some(false), "another stream came before");
}

#[test]
fn what_can_not_be_encoded_is_a_dead_letter_with_a_resync_where_there_is_a_room() {
    let now = Instant::now();
    let mut publisher = publisher(LIMITS);
    let long_type = Row { event_type: "t".repeat(201), ..row(2, "m", now) };
    let large = Row { data: "\"".repeat(1_001), ..row(3, "m", now) };
    publisher.enqueue([row(1, "", now), long_type, large]);
    let mut published = publisher.take_published();
    for _ in 0..3 {
        let commands = publisher.next_batch(LaneId::FIRST, now, None);
        let resync = |command: &Command| match command {
            Command::Create { record, .. } | Command::Append { record, .. } => {
                let record = rowcast_protocol::Record::decode(&record.clone().into()).expect("a record");
                record.kind == rowcast_protocol::RecordKind::Resync && record.fragment.is_empty()
            }
            _ => true,
        };
        assert!(commands.iter().all(resync));
        publisher.on_replies(LaneId::FIRST, now, agree(&commands));
        published.extend(publisher.take_published());
    }
    let reasons: Vec<_> = published.iter().map(|row| (row.id.row, row.poison)).collect();
    let expected =
        [(1, Some("unusable room name")), (2, Some("unusable event type")), (3, Some("event too large"))];
    assert_eq!(reasons, expected);
    publisher.on_deleted(now, &published);
    assert_eq!(publisher.capacity(), LIMITS.max_rows);
}

/// A Cluster of two masters: `a` has the slots up to that one, `b` the rest. The room `foo` has slot 12182.
fn two_masters(last_of_a: u16) -> Topology {
    let nodes = format!(
        "a h:1@2 master - 0 0 1 connected 0-{last_of_a}\nb h:3@4 master - 0 0 1 connected {}-16383\n",
        last_of_a + 1
    );
    Topology::parse_cluster(&nodes).expect("a topology")
}

#[test]
fn a_room_whose_slot_moves_waits_for_what_is_under_way_and_then_goes_by_the_other_lane() {
    let now = Instant::now();
    let mut publisher = publisher(LIMITS);
    publisher.set_topology(two_masters(8_000));
    let (a, b) = (publisher.lane_named("a").unwrap(), publisher.lane_named("b").unwrap());
    publisher.enqueue((1..=2).map(|id| row(id, "foo", now)));
    assert!(publisher.next_batch(a, now, None).is_empty());
    let asked = publisher.next_batch(b, now, None);
    publisher.on_replies(b, now, agree(&asked));
    let under_way = publisher.next_batch(b, now, None);
    assert_eq!(rooms_of(&under_way), ["foo", "foo"]);

    publisher.set_topology(two_masters(13_000));
    publisher.enqueue([row(3, "foo", now)]);
    assert!(publisher.next_batch(a, now, None).is_empty(), "two ways at once have no order");
    publisher.on_replies(b, now, vec![Reply::Done, Reply::Done]);
    assert!(publisher.next_batch(b, now, None).is_empty());
    let commands = publisher.next_batch(a, now, None);
    assert!(matches!(&commands[..], [Command::Append { expected: Offset(2), .. }]), "{commands:?}");
    let refused = Reply::Refused(rowcast_bus::Refusal { code: "MOVED".to_owned(), detail: String::new() });
    publisher.on_replies(a, now, vec![refused]);
    publisher.set_topology(two_masters(8_000));
    let commands = publisher.next_batch(b, now, None);
    assert!(matches!(&commands[..], [Command::Sync { .. }, Command::Check(_)]), "{commands:?}");
}

#[test]
fn rows_of_a_server_that_is_gone_go_where_their_rooms_are_now() {
    let now = Instant::now();
    let mut publisher = publisher(LIMITS);
    publisher.set_topology(two_masters(8_000));
    let b = publisher.lane_named("b").unwrap();
    publisher.enqueue([row(1, "foo", now)]);
    let asked = publisher.next_batch(b, now, None);
    publisher.on_replies(b, now, agree(&asked));
    assert_eq!(publisher.next_batch(b, now, None).len(), 1);
    assert!(publisher.is_waiting());
    publisher.on_link_lost(b, now);
    let nobody = Topology::parse_cluster("a h:1@2 master - 0 0 1 connected 0-8000\n").unwrap();
    publisher.set_topology(nobody);
    let a = publisher.lane_named("a").unwrap();
    assert!(publisher.next_batch(a, now, None).is_empty(), "nobody holds it");
    assert_eq!((publisher.pending(), publisher.lane_named("b")), (1, None));
    publisher.set_topology(two_masters(8_000));
    let again = publisher.lane_named("b").unwrap();
    assert_ne!(again, b, "another lane");
    let asked = publisher.next_batch(again, now, None);
    assert!(matches!(&asked[..], [Command::Sync { .. }, Command::Check(_)]), "it may have been carried out");
    publisher.on_replies(again, now, agree(&asked));
    assert_eq!(publisher.next_batch(again, now, None).len(), 1);
}

#[test]
fn each_server_is_given_the_sheets_and_edges_find_what_stands_on_all() {
    let now = Instant::now();
    let mut publisher = publisher(LIMITS);
    publisher.set_topology(two_masters(8_000));
    let sheet = Mirror { sheet: Sheet::Switches, version: 4, content: "{}".to_owned() };
    assert!(publisher.set_sheet(sheet.clone()) && !publisher.set_sheet(sheet));
    let (a, b) = (publisher.lane_named("a").unwrap(), publisher.lane_named("b").unwrap());
    for (lane, standing) in [(a, 0), (b, 4)] {
        assert!(matches!(&publisher.next_batch(lane, now, None)[..], [Command::Mirror(..)]));
        publisher.on_replies(lane, now, vec![Reply::Done]);
        assert_eq!(publisher.standing(Sheet::Switches), standing);
    }
    publisher.set_topology(Topology::single());
    let main = publisher.lane_named("main").unwrap();
    assert!(
        matches!(&publisher.next_batch(main, now, None)[..], [Command::Mirror(..)]),
        "a new one has none"
    );
}

/// What Redis had acknowledged is gone from it, and the row stands in the outbox still. A leader that died now would leave the next one
/// to find the later row in the log, and not the earlier.
#[test]
fn where_history_went_back_nothing_is_appended_before_what_was_published_is_deleted() {
    let now = Instant::now();
    let mut publisher = publisher(LIMITS);
    publisher.enqueue([row(1, "m", now), row(2, "m", now)]);
    for _ in 0..2 {
        let commands = publisher.next_batch(LaneId::FIRST, now, None);
        publisher.on_replies(LaneId::FIRST, now, agree(&commands));
    }
    let published = publisher.take_published();
    assert_eq!(published.len(), 2);
    publisher.forget_heads(LaneId::FIRST);
    publisher.enqueue([row(3, "m", now)]);
    let asked = publisher.next_batch(LaneId::FIRST, now, None);
    let head = Head { stream: StreamId(1), offset: Offset(1), epoch: Epoch(7) };
    let synced = Reply::Synced {
        head: Some(head),
        since_append: Duration::ZERO,
        ids: vec![EventId { row: 1, occurred_at: 0 }],
        resyncs: Vec::new(),
    };
    assert!(matches!(&asked[..], [Command::Sync { .. }, Command::Check(_)]), "{asked:?}");
    publisher.on_replies(LaneId::FIRST, now, vec![synced, Reply::Done]);
    assert!(publisher.next_batch(LaneId::FIRST, now, None).is_empty());
    assert!(publisher.waits_for_deletion(now, &published), "so it is urgent");
    publisher.on_deleted(now, &published[..1]);
    assert!(publisher.next_batch(LaneId::FIRST, now, None).is_empty());
    publisher.on_deleted(now, &published[1..]);
    let commands = publisher.next_batch(LaneId::FIRST, now, None);
    assert!(matches!(&commands[..], [Command::Append { expected: Offset(1), .. }]), "{commands:?}");
}
