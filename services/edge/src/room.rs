//! A room's state machine, without IO: where the room stands, its recent events, who waits to join.
//!
//! The hub feeds it what Redis says and carries out the actions that it returns. Its rule is simple: an event is
//! handed on only when it is the next one. Whatever else arrives makes the room read the log, and only a direct
//! read of Redis can show that history is gone.

use std::collections::VecDeque;
use std::sync::Arc;

use rowcast_bus::{Head, Loaded, Range};
use rowcast_protocol::{Cursor, Generation, Micros, Offset, Record, RoomName, StreamId};

use crate::event::Event;

/// Bounds of one room.
#[derive(Debug, Clone, Copy)]
pub struct RoomLimits {
    /// Recent events kept in memory.
    pub recent_events: usize,
    /// Their frames' bytes.
    pub recent_bytes: usize,
    /// Events in one answer to a join, and in one read of the log.
    pub page: usize,
    /// Their frames' bytes; an answer has at least one event.
    pub page_bytes: usize,
}

/// Somebody who wants to join; `T` says who.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join<T> {
    /// Who.
    pub ticket: T,
    /// From where; `None` starts at the end.
    pub resume: Resume,
}

/// From where a join goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// From the end.
    Nothing,
    /// After this cursor.
    After(Cursor),
    /// The client brought something that no edge gave out.
    Unreadable,
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Where the session stands before `events`.
    pub cursor: Cursor,
    /// What it missed, in order.
    pub events: Vec<Arc<Event>>,
    /// Whether the session is now at the room's end, and gets what comes next. Otherwise it joins again from
    /// its last event.
    pub caught_up: bool,
    /// Whether it goes on from the cursor that it brought.
    pub resumed: bool,
    /// Set when history does not reach back to that cursor.
    pub resync: Option<&'static str>,
    /// From where the missed events came.
    pub source: Source,
}

/// Where the missed events of a join came from; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nothing was missed, or nothing was asked for.
    None,
    /// This edge's memory.
    Memory,
    /// The log in Redis.
    Log,
}

/// What the hub has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<T> {
    /// Read the head and this run of the log; the result goes to [`Room::loaded`].
    Load(Range),
    /// Read a run of the log for one join; the result goes to [`Room::page_loaded`].
    LoadPage {
        /// Whose join.
        ticket: T,
        /// After which cursor.
        cursor: Cursor,
        /// The run.
        range: Range,
    },
    /// Hand an event to everyone in the room.
    Deliver(Arc<Event>),
    /// What everyone in the room knows of its history does not go on: each has to join again, and is told then.
    Void,
    /// Answer a join.
    Answer(T, Answer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The subscription is not acknowledged.
    Subscribing,
    /// A read is under way; what is published meanwhile is only noted.
    Loading,
    /// Each published event is the next one.
    Live,
}

/// One room of this edge.
pub struct Room<T> {
    name: RoomName,
    limits: RoomLimits,
    generation: Generation,
    phase: Phase,
    /// Whether `stream` and `offset` were ever read from Redis.
    positioned: bool,
    stream: StreamId,
    offset: Offset,
    /// Contiguous, and the last one is at `offset`.
    recent: VecDeque<Arc<Event>>,
    recent_bytes: usize,
    /// What was published since the read began.
    noted: VecDeque<Record>,
    /// More than is worth noting was: it has to be read.
    noted_too_much: bool,
    /// History was declared void while the room was not live: its position is to be read anew.
    void: bool,
    waiting: Vec<Waiting<T>>,
    gaps: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    join: Join<T>,
    /// Whether a read has begun since the join came. It is judged when that read is here.
    checked: bool,
}

impl<T> Room<T> {
    /// A room whose subscription is being asked for.
    pub fn new(name: RoomName, generation: Generation, limits: RoomLimits) -> Self {
        Self {
            name,
            limits,
            generation,
            phase: Phase::Subscribing,
            positioned: false,
            stream: StreamId::NONE,
            offset: Offset::ZERO,
            recent: VecDeque::new(),
            recent_bytes: 0,
            noted: VecDeque::new(),
            noted_too_much: false,
            void: false,
            waiting: Vec::new(),
            gaps: 0,
        }
    }

    /// Where the room stands.
    pub fn cursor(&self) -> Cursor {
        Cursor { generation: self.generation, stream: self.stream, offset: self.offset }
    }

    /// Whether events are handed on as they come.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether nobody waits for an answer.
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Gaps found since the last call.
    pub fn take_gaps(&mut self) -> u64 {
        std::mem::take(&mut self.gaps)
    }

    /// Somebody wants to join.
    pub fn join(&mut self, join: Join<T>) -> Vec<Action<T>> {
        let waiting = Waiting { join, checked: false };
        if self.phase == Phase::Live { self.settle(vec![waiting]) } else { self.wait(waiting) }
    }

    /// Redis has acknowledged the subscription: from now on, what is published arrives.
    pub fn subscribed(&mut self) -> Vec<Action<T>> {
        if self.phase != Phase::Subscribing {
            return Vec::new();
        }
        vec![self.load()]
    }

    /// The link to Redis broke: nothing that was published is certain to have arrived.
    pub fn suspect(&mut self) {
        self.phase = Phase::Subscribing;
        self.forget_noted();
    }

    /// Nobody waits for this answer any more.
    pub fn cancel(&mut self, ticket: &T)
    where
        T: PartialEq,
    {
        self.waiting.retain(|waiting| waiting.join.ticket != *ticket);
    }

    /// Lets go of recent events that occurred before a moment: who comes back later reads the log.
    pub fn forget_before(&mut self, moment: Micros) {
        while self.recent.front().is_some_and(|event| event.occurred_at < moment) {
            self.forget_oldest();
        }
    }

    /// History was declared void. Everyone fetches anew.
    pub fn set_generation(&mut self, generation: Generation) -> Vec<Action<T>> {
        if generation <= self.generation {
            return Vec::new();
        }
        self.generation = generation;
        self.forget_recent();
        if !self.positioned {
            return Vec::new();
        }
        if self.phase == Phase::Live {
            return vec![Action::Void];
        }
        // Redis may have gone back behind the room's position: only a read shows where history goes on.
        self.void = true;
        Vec::new()
    }

    /// Something was published.
    pub fn published(&mut self, record: Record) -> Vec<Action<T>> {
        if self.phase != Phase::Live {
            self.note(record);
            return Vec::new();
        }
        let first_of_all = self.stream == StreamId::NONE && record.stream.is_first();
        if (record.stream == self.stream || first_of_all) && record.offset == self.offset.next() {
            return vec![self.apply(record)];
        }
        if record.stream == self.stream && record.offset <= self.offset {
            return Vec::new();
        }
        self.gaps += 1;
        vec![self.load()]
    }

    /// Whether a head can be so, if it was read after the room stood at `then` and everything that was published
    /// before it was read has arrived since. A room that is not live is being read anyway.
    pub fn agrees_with(&self, then: Offset, head: Option<Head>) -> bool {
        self.phase != Phase::Live
            || match head {
                None => self.stream == StreamId::NONE,
                Some(head) => head.stream == self.stream && head.offset <= self.offset && head.offset >= then,
            }
    }

    /// A sweep read the head, asked for when the room stood at `then`.
    pub fn head_seen(&mut self, then: Offset, head: Option<Head>) -> Vec<Action<T>> {
        if self.agrees_with(then, head) {
            return Vec::new();
        }
        self.gaps += 1;
        vec![self.load()]
    }

    /// The read that [`Action::Load`] asked for.
    pub fn loaded(&mut self, loaded: Loaded) -> Vec<Action<T>> {
        if self.phase != Phase::Loading {
            return Vec::new();
        }
        let mut actions = Vec::new();
        if self.positioned && !self.void {
            if self.reconcile(loaded, &mut actions) == Progress::ReadOn {
                actions.push(self.load());
                return actions;
            }
        } else {
            if std::mem::take(&mut self.void) {
                actions.push(Action::Void);
            }
            self.take_position(loaded);
        }
        if self.noted_too_much {
            self.forget_noted();
            actions.push(self.load());
            return actions;
        }
        self.phase = Phase::Live;
        for record in std::mem::take(&mut self.noted) {
            actions.extend(self.published(record));
        }
        if self.phase == Phase::Live {
            let waiting = std::mem::take(&mut self.waiting);
            actions.extend(self.settle(waiting));
        }
        actions
    }

    fn note(&mut self, record: Record) {
        if self.phase == Phase::Loading {
            self.noted.push_back(record);
            if self.noted.len() > self.limits.page {
                self.forget_noted();
                self.noted_too_much = true;
            }
        }
    }

    fn forget_noted(&mut self) {
        self.noted.clear();
        self.noted_too_much = false;
    }

    /// The read that [`Action::LoadPage`] asked for.
    pub fn page_loaded(&mut self, ticket: T, cursor: Cursor, loaded: Loaded) -> Vec<Action<T>> {
        let waiting = Waiting { join: Join { ticket, resume: Resume::After(cursor) }, checked: true };
        let same_history = loaded.head.is_some_and(|head| head.stream == self.stream);
        if self.phase != Phase::Live {
            return self.wait(waiting);
        }
        if !same_history {
            let mut actions = vec![self.load()];
            actions.extend(self.wait(waiting));
            return actions;
        }
        let ticket = waiting.join.ticket;
        if cursor.generation != self.generation {
            return vec![Action::Answer(ticket, self.resync_answer("generation"))];
        }
        let mut events: Vec<_> = Vec::with_capacity(loaded.records.len());
        let mut next = cursor.offset.next();
        let mut bytes = 0;
        for record in loaded.records {
            let follows =
                record.offset == next && record.stream == self.stream && record.offset <= self.offset;
            if !follows || bytes >= self.limits.page_bytes {
                break;
            }
            next = record.offset.next();
            let event = Event::compose(&self.name, self.generation, record);
            bytes += event.websocket_frame().len();
            events.push(event);
        }
        if events.is_empty() && next <= self.offset {
            return vec![Action::Answer(ticket, self.resync_answer("history"))];
        }
        self.keep_earlier(&events);
        let room_left = bytes < self.limits.page_bytes;
        let (rest, caught_up) = self.remembered(next).filter(|_| room_left).unwrap_or_default();
        events.extend(rest);
        let cursor = Cursor { stream: self.stream, ..cursor };
        let answer = Answer { cursor, events, caught_up, resumed: true, resync: None, source: Source::Log };
        vec![Action::Answer(ticket, answer)]
    }

    /// The page could not be read: the link is gone, and the join waits for the next one.
    pub fn page_failed(&mut self, ticket: T, cursor: Cursor) -> Vec<Action<T>> {
        self.join(Join { ticket, resume: Resume::After(cursor) })
    }

    fn wait(&mut self, waiting: Waiting<T>) -> Vec<Action<T>> {
        self.waiting.push(waiting);
        Vec::new()
    }

    /// Begins a read. Until its result is here, published events are only noted.
    fn load(&mut self) -> Action<T> {
        self.phase = Phase::Loading;
        // Who comes later may know more than this read will see.
        self.waiting.iter_mut().for_each(|waiting| waiting.checked = true);
        if self.positioned && !self.void {
            return Action::Load(Range::After { offset: self.offset, count: self.page_count() });
        }
        let resumes = self.waiting.iter().any(|waiting| matches!(waiting.join.resume, Resume::After(_)));
        // A reconnect storm brings cursors near the end: one read serves them all from memory.
        Action::Load(Range::Last(if resumes { self.limits.recent_events } else { 1 }))
    }

    /// How many entries of the log fill a page, judged by the size of recent ones.
    fn page_count(&self) -> usize {
        let usual = self.recent_bytes.checked_div(self.recent.len()).unwrap_or(1_024).max(1);
        (self.limits.page_bytes / usual).clamp(4, self.limits.page.max(4)).min(self.limits.page)
    }

    fn take_position(&mut self, loaded: Loaded) {
        self.positioned = true;
        (self.stream, self.offset) =
            loaded.head.map_or((StreamId::NONE, Offset::ZERO), |head| (head.stream, head.offset));
        self.forget_recent();
        let end = self.offset;
        let mut expected = end;
        let mut run = Vec::new();
        // What came after the head was read is on its way by the subscription too.
        for record in loaded.records.into_iter().rev().skip_while(|record| record.offset > end) {
            if record.stream != self.stream || record.offset != expected || expected == Offset::ZERO {
                break;
            }
            expected = Offset(expected.0 - 1);
            run.push(Event::compose(&self.name, self.generation, record));
        }
        run.reverse();
        self.keep_earlier(&run);
    }

    /// Goes on from the room's position to the head that was read.
    fn reconcile(&mut self, loaded: Loaded, actions: &mut Vec<Action<T>>) -> Progress {
        let Some(head) = loaded.head else {
            if self.stream != StreamId::NONE {
                self.move_to(StreamId::NONE, Offset::ZERO);
                actions.push(Action::Void);
            }
            return Progress::Done;
        };
        let goes_on = head.stream == self.stream && head.offset >= self.offset;
        let begins = self.stream == StreamId::NONE && head.stream.is_first();
        if !goes_on && !begins {
            self.move_to(head.stream, head.offset);
            actions.push(Action::Void);
            return Progress::Done;
        }
        for record in loaded.records {
            if record.stream != head.stream || record.offset != self.offset.next() {
                break;
            }
            actions.push(self.apply(record));
        }
        if self.stream == head.stream && self.offset >= head.offset {
            return Progress::Done;
        }
        let progressed = actions.iter().any(|action| matches!(action, Action::Deliver(_)));
        if progressed {
            return Progress::ReadOn;
        }
        self.move_to(head.stream, head.offset);
        actions.push(Action::Void);
        Progress::Done
    }

    fn apply(&mut self, record: Record) -> Action<T> {
        let event = Event::compose(&self.name, self.generation, record);
        self.stream = event.stream;
        self.offset = event.offset;
        self.recent_bytes += event.websocket_frame().len();
        self.recent.push_back(Arc::clone(&event));
        while self.recent.len() > self.limits.recent_events || self.recent_bytes > self.limits.recent_bytes {
            self.forget_oldest();
        }
        Action::Deliver(event)
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.recent.pop_front() {
            self.recent_bytes -= oldest.websocket_frame().len();
        }
    }

    fn move_to(&mut self, stream: StreamId, offset: Offset) {
        self.stream = stream;
        self.offset = offset;
        self.forget_recent();
    }

    fn forget_recent(&mut self) {
        self.recent.clear();
        self.recent_bytes = 0;
    }

    /// Puts a run that was read in front of the recent events, where it joins them and there is room.
    fn keep_earlier(&mut self, run: &[Arc<Event>]) {
        for event in run.iter().rev() {
            let oldest = self.recent.front().map_or(self.offset.next(), |oldest| oldest.offset);
            let size = event.websocket_frame().len();
            let fits = self.recent.len() < self.limits.recent_events
                && self.recent_bytes + size <= self.limits.recent_bytes;
            if event.offset.next() > oldest {
                continue;
            }
            if event.offset.next() < oldest || !fits {
                return;
            }
            self.recent_bytes += size;
            self.recent.push_front(Arc::clone(event));
        }
    }

    fn resync_answer(&self, reason: &'static str) -> Answer {
        Answer {
            cursor: self.cursor(),
            events: Vec::new(),
            caught_up: true,
            resumed: false,
            resync: Some(reason),
            source: Source::None,
        }
    }

    /// Answers joins of a live room, or has Redis read for those that this edge cannot judge.
    fn settle(&mut self, joins: Vec<Waiting<T>>) -> Vec<Action<T>> {
        let mut actions = Vec::new();
        let mut unsure = Vec::new();
        for waiting in joins {
            match self.judge(&waiting.join.resume, waiting.checked) {
                Verdict::Answer(answer) => actions.push(Action::Answer(waiting.join.ticket, answer)),
                Verdict::Page { cursor, range } => {
                    actions.push(Action::LoadPage { ticket: waiting.join.ticket, cursor, range });
                }
                Verdict::AskRedis => unsure.push(waiting),
            }
        }
        if !unsure.is_empty() {
            self.waiting.extend(unsure);
            actions.push(self.load());
        }
        actions
    }

    fn judge(&self, resume: &Resume, checked: bool) -> Verdict {
        let cursor = match resume {
            Resume::Nothing => {
                let start = Answer { resync: None, ..self.resync_answer("") };
                return Verdict::Answer(start);
            }
            Resume::Unreadable => return Verdict::Answer(self.resync_answer("cursor")),
            Resume::After(cursor) => *cursor,
        };
        if cursor.generation != self.generation {
            return Verdict::Answer(self.resync_answer("generation"));
        }
        let from_before_all = cursor.stream == StreamId::NONE && cursor.offset == Offset::ZERO;
        let known = cursor.stream == self.stream || (from_before_all && self.stream.is_first());
        if !known || cursor.offset > self.offset {
            // It may be ahead of this edge; a forged one costs a read and changes nothing.
            return if checked { Verdict::Answer(self.resync_answer("history")) } else { Verdict::AskRedis };
        }
        let cursor = Cursor { stream: self.stream, ..cursor };
        match self.remembered(cursor.offset.next()) {
            Some((events, caught_up)) => {
                let source = if events.is_empty() { Source::None } else { Source::Memory };
                Verdict::Answer(Answer { cursor, events, caught_up, resumed: true, resync: None, source })
            }
            None => Verdict::Page {
                cursor,
                range: Range::After { offset: cursor.offset, count: self.page_count() },
            },
        }
    }

    /// A page of events from `first` on and whether it reaches the end; `None` when memory begins later.
    fn remembered(&self, first: Offset) -> Option<(Vec<Arc<Event>>, bool)> {
        if first == self.offset.next() {
            return Some((Vec::new(), true));
        }
        let oldest = self.recent.front()?.offset;
        let skip = usize::try_from(first.0.checked_sub(oldest.0)?).ok()?;
        let mut bytes = 0;
        let fits = |event: &&Arc<Event>| {
            let before = bytes;
            bytes += event.websocket_frame().len();
            before < self.limits.page_bytes
        };
        let recent = self.recent.iter().skip(skip).take(self.limits.page);
        let events: Vec<_> = recent.take_while(fits).cloned().collect();
        let caught_up = events.last().is_some_and(|last| last.offset == self.offset);
        Some((events, caught_up))
    }
}

#[derive(PartialEq)]
enum Progress {
    Done,
    ReadOn,
}

enum Verdict {
    Answer(Answer),
    Page { cursor: Cursor, range: Range },
    AskRedis,
}
