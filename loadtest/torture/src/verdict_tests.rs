//! The verdict can say no: each breach alone is seen as what it is, and an excuse reaches no further than it may.

use std::collections::HashSet;

use rowcast_protocol::{Generation, Offset};

use super::*;
use crate::journal::{Change, Kind, Outcome, Transaction};
use crate::plan::Class;

fn key(version: i64) -> Key {
    Key { row: 1, version, kind: Kind::Updated }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn cursor(generation: u64, stream: u64, offset: u64) -> Cursor {
    Cursor { generation: Generation(generation), stream: StreamId(stream), offset: Offset(offset) }
}

/// Versions 1 to 9 of one row in room 0, committed a second after each other; 10 was rolled back.
fn truth() -> Truth {
    let transaction = |version: i64| Transaction {
        number: version,
        changes: vec![Change { room: 0, key: key(version) }],
        outcome: if version == 10 { Outcome::RolledBack } else { Outcome::Committed },
        sent: seconds(version.cast_unsigned()),
        known: seconds(version.cast_unsigned()),
    };
    let transactions: Vec<_> = (1..=10).map(transaction).collect();
    Truth::settle(1, &transactions, &(1..=9).collect::<HashSet<i64>>(), false).unwrap()
}

fn event(version: i64, cursor: Cursor) -> Entry {
    Entry::Event { at: seconds(version.cast_unsigned()), room: 0, key: key(version), cursor }
}

fn resync(at: u64, cursor: Cursor) -> Entry {
    Entry::Resync { at: seconds(at), room: 0, cursor, reason: "because".into() }
}

/// Version n at offset n.
fn events(versions: impl IntoIterator<Item = i64>) -> Vec<Entry> {
    versions.into_iter().map(|version| event(version, cursor(1, 2, version.cast_unsigned()))).collect()
}

fn flush(from: u64, to: u64) -> Happened {
    Happened {
        name: "Redis flushed",
        class: Class::Redis,
        text: String::new(),
        hinders_leading: true,
        from: seconds(from),
        to: seconds(to),
    }
}

fn judged(entries: Vec<Entry>, happened: &[Happened]) -> Verdict {
    let account = |number, entries| Account { number, rooms: vec![0], entries, ..Account::default() };
    let accounts = [account(0, entries), account(1, events(1..=9))];
    let verdict = judge(&truth(), &accounts, happened, Positions::default());
    assert_eq!(
        verdict.expected,
        verdict.delivered + verdict.excused + verdict.count(Promise::Lost) as u64,
        "{verdict:?}"
    );
    verdict
}

fn only(verdict: &Verdict, promise: Promise, times: usize) {
    assert_eq!((verdict.count(promise), verdict.breaches.len()), (times, times), "{:?}", verdict.breaches);
}

#[test]
fn all_in_order_breaks_nothing() {
    let verdict = judged(events(1..=9), &[]);
    assert!(verdict.breaches.is_empty() && verdict.delivered == 18, "{verdict:?}");
    assert_eq!(verdict.silence.0, seconds(1));
}

#[test]
fn a_loss_is_seen() {
    only(&judged(events([1, 2, 4, 5, 6, 7, 8, 9]), &[]), Promise::Lost, 1);
}

#[test]
fn a_repeat_is_seen() {
    let mut entries = events(1..=9);
    entries.insert(3, event(3, cursor(1, 2, 3)));
    let verdict = judged(entries, &[]);
    assert_eq!(verdict.count(Promise::Repeated), 1, "{:?}", verdict.breaches);
}

#[test]
fn an_event_behind_a_later_one_is_seen() {
    only(&judged(events([1, 2, 4, 3, 5, 6, 7, 8, 9]), &[]), Promise::OutOfOrder, 1);
}

#[test]
fn two_orders_of_one_room_are_seen() {
    let mut entries = events(1..=9);
    entries[4] = event(5, cursor(1, 2, 6));
    entries[5] = event(6, cursor(1, 2, 7));
    entries.truncate(6);
    let verdict = judged(entries, &[]);
    assert!(verdict.count(Promise::OutOfOrder) > 0, "{:?}", verdict.breaches);
}

#[test]
fn what_was_rolled_back_and_what_is_unknown_is_seen() {
    let mut entries = events(1..=9);
    entries.push(event(10, cursor(1, 2, 10)));
    only(&judged(entries.clone(), &[]), Promise::RolledBack, 1);
    entries[9] = event(77, cursor(1, 2, 10));
    only(&judged(entries.clone(), &[]), Promise::Foreign, 1);
    entries[9] = Entry::Foreign { at: seconds(1), text: "of another room".into() };
    only(&judged(entries, &[]), Promise::Foreign, 1);
}

#[test]
fn what_postgresql_lost_may_have_been_seen_if_a_resync_follows() {
    let transaction = |number: i64, held: bool| Transaction {
        number,
        changes: vec![Change { room: 0, key: key(number) }],
        outcome: if held { Outcome::Committed } else { Outcome::Unknown },
        sent: seconds(number.cast_unsigned()),
        known: seconds(number.cast_unsigned()),
    };
    let transactions = [transaction(1, true), transaction(2, true), transaction(3, false)];
    let truth = Truth::settle(1, &transactions, &HashSet::from([1]), true).unwrap();
    assert_eq!((truth.transactions_lost, truth.events()), (1, 1));
    assert!(Truth::settle(1, &transactions, &HashSet::from([1]), false).is_err());
    let judged = |entries| {
        let account = Account { rooms: vec![0], entries, ..Account::default() };
        let failed_over = Happened { class: Class::Failover, ..flush(4, 5) };
        judge(&truth, &[account], &[failed_over], Positions::default())
    };
    let mut entries = events(1..=3);
    only(&judged(entries.clone()), Promise::RolledBack, 2);
    entries.push(resync(6, cursor(2, 2, 3)));
    let verdict = judged(entries);
    assert_eq!((verdict.breaches.len(), verdict.taken_back), (0, 2), "{:?}", verdict.breaches);
}

#[test]
fn a_resync_needs_a_loss_of_history() {
    let mut entries = events(1..=5);
    entries.push(resync(7, cursor(2, 2, 7)));
    entries.extend([event(8, cursor(2, 2, 8)), event(9, cursor(2, 2, 9))]);
    let kill = Happened { class: Class::Kill, ..flush(5, 6) };
    only(&judged(entries.clone(), &[kill]), Promise::UnexplainedResync, 1);
    only(&judged(entries.clone(), &[flush(8, 9)]), Promise::UnexplainedResync, 1);
    let verdict = judged(entries, &[flush(5, 6)]);
    assert!(verdict.breaches.is_empty() && verdict.excused == 2, "{verdict:?}");
    assert_eq!(verdict.resyncs, BTreeMap::from([(("Redis flushed", "because".to_owned()), 1)]));
}

#[test]
fn a_resync_excuses_nothing_before_what_was_delivered_and_nothing_behind_its_cursor() {
    // 3 is lost before, 6 and 7 are excused, 8 is lost behind.
    let mut entries = events([1, 2, 4, 5]);
    entries.push(resync(7, cursor(1, 2, 7)));
    entries.push(event(9, cursor(1, 2, 9)));
    let verdict = judged(entries, &[flush(5, 6)]);
    only(&verdict, Promise::Lost, 2);
    assert_eq!(verdict.excused, 2);
}

#[test]
fn after_a_resync_an_event_may_come_again_that_redis_had_forgotten() {
    let mut entries = events(1..=9);
    entries.push(resync(10, cursor(2, 2, 8)));
    entries.push(event(9, cursor(2, 2, 9)));
    let verdict = judged(entries, &[flush(9, 10)]);
    assert!(verdict.breaches.is_empty() && verdict.again_behind_resync == 1, "{verdict:?}");
}

#[test]
fn what_nobody_got_is_lost_unless_redis_lost_it() {
    let account = |entries| Account { number: 0, rooms: vec![0], entries, ..Account::default() };
    let judged = |happened: &[Happened]| {
        let mut entries = events(1..=5);
        entries.push(resync(7, cursor(2, 4, 0)));
        entries.extend((7..=9).map(|version| event(version, cursor(2, 4, version.cast_unsigned() - 6))));
        judge(&truth(), &[account(entries)], happened, Positions::default())
    };
    assert_eq!(judged(&[flush(6, 7)]).count(Promise::Lost), 0);
    // Over before it was committed.
    assert_eq!(judged(&[flush(4, 5)]).count(Promise::Lost), 1);
}

#[test]
fn who_had_been_in_a_room_and_is_told_to_begin_there_is_seen() {
    let begin = Entry::Resync { at: seconds(5), room: 0, cursor: cursor(1, 2, 4), reason: "start".into() };
    let mut entries = events(1..=9);
    entries.insert(4, begin);
    // Though Redis had lost its history.
    only(&judged(entries, &[flush(4, 5)]), Promise::UnexplainedResync, 1);
}

#[test]
fn who_was_told_wrongly_that_it_is_recovered_is_seen() {
    let mut entries = events(1..=9);
    entries.push(Entry::Misled { at: seconds(9), text: "recovered: true".into() });
    // A loss of history explains that it is not recovered, never that it is told so.
    only(&judged(entries, &[flush(8, 9)]), Promise::Misled, 1);
}
