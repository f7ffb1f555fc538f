//! Whoever is counted is counted once, and back again.

use rowcast_process::metrics::Metrics as Registry;
use rowcast_protocol::{Micros, TypeFilter};

use super::*;

fn limits(config: LimitsConfig) -> Arc<Limits> {
    let registry = Registry::new("edge", "test").expect("a registry");
    Limits::new(config, Arc::new(Metrics::new(&registry).expect("metrics")))
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).expect("valid")
}

fn identity(subject: Option<&str>, rooms: &[&str]) -> Identity {
    Identity {
        issuer: None,
        subject: subject.map(str::to_owned),
        token_id: None,
        issued_at: None,
        rooms: rooms.iter().map(|name| room(name)).collect(),
        elsewhere: Vec::new(),
        types: TypeFilter::all(),
        expires_at: Micros(i64::MAX),
    }
}

#[test]
fn clients_are_counted_by_edge_and_by_address_and_a_refusal_takes_nothing() {
    let limits = limits(LimitsConfig { connections: 3, per_address: 2, ..Default::default() });
    let (one, other) = (Some(IpAddr::from([1, 1, 1, 1])), Some(IpAddr::from([2, 2, 2, 2])));
    let mut held: Vec<_> = (0..2).map(|_| limits.enter(one).expect("there is room")).collect();
    assert_eq!(limits.enter(one).err(), Some(Limit::Address));
    assert_eq!(limits.open(), 2, "who was refused is not counted");
    held.push(limits.enter(other).expect("there is room"));
    assert_eq!(limits.enter(None).err(), Some(Limit::Connections));
    held.remove(0);
    held.push(limits.enter(one).expect("one has left"));
    drop(held);
    assert_eq!(limits.open(), 0);
}

#[test]
fn a_user_and_a_room_have_so_many_clients_and_a_refusal_takes_nothing() {
    let limits = limits(LimitsConfig { per_user: 2, per_room: 3, ..Default::default() });
    let admit = |subject, rooms: &[&str]| limits.admit(&identity(subject, rooms));
    let first = admit(Some("a"), &["m1", "m2"]).expect("there is room");
    let _second = admit(Some("a"), &["m1"]).expect("there is room");
    assert_eq!(admit(Some("a"), &["m9"]).err(), Some(Limit::User));
    let nobody = admit(None, &["m1"]).expect("who has no name is not counted by it");
    assert_eq!(admit(Some("b"), &["m2", "m3", "m1"]).err(), Some(Limit::Room));
    // Had the refused one kept m2 or its user's place, these would not all fit.
    let kept: Vec<_> = (0..2).map(|_| admit(Some("b"), &["m2"]).expect("there is room")).collect();
    drop((first, nobody));
    admit(Some("a"), &["m1", "m3"]).expect("they have left");
    drop(kept);
}

#[test]
fn a_refresh_changes_rooms_as_a_whole_or_not_at_all() {
    let limits = limits(LimitsConfig { per_room: 1, ..Default::default() });
    let mut mine = limits.admit(&identity(None, &["m1"])).expect("there is room");
    let theirs = limits.admit(&identity(None, &["m2"])).expect("there is room");
    assert_eq!(mine.change(&[room("m3"), room("m2")]), Err(Limit::Room));
    drop(limits.admit(&identity(None, &["m3"])).expect("m3 was given back"));
    assert_eq!(limits.admit(&identity(None, &["m1"])).err(), Some(Limit::Room), "m1 is kept");
    drop(theirs);
    mine.change(&[room("m2"), room("m3")]).expect("there is room");
    drop(limits.admit(&identity(None, &["m1"])).expect("m1 was left"));
    drop(mine);
    limits.admit(&identity(None, &["m1", "m2", "m3"])).expect("all were left");
}

#[test]
fn what_is_counted_is_counted_back_after_a_panic() {
    let limits = limits(LimitsConfig { connections: 1, per_user: 1, per_room: 1, ..Default::default() });
    let inner = Arc::clone(&limits);
    let panicked = std::thread::spawn(move || {
        let _open = inner.enter(None).expect("there is room");
        let _held = inner.admit(&identity(Some("a"), &["m1"])).expect("there is room");
        panic!("as tests do");
    });
    assert!(panicked.join().is_err());
    limits.enter(None).expect("the place is free");
    limits.admit(&identity(Some("a"), &["m1"])).expect("the places are free");
}

#[test]
fn an_address_that_knocks_too_often_takes_nothing_from_the_others() {
    let limits = limits(LimitsConfig { handshakes: 10, handshakes_per_address: 2, ..Default::default() });
    let (loud, now) = (Some(IpAddr::from([1, 1, 1, 1])), Instant::now());
    let results: Vec<_> = (0..100).map(|_| limits.knock(loud, now)).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
    assert!(results.iter().all(|result| !matches!(result, Err(Limit::Handshakes))));
    let others = (0..20).filter(|n| limits.knock(Some(IpAddr::from([2, 2, 2, *n])), now).is_ok());
    assert_eq!(others.count(), 8, "of ten a second, two were the loud one's");
}

#[test]
fn each_limit_names_itself_and_fits_into_a_close_frame() {
    let labels: std::collections::HashSet<_> = Limit::ALL.iter().map(|limit| limit.label()).collect();
    assert_eq!(labels.len(), Limit::ALL.len());
    for limit in Limit::ALL {
        assert!(limit.reason().starts_with(&format!("{}: ", limit.label())) && limit.reason().len() <= 123);
    }
}
