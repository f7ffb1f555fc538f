//! One schedule: PostgreSQL, Redis, leaders old and new, and the network between them, one random step at a time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rowcast_bus::{Command, Reply};
use rowcast_protocol::{Epoch, Generation, Mirror, Sheet};
use rowcast_store::reading::Reading;

use super::postgres::Postgres;
use super::random::Random;
use super::redis::{LOG_LIFETIME, Redis};
use crate::core::{Core, Step};
use crate::doorbell::Doorbell;
use crate::election::Leadership;
use crate::publisher::{LaneId, Limits, Publisher};

const LOG_ENTRIES: usize = 12;

/// What may happen besides the usual.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// Logs expire and keys vanish.
    pub history_is_lost: bool,
    /// Reads return little, so that taking over takes many.
    pub small_pages: bool,
    /// Statements write many rows of one room, and leaders stay long enough to read some rooms apart.
    pub large_statements: bool,
}

/// What happened, for the test that schedules are worth something.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub takeovers: usize,
    pub lost_links: usize,
    pub late_commands: usize,
    pub late_commits: usize,
    pub moved: usize,
    pub fenced: usize,
    pub refused: usize,
    pub renewed: usize,
    /// Rows that a question for the head found in the log.
    pub found_in_log: usize,
    /// Marks that were made durable.
    pub floors: usize,
    /// Rooms that began to be read apart; their rows since, and those of others meanwhile.
    pub set_apart: usize,
    pub in_lanes: usize,
    pub past_lanes: usize,
    /// Rows that were read after the log was seen to hold them.
    pub remembered: usize,
    /// Generations that were raised for a flush.
    pub raised: usize,
    /// Heartbeats that told of switches, and of how many versions.
    pub told: usize,
    pub versions: usize,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.takeovers += other.takeovers;
        self.lost_links += other.lost_links;
        self.late_commands += other.late_commands;
        self.late_commits += other.late_commits;
        self.moved += other.moved;
        self.fenced += other.fenced;
        self.refused += other.refused;
        self.renewed += other.renewed;
        self.found_in_log += other.found_in_log;
        self.remembered += other.remembered;
        self.floors += other.floors;
        self.raised += other.raised;
        self.told += other.told;
        self.versions = self.versions.max(other.versions);
        self.set_apart += other.set_apart;
        self.in_lanes += other.in_lanes;
        self.past_lanes += other.past_lanes;
    }
}

/// A process that leads, or believes so.
struct Leader {
    core: Core,
    reading: Reading,
    /// Its session holds the lock.
    holds_lock: bool,
    /// It knows whose history Redis holds, by its link and its claim.
    recognised: bool,
    claimed: Option<Epoch>,
    under_way: VecDeque<Command>,
    /// At which flush of Redis it was sent.
    sent_at: u64,
    replies: Vec<Reply>,
    /// How many of these are of events that were appended.
    appended: usize,
    waiting: bool,
}

pub(super) struct World {
    random: Random,
    faults: Faults,
    start: Instant,
    now: Instant,
    pub postgres: Postgres,
    pub redis: Redis,
    leaders: Vec<Leader>,
    generation: u64,
    /// The version of the switches in PostgreSQL.
    switches: u64,
    /// How often Redis was flushed.
    flushes: u64,
    ever_claimed: bool,
    /// What was sent over links that broke, and may still arrive, each in its order.
    adrift: Vec<VecDeque<Command>>,
    pub seen: Seen,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let start = Instant::now() + Duration::from_secs(1_000_000);
        Self {
            random: Random::new(seed),
            faults,
            start,
            now: start,
            postgres: Postgres::new(),
            redis: Redis::new(LOG_ENTRIES),
            leaders: Vec::new(),
            generation: 1,
            switches: 1,
            flushes: 0,
            ever_claimed: false,
            adrift: Vec::new(),
            seen: Seen::default(),
        }
    }

    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// One thing happens.
    pub fn step(&mut self) {
        self.now += Duration::from_millis(self.random.next() % 20);
        match self.random.below(100) {
            0..8 => self.postgres.begin(),
            8..26 => {
                let now = self.server_now();
                let times = if self.faults.large_statements && self.random.once_in(6) { 60 } else { 1 };
                self.postgres.change_something(&mut self.random, now, times);
            }
            26..34 => self.seen.late_commits += usize::from(self.postgres.end_something(&mut self.random)),
            34..46 => self.with_leader(Self::read),
            46..58 => self.with_leader(Self::send),
            58..80 => self.with_leader(Self::execute),
            80 if self.random.once_in(2) => self.turn_a_switch(),
            80..86 => self.with_leader(Self::clean),
            86..91 => self.late_command(),
            91..94 => self.with_leader(Self::lose_link),
            94..96 if self.faults.large_statements && !self.random.once_in(8) => {}
            94..96 => self.take_over(),
            96 => self.redis.full = !self.redis.full,
            97 => self.redis.scripts_missing = self.random.once_in(2),
            98 if self.faults.large_statements && !self.random.once_in(8) => {}
            98 => self.forget_a_leader(),
            _ => self.lose_history(),
        }
        if self.leaders.is_empty() {
            self.take_over();
        }
    }

    /// No more faults: everything that is committed must get through.
    pub fn finish(&mut self) {
        self.postgres.end_all(&mut self.random);
        self.redis.full = false;
        self.redis.scripts_missing = false;
        for _ in 0..100_000 {
            if self.postgres.is_drained() {
                return;
            }
            self.now += Duration::from_millis(10);
            if !self.leaders.iter().any(|leader| leader.holds_lock) {
                self.take_over();
            }
            match self.random.below(8) {
                0..2 => self.with_leader(Self::read),
                2..4 => self.with_leader(Self::send),
                4..6 => self.with_leader(Self::execute),
                6 => self.with_leader(Self::clean),
                _ => self.late_command(),
            }
        }
        panic!("committed rows are stuck: {:?}", self.seen);
    }

    fn server_now(&self) -> i64 {
        1_700_000_000_000_000 + i64::try_from((self.now - self.start).as_micros()).expect("not that long")
    }

    fn with_leader(&mut self, action: impl Fn(&mut Self, &mut Leader) -> bool) {
        if self.leaders.is_empty() {
            return;
        }
        // The newest does most.
        let last = self.leaders.len() - 1;
        let index = if self.random.once_in(4) { self.random.below(last + 1) } else { last };
        let mut leader = self.leaders.remove(index);
        if action(self, &mut leader) {
            self.leaders.insert(index, leader);
        } else {
            self.adrift.push(leader.under_way);
        }
    }

    /// The next leader gets the lock; the one before may not know.
    fn take_over(&mut self) {
        self.seen.takeovers += 1;
        for leader in &mut self.leaders {
            leader.holds_lock = false;
        }
        let mut chance = Random::new(self.random.next());
        let limits = Limits {
            max_rows: 40,
            batch_commands: 6,
            batch_bytes: 1 << 20,
            event_bytes: 1 << 20,
            log_entries: LOG_ENTRIES,
            rooms: 2,
        };
        let epoch = Epoch(self.postgres.draw_epoch());
        let publisher = Publisher::new(epoch, limits, Box::new(move || chance.next()));
        let mut leadership = Leadership::Standby;
        leadership.elected(self.now);
        let doorbell = Doorbell::new(self.now, true, Duration::from_millis(400));
        let mut core = Core::new(publisher, leadership, doorbell, Generation(self.generation));
        core.mirror(switches(self.switches));
        self.leaders.push(Leader {
            core,
            reading: self.postgres.begin_reading(),
            holds_lock: true,
            recognised: false,
            claimed: None,
            under_way: VecDeque::new(),
            sent_at: 0,
            replies: Vec::new(),
            appended: 0,
            waiting: false,
        });
    }

    /// A switch is turned, and whoever holds the lock is told.
    fn turn_a_switch(&mut self) {
        self.switches += 1;
        for leader in self.leaders.iter_mut().filter(|leader| leader.holds_lock) {
            leader.core.mirror(switches(self.switches));
        }
    }

    /// A process ends; what it sent may still arrive.
    fn forget_a_leader(&mut self) {
        if !self.leaders.is_empty() {
            let index = self.random.below(self.leaders.len());
            let leader = self.leaders.remove(index);
            self.adrift.push(leader.under_way);
        }
    }

    fn read(&mut self, leader: &mut Leader) -> bool {
        if !leader.holds_lock {
            // Its session has ended; it may notice at once or go on with what it has.
            return !self.random.once_in(3);
        }
        let most = if self.faults.small_pages { 3 } else { 20 };
        let limit = leader.core.publisher.capacity().clamp(1, most);
        let (lanes, server_now) = (leader.core.takes_lanes(), self.server_now());
        let page = self.postgres.read(&mut leader.reading, limit, lanes, self.now, server_now);
        let pending = leader.core.publisher.pending();
        let rows = page.rows.len();
        if page.rooms_apart > 0 {
            *(if page.apart { &mut self.seen.in_lanes } else { &mut self.seen.past_lanes }) += rows;
        }
        let asked = leader.core.on_page(self.now, self.now, page, leader.reading.complete());
        let before = leader.reading.rooms_apart();
        leader.reading.set_apart(asked.apart);
        self.seen.set_apart += leader.reading.rooms_apart() - before;
        self.seen.remembered += pending + rows - leader.core.publisher.pending();
        true
    }

    /// What `history::recognise_redis` does.
    fn recognise(&mut self, leader: &mut Leader) {
        let found = self.redis.claimed();
        let lost = found.is_none_or(|found| leader.claimed.is_some_and(|own| found < own));
        if self.ever_claimed && lost {
            self.seen.raised += 1;
            self.generation += 1;
            leader.core.set_generation(Generation(self.generation), self.now);
            leader.core.publisher.forget_heads(LaneId::FIRST);
        }
        let epoch = leader.core.publisher.epoch();
        match self.redis.claim(epoch) {
            Reply::Done => {
                leader.claimed = Some(epoch);
                leader.recognised = true;
                leader.core.doubt_mirrors(LaneId::FIRST);
                self.ever_claimed = true;
            }
            Reply::Fenced(newer) => leader.core.publisher.fence(newer),
            _ => {}
        }
    }

    fn send(&mut self, leader: &mut Leader) -> bool {
        if !leader.recognised {
            if !leader.waiting {
                self.recognise(leader);
            }
            return true;
        }
        leader.sent_at = self.flushes;
        match leader.core.next_step(LaneId::FIRST, self.now) {
            Step::Stop => return false,
            Step::Wait(_) => {}
            Step::Send(commands) => {
                leader.under_way.extend(commands);
                leader.waiting = true;
            }
        }
        true
    }

    /// Redis carries out the next command of a leader's link; the leader hears of it when all are done.
    fn execute(&mut self, leader: &mut Leader) -> bool {
        for _ in 0..1 + self.random.below(4) {
            let Some(command) = leader.under_way.pop_front() else { break };
            let reply = self.redis.execute(&command, self.now);
            self.note(&command, &reply);
            self.on_begun(&command, &reply, leader.holds_lock, leader.sent_at == self.flushes);
            if leader.sent_at == self.flushes {
                self.on_told(&command, &reply);
            }
            let appends = matches!(command, Command::Append { .. } | Command::Create { .. });
            leader.appended += usize::from(appends && reply == Reply::Done);
            leader.replies.push(reply);
        }
        if leader.waiting && leader.under_way.is_empty() && !self.random.once_in(3) {
            leader.waiting = false;
            let replies = std::mem::take(&mut leader.replies);
            let appended = std::mem::take(&mut leader.appended);
            let (outcome, published) = leader.core.on_replies(LaneId::FIRST, self.now, replies);
            leader.recognised &= !outcome.history_gone;
            self.seen.found_in_log += published - appended;
            self.redis.scripts_missing &= !outcome.scripts_missing;
        }
        // A leader that holds the lock can not be fenced: epochs only rise. Another one ends.
        let fenced = leader.core.publisher.fenced().is_some();
        assert!(!(fenced && leader.holds_lock), "the newest leader was fenced");
        !fenced
    }

    /// A stream may have been begun.
    fn on_begun(&mut self, command: &Command, reply: &Reply, by_the_leader: bool, since_flush: bool) {
        let (Command::Create { room, .. }, Reply::Done) = (command, reply) else { return };
        if !by_the_leader {
            self.redis.on_stray(room.as_str());
        } else if since_flush {
            let raised = self.redis.lost_in(room.as_str()).is_none_or(|before| self.generation > before);
            assert!(raised, "{room} begins anew after a flush, before the generation was raised");
        }
    }

    /// A heartbeat went out over a link that is whole, behind no flush: what it tells of is there, unless a newer leader
    /// has claimed Redis, and no old leader's.
    fn on_told(&mut self, command: &Command, reply: &Reply) {
        let (Command::Heartbeat(heartbeat), Reply::Done) = (command, reply) else { return };
        if self.redis.claimed() == Some(heartbeat.epoch()) {
            assert_eq!(
                heartbeat.switches,
                self.redis.mirrored(),
                "what a heartbeat tells of stands in Redis"
            );
            self.seen.told += 1;
            self.seen.versions = self.seen.versions.max(usize::try_from(heartbeat.switches).expect("few"));
        }
    }

    fn note(&mut self, command: &Command, reply: &Reply) {
        match reply {
            Reply::Moved if matches!(command, Command::Check(_)) => {}
            Reply::Moved => self.seen.moved += 1,
            Reply::Fenced(_) => self.seen.fenced += 1,
            Reply::Refused(_) => self.seen.refused += 1,
            Reply::Done if matches!(command, Command::Create { replaces: Some(_), .. }) => {
                self.seen.renewed += 1
            }
            Reply::Foreign(_) | Reply::Replaced(_) => panic!("nobody else is there, and {reply:?} is told"),
            Reply::Done | Reply::TooLate | Reply::Synced { .. } => {}
        }
    }

    fn lose_link(&mut self, leader: &mut Leader) -> bool {
        if leader.waiting {
            self.seen.lost_links += 1;
            leader.waiting = false;
            leader.replies.clear();
            leader.recognised = false;
            leader.appended = 0;
            self.adrift.push(std::mem::take(&mut leader.under_way));
            leader.core.publisher.on_link_lost(LaneId::FIRST, self.now);
        }
        true
    }

    /// Something that was sent over a broken link arrives after all, or never will.
    fn late_command(&mut self) {
        self.adrift.retain(|commands| !commands.is_empty());
        if self.adrift.is_empty() {
            return;
        }
        let index = self.random.below(self.adrift.len());
        if self.random.once_in(6) {
            self.adrift.remove(index);
        } else if let Some(command) = self.adrift[index].pop_front() {
            self.seen.late_commands += 1;
            let reply = self.redis.execute(&command, self.now);
            self.note(&command, &reply);
            self.on_begun(&command, &reply, false, false);
        }
    }

    /// Deletes what was published; a process may end between that and the floor, or between that and knowing of it.
    fn clean(&mut self, leader: &mut Leader) -> bool {
        let seldom = if self.faults.large_statements { 300 } else { 20 };
        let rows = leader.core.take_undeleted();
        for row in &rows {
            self.postgres.delete(row.id.row);
        }
        if self.random.once_in(seldom) {
            return false;
        }
        leader.core.on_deleted(self.now, &rows);
        if self.random.once_in(seldom) {
            return false;
        }
        if let Some(mark) = leader.core.floor.take(self.now) {
            self.seen.floors += 1;
            self.postgres.set_floor(mark);
        }
        true
    }

    fn lose_history(&mut self) {
        if !self.faults.history_is_lost {
            return;
        }
        match self.random.below(3) {
            0 => {
                self.redis.flush(self.generation);
                self.flushes += 1;
            }
            _ => {
                self.now += LOG_LIFETIME + Duration::from_secs(self.random.next() % 60);
                self.redis.expire(self.now);
            }
        }
    }
}

fn switches(version: u64) -> Mirror {
    Mirror { sheet: Sheet::Switches, version, content: "{}".to_owned() }
}
