//! One room as the publisher sees it: its rows in order, what it knows of the room's head in Redis, and which
//! commands to send next. No IO and no clock; [`crate::publisher`] drives it.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rowcast_bus::{Command, Head};
use rowcast_protocol::{Epoch, EventId, Offset, Record, RecordKind, RoomName, StreamId};

use crate::lane::LaneId;
use crate::past::Past;

/// A row on its way.
#[derive(Debug)]
pub(crate) struct Entry {
    pub id: EventId,
    pub round: u64,
    /// Its place among those that are not published.
    pub place: usize,
    pub content: Content,
    pub doubt: Option<Doubt>,
}

/// What becomes a record.
#[derive(Debug)]
pub(crate) enum Content {
    Event { event_type: String, fragment: Bytes },
    Poison(&'static str),
}

/// The row may be in the room's log already, because somebody sent it and the answer was lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doubt {
    /// Nobody sent it earlier than this.
    pub since: Past,
    /// Another leader may have sent it.
    pub foreign: bool,
}

/// What is known of the room's head in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Syncing {
        asked: usize,
    },
    /// There is no head.
    Absent,
    /// History that may hold rows of the queue is gone: the stream ends here and another one begins.
    Renew(StreamId, Offset),
    /// `offset` counts what was sent, answered or not. Until the head carries this leader's epoch (`claimed`), an
    /// older leader can still append, and could do so between two commands of one pipeline, whose later ones would
    /// then fit: so no more than one is under way.
    Known {
        stream: StreamId,
        offset: Offset,
        claimed: bool,
    },
}

/// What a room must know of its surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings {
    pub epoch: Epoch,
    pub now: Instant,
    /// Rows of earlier leaders are still being read; the highest id of those read so far.
    pub catching_up: Option<i64>,
    /// Entries that a log keeps at least.
    pub log_entries: usize,
    /// Rows of a room that may await deletion.
    pub awaiting: usize,
}

/// One room.
#[derive(Debug)]
pub(crate) struct Room {
    pub name: RoomName,
    state: State,
    queue: VecDeque<Entry>,
    sent: VecDeque<Entry>,
    /// Sent, and not carried out as far as is known; to be queued again once the whole batch is settled.
    failed: Vec<Entry>,
    /// Published rows that still stand in the outbox.
    undeleted: usize,
    /// Rows queued or sent that are in doubt.
    doubts: usize,
    /// How many entries at the log's end may be rows in doubt.
    reach: usize,
    /// Ids in the log of rows that are still to be read, of earlier leaders. They are deleted without having been read:
    /// before it comes to them, a leader could append so much that the next one finds them no more.
    seen: HashSet<EventId>,
    /// The log did not reach back: what was appended until then is not known.
    unknown_until: Option<Past>,
    must_renew: bool,
    /// History that may have held published rows is gone, and some of these still stand in the outbox. Until they do not, nothing
    /// is appended: the next leader would not find them, and publish them behind what came after them.
    must_delete: bool,
    /// It had a head. Where that is gone without all of history (evicted, removed), another stream came before the next.
    had_head: bool,
    /// Which server holds it; nothing where none does.
    pub lane: Option<LaneId>,
    /// Through which lane its commands are under way: where it was moved meanwhile, the others wait for their answers.
    pub flying: Option<LaneId>,
    /// It stands in the round of its lane.
    pub scheduled: bool,
    /// Used since eviction last came by.
    pub touched: bool,
}

impl Room {
    pub fn new(name: RoomName) -> Self {
        Self {
            name,
            state: State::Unknown,
            queue: VecDeque::new(),
            sent: VecDeque::new(),
            failed: Vec::new(),
            undeleted: 0,
            doubts: 0,
            reach: 0,
            seen: HashSet::new(),
            unknown_until: None,
            must_renew: false,
            must_delete: false,
            had_head: false,
            lane: None,
            flying: None,
            scheduled: false,
            touched: true,
        }
    }

    /// Takes a row to the end of the queue; gives it back if it is known to be in the log.
    pub fn push(&mut self, entry: Entry) -> Option<Entry> {
        self.touched = true;
        self.doubts += usize::from(entry.doubt.is_some());
        if self.seen.remove(&entry.id) {
            return Some(self.published(entry));
        }
        if let (Some(doubt), Some(until)) = (entry.doubt, self.unknown_until)
            && !doubt.since.is_surely_after(until)
        {
            self.must_renew = true;
            if self.sent.is_empty() && matches!(self.state, State::Known { .. }) {
                self.state = State::Unknown;
            }
        }
        self.queue.push_back(entry);
        None
    }

    /// How many rows of it are here or await deletion.
    pub fn rows(&self) -> usize {
        self.queue.len() + self.sent.len() + self.failed.len() + self.undeleted
    }

    /// Whether rows of it wait to be sent.
    pub fn is_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether there is something to send now.
    pub fn runnable(&self, around: &Surroundings) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        match self.state {
            State::Unknown => true,
            State::Syncing { .. } => false,
            // Rows that are published and not deleted must stay findable: the next leader looks for them.
            State::Absent | State::Renew(..) => self.undeleted == 0,
            State::Known { claimed, .. } => {
                (claimed || self.sent.is_empty()) && self.below_bound(around) && !self.must_delete
            }
        }
    }

    /// Whether only the deletion of published rows lets it go on.
    pub fn waits_for_deletion(&self, around: &Surroundings) -> bool {
        let bounded = match self.state {
            State::Absent | State::Renew(..) => true,
            State::Known { .. } => self.must_delete || !self.below_bound(around),
            State::Unknown | State::Syncing { .. } => false,
        };
        bounded && self.undeleted > 0 && !self.queue.is_empty()
    }

    fn below_bound(&self, around: &Surroundings) -> bool {
        self.undeleted + self.sent.len() < around.awaiting
    }

    /// The next command, if there is one to send now.
    pub fn next(&mut self, around: &Surroundings, random: &mut dyn FnMut() -> u64) -> Option<Command> {
        if !self.runnable(around) {
            return None;
        }
        self.touched = true;
        match self.state {
            State::Unknown => {
                let asked = self.ask(around);
                self.state = State::Syncing { asked };
                Some(Command::Sync { room: self.name.clone(), last: asked })
            }
            State::Absent if self.had_head => Some(self.create(around, StreamId::renewed(random()), None)),
            State::Absent => Some(self.create(around, StreamId::first(random()), None)),
            State::Renew(stream, offset) => {
                Some(self.create(around, StreamId::renewed(random()), Some((stream, offset))))
            }
            State::Known { stream, offset, claimed } => Some(self.append(around, stream, offset, claimed)),
            State::Syncing { .. } => None,
        }
    }

    /// How many of the log's last ids are needed to find every row that may be there.
    fn ask(&self, around: &Surroundings) -> usize {
        let foreign = |entry: &Entry| entry.doubt.is_some_and(|doubt| doubt.foreign);
        if around.catching_up.is_some() || self.queue.iter().any(foreign) {
            around.log_entries
        } else {
            self.reach.clamp(1, around.log_entries)
        }
    }

    fn create(
        &mut self,
        around: &Surroundings,
        stream: StreamId,
        replaces: Option<(StreamId, Offset)>,
    ) -> Command {
        let offset = Offset::ZERO.next();
        let (id, record) = self.send(stream, offset);
        self.state = State::Known { stream, offset, claimed: true };
        Command::Create { room: self.name.clone(), epoch: around.epoch, stream, replaces, id, record }
    }

    fn append(
        &mut self,
        around: &Surroundings,
        stream: StreamId,
        expected: Offset,
        claimed: bool,
    ) -> Command {
        let offset = expected.next();
        let (id, record) = self.send(stream, offset);
        self.state = State::Known { stream, offset, claimed };
        Command::Append { room: self.name.clone(), epoch: around.epoch, stream, expected, id, record }
    }

    /// Moves the first row to those sent and encodes it for its place.
    fn send(&mut self, stream: StreamId, offset: Offset) -> (EventId, Vec<u8>) {
        let entry = self.queue.pop_front().expect("a runnable room has a row");
        let (kind, event_type, fragment) = match &entry.content {
            Content::Event { event_type, fragment } => {
                (RecordKind::Event, event_type.clone(), fragment.clone())
            }
            Content::Poison(reason) => (RecordKind::Resync, (*reason).to_owned(), Bytes::new()),
        };
        let id = entry.id;
        let record = Record { kind, stream, offset, id, event_type, fragment };
        self.reach = self.reach.saturating_add(1);
        self.sent.push_back(entry);
        (id, record.encode())
    }

    /// The oldest command under way was carried out: its row is published.
    pub fn done(&mut self, created: bool) -> Entry {
        let entry = self.sent.pop_front().expect("an answer belongs to a row that was sent");
        if self.failed.is_empty()
            && let State::Known { claimed, .. } = &mut self.state
        {
            *claimed = true;
        }
        if created {
            self.had_head = true;
            self.must_renew = false;
            self.unknown_until = None;
        }
        self.published(entry)
    }

    fn published(&mut self, entry: Entry) -> Entry {
        self.undeleted += 1;
        self.doubts -= usize::from(entry.doubt.is_some());
        entry
    }

    /// The oldest command under way changed nothing.
    pub fn failed(&mut self) {
        let entry = self.sent.pop_front().expect("an answer belongs to a row that was sent");
        self.failed.push(entry);
    }

    /// Nobody knows whether the oldest command under way, sent at `sent_at`, was or will be carried out.
    pub fn lost(&mut self, sent_at: Instant) {
        let mut entry = self.sent.pop_front().expect("an answer belongs to a row that was sent");
        if entry.doubt.is_none() {
            self.doubts += 1;
            entry.doubt = Some(Doubt { since: Past::at(sent_at), foreign: false });
        }
        self.failed.push(entry);
    }

    /// The question for the head got no answer.
    pub fn sync_failed(&mut self) {
        self.state = State::Unknown;
    }

    /// Forgets the head, and that there was one: a new history begins. Only between batches.
    pub fn forget(&mut self) {
        self.state = State::Unknown;
        self.had_head = false;
        self.must_delete = self.undeleted > 0;
    }

    /// All commands of a batch are accounted for: what failed goes back to the front, in its order.
    pub fn settle(&mut self) {
        self.flying = None;
        if !self.failed.is_empty() || (self.must_renew && matches!(self.state, State::Known { .. })) {
            self.state = State::Unknown;
        }
        for entry in self.failed.drain(..).rev() {
            self.queue.push_front(entry);
        }
        if self.doubts == 0 {
            self.reach = 0;
        }
    }

    /// Takes the answer to the question for the head; gives back the rows that are in the log already, and the ids there
    /// of rows that are still to be read. Resyncs are not among these: a row that became one is read, to be kept as a dead
    /// letter.
    pub fn synced(
        &mut self,
        around: &Surroundings,
        head: Option<Head>,
        since_append: Duration,
        ids: Vec<EventId>,
        resyncs: &[EventId],
    ) -> (Vec<Entry>, Vec<EventId>) {
        let State::Syncing { asked } = self.state else {
            return Default::default();
        };
        let Some(head) = head else {
            self.state = State::Absent;
            self.must_renew = false;
            self.unknown_until = None;
            return Default::default();
        };
        self.had_head = true;
        if self.doubts > 0 && self.ask(around) > asked {
            // Rows in doubt have come in the meantime: the log must be asked for more.
            self.state = State::Unknown;
            return Default::default();
        }
        let covered = ids.len() as u64 >= head.offset.0.min(asked as u64);
        let found = self.take_found(around, ids, resyncs);
        if !covered {
            let until = Past::ago(around.now, since_append);
            self.unknown_until = Some(until);
            let in_danger =
                |entry: &Entry| entry.doubt.is_some_and(|doubt| !doubt.since.is_surely_after(until));
            self.must_renew |= self.doubts > 0 && self.queue.iter().any(in_danger);
        }
        self.state = if self.must_renew {
            State::Renew(head.stream, head.offset)
        } else {
            State::Known { stream: head.stream, offset: head.offset, claimed: head.epoch == around.epoch }
        };
        found
    }

    fn take_found(
        &mut self,
        around: &Surroundings,
        ids: Vec<EventId>,
        resyncs: &[EventId],
    ) -> (Vec<Entry>, Vec<EventId>) {
        let mut found = Vec::new();
        let mut ids: HashSet<EventId> = ids.into_iter().collect();
        if self.doubts > 0 {
            let (there, missing) = self.queue.drain(..).partition(|entry| ids.remove(&entry.id));
            self.queue = missing;
            let there: VecDeque<Entry> = there;
            found.extend(there.into_iter().map(|entry| self.published(entry)));
        }
        let mut unread: Vec<EventId> = Vec::new();
        if let Some(read) = around.catching_up {
            unread.extend(ids.into_iter().filter(|id| id.row > read && self.seen.insert(*id)));
            unread.retain(|id| !resyncs.contains(id));
            self.undeleted += unread.len();
        }
        (found, unread)
    }

    /// All rows of earlier leaders have been read.
    pub fn caught_up(&mut self) {
        self.seen = HashSet::new();
        self.unknown_until = None;
    }

    /// A published row was deleted from the outbox.
    pub fn deleted(&mut self) {
        self.undeleted -= 1;
        self.must_delete &= self.undeleted > 0;
    }

    /// Nothing would be lost by forgetting this room.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.sent.is_empty()
            && self.undeleted == 0
            && self.seen.is_empty()
            && self.unknown_until.is_none()
            && !matches!(self.state, State::Syncing { .. })
    }
}
