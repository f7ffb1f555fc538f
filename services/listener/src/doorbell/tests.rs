//! The doorbell between a model of PostgreSQL's transactions and a leader whose statements are cut into their moments:
//! snapshot, looking at the bell, setting it, the answer. Time is virtual.
//!
//! The oracle: whenever the leader believes that every unread commit will ring, no transaction that found the bell
//! silent is unread.

use super::*;

const SLOWEST: Duration = Duration::from_millis(400);

struct Tx {
    id: u64,
    inserted: bool,
    /// What it found when it looked at the bell.
    rings: Option<bool>,
    running: bool,
}

/// Where the leader's statement is.
enum Step {
    Due,
    Snapshot { sent: Instant, ring: Ring, seen: Snapshot },
    Looked { sent: Instant, ring: Ring, seen: Snapshot, millis: i64, found: Bell },
    Asking,
    Asked(Vec<u64>),
}

struct World {
    start: Instant,
    millis: i64,
    doorbell: Doorbell,
    bell_until: i64,
    txs: Vec<Tx>,
    next: u64,
    read: Snapshot,
    step: Step,
    rung: u64,
    slept: usize,
    random: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let start = Instant::now();
        let mut world = Self {
            start,
            millis: 1_000_000,
            doorbell: Doorbell::new(start, true, SLOWEST),
            bell_until: 0,
            txs: Vec::new(),
            next: 100,
            read: Snapshot::below(100),
            step: Step::Due,
            rung: 0,
            slept: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        };
        world.doorbell.on_redis(true);
        world
    }

    fn chance(&mut self, of: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % of
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(u64::try_from(self.millis - 1_000_000).unwrap())
    }

    fn begin(&mut self) -> usize {
        self.txs.push(Tx { id: self.next, inserted: false, rings: None, running: true });
        self.next += 1;
        self.txs.len() - 1
    }

    fn insert(&mut self, tx: usize) {
        self.txs[tx].inserted = true;
    }

    /// What `rowcast.ring` does. It comes after the insertion; a transaction that once rang rings.
    fn look(&mut self, tx: usize) {
        let rings = (1..=FARTHEST_MILLIS).contains(&(self.bell_until - self.millis));
        let tx = &mut self.txs[tx];
        tx.rings = Some(tx.rings.unwrap_or(false) || rings);
    }

    fn commit(&mut self, tx: usize) {
        self.txs[tx].running = false;
        self.rung += u64::from(self.txs[tx].rings == Some(true));
    }

    fn snapshot(&self) -> Snapshot {
        let running: Vec<u64> = self.txs.iter().filter(|tx| tx.running).map(|tx| tx.id).collect();
        Snapshot { xmin: running.first().copied().unwrap_or(self.next), xmax: self.next, running }
    }

    /// The next moment of the leader's.
    fn lead(&mut self) {
        self.step = match std::mem::replace(&mut self.step, Step::Due) {
            Step::Due => {
                let sent = self.now();
                Step::Snapshot { sent, ring: self.doorbell.order(sent), seen: self.snapshot() }
            }
            Step::Snapshot { sent, ring, seen } => {
                let found = Bell { left_millis: self.bell_until - self.millis, queue: 0.0 };
                Step::Looked { sent, ring, seen, millis: self.millis, found }
            }
            Step::Looked { sent, ring, seen, millis, found } => {
                match ring {
                    Ring::Leave => {}
                    Ring::Off => self.bell_until = 0,
                    Ring::For(ahead) => self.bell_until = millis + i64::from(ahead),
                }
                self.answer(sent, seen, found)
            }
            Step::Asking => {
                let writers = self.txs.iter().filter(|tx| tx.running && tx.inserted).map(|tx| tx.id);
                Step::Asked(writers.collect())
            }
            Step::Asked(writers) => {
                self.doorbell.on_writers(self.now(), writers);
                Step::Due
            }
        }
    }

    fn answer(&mut self, sent: Instant, seen: Snapshot, found: Bell) -> Step {
        self.doorbell.on_answer(sent, self.now(), found);
        let fresh = self.txs.iter().filter(|tx| tx.inserted && seen.sees(tx.id) && !self.read.sees(tx.id));
        let count = fresh.count() as u64;
        self.read = seen;
        self.doorbell.on_read(sent, &self.read, count, std::mem::take(&mut self.rung));
        self.check();
        if self.doorbell.wants_writers() { Step::Asking } else { Step::Due }
    }

    fn check(&mut self) {
        if !self.doorbell.rings() {
            return;
        }
        self.slept += 1;
        for tx in &self.txs {
            assert!(
                tx.rings != Some(false) || self.read.sees(tx.id),
                "the leader sleeps, and {} will not ring",
                tx.id
            );
        }
    }

    fn read_once(&mut self) {
        loop {
            self.lead();
            if matches!(self.step, Step::Due) {
                return;
            }
        }
    }

    fn until_it_sleeps(&mut self) {
        for _ in 0..200 {
            if self.doorbell.state == State::Rings {
                return;
            }
            self.read_once();
            self.millis += 5;
        }
        panic!("it never sleeps: {:?}", self.doorbell);
    }
}

#[test]
fn a_transaction_that_found_it_silent_and_commits_late_keeps_the_leader_reading() {
    let mut world = World::new(1);
    let late = world.begin();
    world.insert(late);
    world.look(late);
    for _ in 0..50 {
        world.read_once();
        assert!(!world.doorbell.rings());
        assert!(world.doorbell.interval(world.now()) <= BUSY, "within milliseconds");
        world.millis += 5;
    }
    world.commit(late);
    assert_eq!(world.rung, 0, "nobody rings for it");
    world.read_once();
    assert!(world.read.sees(100), "the next read has it");
    assert!(world.doorbell.rings(), "and it sleeps from then on");
    assert_eq!(world.doorbell.interval(world.now()), PROOF_INTERVAL);
}

#[test]
fn a_transaction_that_ends_between_snapshot_and_question_is_read_before_the_leader_sleeps() {
    for moment in 0..6 {
        let mut world = World::new(1);
        let late = world.begin();
        world.insert(late);
        world.look(late);
        for _ in 0..moment {
            world.lead();
        }
        world.commit(late);
        world.until_it_sleeps();
        assert!(world.read.sees(100), "moment {moment}");
    }
}

#[test]
fn one_that_writes_nothing_or_never_ends_elsewhere_holds_up_nothing() {
    let mut world = World::new(1);
    world.begin();
    world.until_it_sleeps();
}

#[test]
fn a_bell_that_ran_out_while_the_leader_was_held_up_is_found_out() {
    let mut world = World::new(1);
    world.until_it_sleeps();
    let late = world.begin();
    world.millis += 3_100;
    world.insert(late);
    world.look(late);
    assert_eq!(world.txs[late].rings, Some(false));
    world.read_once();
    assert!(!world.doorbell.rings());
    world.commit(late);
    world.until_it_sleeps();
    assert!(world.read.sees(100));
}

#[test]
fn nobody_rings_while_redis_is_away_or_the_queue_is_full() {
    let mut world = World::new(1);
    world.until_it_sleeps();
    assert!(world.doorbell.on_redis(false));
    world.read_once();
    assert_eq!((world.bell_until, world.doorbell.rings()), (0, false));
    assert_eq!(world.doorbell.interval(world.now()), PROOF_INTERVAL);
    assert!(world.doorbell.on_redis(true) && !world.doorbell.on_redis(true));
    world.until_it_sleeps();

    let (sent, full) = (world.now(), Bell { left_millis: 2_000, queue: 0.26 });
    assert_eq!(world.doorbell.order(sent), Ring::Leave);
    world.doorbell.on_answer(sent, sent, full);
    assert_eq!(world.doorbell.order(sent), Ring::Off);
    world.doorbell.on_answer(sent, sent, Bell { left_millis: 2_000, queue: 0.24 });
    assert!(world.doorbell.interval(sent) <= SLOWEST, "it reads on a timer");
    assert_eq!(world.doorbell.order(sent), Ring::Leave, "not yet free enough");
    world.doorbell.on_answer(sent, sent, Bell { left_millis: 0, queue: 0.1 });
    assert!(matches!(world.doorbell.order(sent), Ring::For(_)));
}

#[test]
fn above_500_commits_a_second_it_is_silenced_and_below_250_set_again() {
    let mut world = World::new(1);
    world.until_it_sleeps();
    let commits = |world: &mut World, a_second: i64, millis: i64| {
        let end = world.millis + millis;
        while world.millis < end {
            for _ in 0..a_second / 100 {
                let tx = world.begin();
                world.insert(tx);
                world.look(tx);
                world.commit(tx);
            }
            world.read_once();
            world.millis += 10;
        }
    };
    commits(&mut world, 400, 2_000);
    assert!(world.doorbell.rings());
    commits(&mut world, 700, 400);
    assert_eq!((world.doorbell.rings(), world.bell_until), (false, 0));
    let now = world.now();
    assert!(world.doorbell.interval(now) <= EMPTY);
    commits(&mut world, 400, 2_000);
    assert!(!world.doorbell.rings(), "in between it stays as it is");
    commits(&mut world, 200, 1_500);
    assert!(world.doorbell.rings());
}

/// Reads as the reader does, for so long, and returns how often.
fn reads_on_its_timer(world: &mut World, millis: i64) -> usize {
    let (end, mut reads) = (world.millis + millis, 0);
    while world.millis < end {
        world.read_once();
        reads += 1;
        let now = world.now();
        world.millis += i64::try_from(world.doorbell.interval(now).as_millis()).unwrap().max(1);
    }
    reads
}

#[test]
fn where_nobody_rings_it_reads_often_after_a_row_and_at_most_three_times_a_second_when_idle() {
    let mut world = World::new(1);
    world.doorbell.rings_by_default = false;
    world.until_it_sleeps();
    assert!(!world.doorbell.rings(), "nobody is asked to");
    assert!(world.doorbell.heeds_rings(), "but who does it is heard");
    for _ in 0..2 {
        let tx = world.begin();
        world.insert(tx);
        world.commit(tx);
        world.read_once();
        assert_eq!(world.doorbell.interval(world.now()), BUSY);
        assert!(reads_on_its_timer(&mut world, 1_000) >= 80, "in the second after a row");
        reads_on_its_timer(&mut world, 3_000);
        assert!(world.doorbell.interval(world.now()) <= Duration::from_millis(50), "a hundredth of the time");
        reads_on_its_timer(&mut world, 60_000);
        let idle = reads_on_its_timer(&mut world, 60_000);
        assert!((120..=180).contains(&idle), "{idle} reads in an idle minute");
    }
}

#[test]
fn one_that_stays_open_for_hours_is_waited_for_at_leisure_and_others_ring() {
    let mut world = World::new(1);
    let late = world.begin();
    world.insert(late);
    world.look(late);
    reads_on_its_timer(&mut world, 120_000);
    let idle = reads_on_its_timer(&mut world, 60_000);
    assert!((120..=180).contains(&idle), "{idle} reads in an idle minute");
    assert!(!world.doorbell.rings() && world.doorbell.heeds_rings());
    let other = world.begin();
    world.insert(other);
    world.look(other);
    assert_eq!(world.txs[other].rings, Some(true));
    world.commit(late);
    world.until_it_sleeps();
    assert!(world.read.sees(100));
}

#[test]
fn under_any_schedule_the_leader_sleeps_only_when_all_unread_commits_will_ring() {
    let mut slept = 0;
    for seed in 1..3_000 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            match world.chance(100) {
                0..12 if world.txs.iter().filter(|tx| tx.running).count() < 5 => drop(world.begin()),
                12..40 if !world.txs.is_empty() => {
                    let of = world.txs.len() as u64;
                    let tx = usize::try_from(world.chance(of)).unwrap();
                    match (world.txs[tx].running, world.txs[tx].inserted, world.txs[tx].rings) {
                        (false, ..) => {}
                        (true, false, _) => world.insert(tx),
                        (true, true, None) => world.look(tx),
                        (true, true, Some(_)) => world.commit(tx),
                    }
                }
                40..90 => world.lead(),
                90..98 => world.millis += i64::try_from(world.chance(30)).unwrap(),
                98 => {
                    let takes = seed % 3 > 0 && world.chance(3) > 0;
                    world.doorbell.on_redis(takes);
                }
                99 => world.millis += i64::try_from(world.chance(4_000)).unwrap(),
                _ => {}
            }
        }
        slept += world.slept;
        // Faults end, and everyone does what was begun.
        world.doorbell.on_redis(true);
        for tx in 0..world.txs.len() {
            if world.txs[tx].running {
                if world.txs[tx].inserted {
                    world.look(tx);
                }
                world.commit(tx);
            }
        }
        world.until_it_sleeps();
    }
    assert!(slept > 10_000, "schedules in which it hardly sleeps show nothing: {slept}");
}
