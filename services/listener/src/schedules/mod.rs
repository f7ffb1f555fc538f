//! Thousands of seeded schedules over reading, publishing and deleting: the listener's own state machines between a
//! model of PostgreSQL (late commits, a floor) and one of Redis (the scripts' semantics, links that break and deliver
//! late), with leaders that lose the lock and go on for a while.
//!
//! The oracle: every committed change is in its room's log, none twice in one stream, those of one object in the order
//! in which they took effect, and no leader appends after a newer one has. Streams change only where history was lost, and
//! after a flush none is begun before the generation was raised. What a heartbeat tells of switches stands in Redis.

mod postgres;
mod random;
mod redis;
mod world;

use std::collections::{HashMap, HashSet};

use world::{Faults, World};

/// Runs one schedule to its end, and then without faults until nothing is left to do.
fn run(seed: u64, faults: Faults, steps: usize) -> World {
    let mut world = World::new(seed, faults);
    for _ in 0..steps {
        world.step();
    }
    world.finish();
    world
}

fn check(seed: u64, world: &World) {
    let mut published = HashSet::new();
    for room in world.redis.rooms() {
        let mut epoch = 0;
        let mut streams: Vec<u64> = Vec::new();
        let mut versions: HashMap<(u64, u64), u64> = HashMap::new();
        let mut ids = HashSet::new();
        for entry in world.redis.history(room) {
            if streams.last() != Some(&entry.stream) {
                assert!(!streams.contains(&entry.stream), "seed {seed}: {room} went back to a stream");
                streams.push(entry.stream);
                // Keys that vanish take the fence with them.
                epoch = if world.faults().history_is_lost { 0 } else { epoch };
            }
            assert!(entry.epoch >= epoch, "seed {seed}: an old leader appended to {room} after a newer one");
            epoch = entry.epoch;
            assert!(ids.insert((entry.stream, entry.id)), "seed {seed}: {room} has {} twice", entry.id);
            published.insert(entry.id);
            let change = world.postgres.change(entry.id.row);
            assert_eq!(change.room, *room, "seed {seed}: an event in another's room");
            let before = versions.insert((entry.stream, change.object), change.version);
            assert!(
                before < Some(change.version),
                "seed {seed}: {room} object {} out of order",
                change.object
            );
        }
        if !world.faults().history_is_lost {
            assert_eq!(streams.len(), 1, "seed {seed}: {room} was renewed for no reason");
        }
    }
    for id in world.postgres.committed() {
        assert!(published.contains(&id), "seed {seed}: {id} is lost");
    }
    assert!(!published.is_empty(), "seed {seed}: nothing happened");
}

#[test]
fn under_any_schedule_of_faults_each_change_is_published_once_and_in_order() {
    for seed in 0..2_000 {
        check(seed, &run(seed, Faults::default(), 400));
    }
}

#[test]
fn reading_in_small_windows_while_leaders_change_loses_and_doubles_nothing() {
    for seed in 10_000..12_000 {
        check(seed, &run(seed, Faults { small_pages: true, ..Faults::default() }, 400));
    }
}

#[test]
fn logs_that_expire_and_keys_that_vanish_end_streams_and_never_double_within_one() {
    for seed in 20_000..22_000 {
        let faults = Faults { history_is_lost: true, small_pages: seed % 2 == 0, ..Faults::default() };
        check(seed, &run(seed, faults, 400));
    }
}

#[test]
fn rooms_that_are_read_apart_lose_and_double_nothing_and_keep_their_order() {
    for seed in 30_000..30_400 {
        let faults = Faults { small_pages: seed % 2 == 0, large_statements: true, ..Faults::default() };
        check(seed, &run(seed, faults, 800));
    }
}

/// The oracle must be able to fail: these schedules contain what they are meant to.
#[test]
fn the_schedules_contain_takeovers_lost_links_late_commands_and_refusals() {
    let faults = Faults { history_is_lost: true, small_pages: true, ..Faults::default() };
    let mut seen = world::Seen::default();
    for seed in 0..50 {
        seen.add(&run(seed, faults, 400).seen);
    }
    assert!(seen.takeovers > 50 && seen.lost_links > 50 && seen.late_commands > 50, "{seen:?}");
    assert!(seen.moved > 20 && seen.fenced > 20 && seen.refused > 20 && seen.renewed > 5, "{seen:?}");
    assert!(seen.late_commits > 50 && seen.found_in_log > 50 && seen.remembered > 5, "{seen:?}");
    assert!(seen.floors > 50 && seen.raised > 20, "{seen:?}");
    assert!(seen.told > 50 && seen.versions > 3, "{seen:?}");
    let faults = Faults { small_pages: true, large_statements: true, ..Faults::default() };
    for seed in 0..50 {
        seen.add(&run(seed, faults, 800).seen);
    }
    assert!(seen.set_apart > 50 && seen.in_lanes > 500 && seen.past_lanes > 200, "{seen:?}");
}
