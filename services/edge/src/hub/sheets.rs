//! The hub's side of what the edge goes by besides events: loading sheets when the leader tells of them, and handing them
//! to the workers. Until the first of each was loaded nobody is let in: joins wait.

use std::sync::Arc;

use futures_util::FutureExt;
use rowcast_bus::{BusError, ReadLink};
use rowcast_protocol::{Heartbeat, Revocations, Sheet, Switches};

use super::{Done, Hub};
use crate::reflection::Reflection;
use crate::worker::{ToWorker, WorkerKey};

/// The sheets of an edge.
#[derive(Default)]
pub(super) struct Sheets {
    reflections: [Reflection; Sheet::ALL.len()],
    switches: Option<Switches>,
    revocations: Option<Arc<Revocations>>,
}

/// What a sheet says.
pub(super) enum Content {
    Switches(Switches),
    Revocations(Arc<Revocations>),
}

/// A sheet as it stands in Redis, where one does.
pub(super) type Found = Option<(u64, Result<Content, serde_json::Error>)>;

impl Content {
    fn parse(sheet: Sheet, text: &str) -> Result<Self, serde_json::Error> {
        Ok(match sheet {
            Sheet::Switches => Self::Switches(Switches::parse(text)?),
            Sheet::Revocations => Self::Revocations(Arc::new(Revocations::parse(text)?)),
        })
    }
}

impl Sheets {
    fn of(&mut self, sheet: Sheet) -> &mut Reflection {
        &mut self.reflections[sheet as usize]
    }

    /// What is not known yet; nobody is let in before it is.
    pub(super) fn missing(&self) -> Option<Sheet> {
        match (&self.switches, &self.revocations) {
            (None, _) => Some(Sheet::Switches),
            (_, None) => Some(Sheet::Revocations),
            _ => None,
        }
    }
}

/// Reads a sheet. It is parsed on a thread of its own: a large one takes longer than the hub may.
pub(super) async fn read(link: &mut ReadLink, sheet: Sheet) -> Result<Found, BusError> {
    let Some(mirror) = link.mirror(sheet).await? else { return Ok(None) };
    let parsed = tokio::task::spawn_blocking(move || Content::parse(sheet, &mirror.content)).await;
    let parsed =
        parsed.map_err(|error| BusError::Unexpected { command: "HMGET", detail: error.to_string() })?;
    Ok(Some((mirror.version, parsed)))
}

impl Hub {
    /// A link was made. What stood in Redis at that moment counts before anything else is taken from it.
    pub(super) async fn catch_up_with_sheets(
        &mut self,
        number: u64,
        last: Option<&Heartbeat>,
        found: Vec<(Sheet, Found)>,
    ) {
        for (sheet, found) in found {
            let reflection = self.sheets.of(sheet);
            reflection.relinked();
            let Some(last) = last else { continue };
            let (generation, version) = (last.generation(), last.version(sheet));
            let stands = found.as_ref().map(|(version, _)| *version);
            if reflection.catch_up(generation, version, stands) {
                self.take_sheet(sheet, found).await;
            } else if !reflection.is_held() && reflection.hear(generation, version) {
                self.load_sheet(number, sheet);
            }
        }
    }

    /// A link broke: what was under way on it is asked for again, where the next leader is heard.
    pub(super) fn interrupt_sheets(&mut self) {
        Sheet::ALL.into_iter().for_each(|sheet| self.sheets.of(sheet).interrupted());
    }

    /// A leader was heard, over the link of that number.
    pub(super) fn hear_of_sheets(&mut self, number: u64, heartbeat: &Heartbeat) {
        for sheet in Sheet::ALL {
            if self.sheets.of(sheet).hear(heartbeat.generation(), heartbeat.version(sheet)) {
                self.load_sheet(number, sheet);
            }
        }
    }

    /// From where it was told of: what one server has, another may have yet to be given.
    fn load_sheet(&mut self, number: u64, sheet: Sheet) {
        let Some(link) = self.nodes.linked(number).and_then(|node| node.link.as_ref()) else { return };
        let mut link = link.read.clone();
        self.metrics.redis_reads.with_label_values(&[sheet.name()]).inc();
        self.work.push(async move { Done::Sheet(number, sheet, read(&mut link, sheet).await) }.boxed());
    }

    pub(super) async fn sheet_loaded(&mut self, number: u64, sheet: Sheet, result: Result<Found, BusError>) {
        if self.nodes.linked(number).is_none() {
            return;
        }
        let found = match result {
            Ok(found) => found,
            Err(error) => return self.lost(number, &error.to_string()).await,
        };
        let loaded = self.sheets.of(sheet).loaded(found.as_ref().map(|(version, _)| *version));
        if loaded.again {
            self.load_sheet(number, sheet);
        }
        if loaded.taken {
            self.take_sheet(sheet, found).await;
        }
    }

    /// What was found is in force; where nothing was, what is so without a sheet.
    async fn take_sheet(&mut self, sheet: Sheet, found: Found) {
        let content = found.map_or_else(|| Content::parse(sheet, "{}"), |(_, content)| content);
        let version = self.sheets.of(sheet).version();
        match content {
            Ok(Content::Switches(switches)) => {
                if self.sheets.switches != Some(switches) {
                    tracing::info!(version, websocket = switches.websocket, "switches");
                }
                self.sheets.switches = Some(switches);
            }
            Ok(Content::Revocations(revocations)) => {
                tracing::info!(version, entries = revocations.len(), "revocations");
                self.metrics.revocations.set(i64::try_from(revocations.len()).unwrap_or(i64::MAX));
                self.sheets.revocations = Some(revocations);
            }
            Err(error) => {
                tracing::error!(%error, sheet = sheet.name(), "what edges go by cannot be read in Redis");
                self.metrics.unreadable.inc();
                return self.sheets.of(sheet).unreadable();
            }
        }
        self.metrics.sheet(sheet).set(i64::try_from(version).unwrap_or(i64::MAX));
        self.judge_ready();
        for worker in 0..self.workers.len() {
            self.tell_sheet(worker, sheet).await;
        }
        if self.sheets.missing().is_none() {
            for (name, join) in std::mem::take(&mut self.early) {
                self.join(name, join).await;
            }
        }
    }

    pub(super) async fn tell_sheet(&mut self, worker: WorkerKey, sheet: Sheet) {
        let window = self.config.switch_window;
        let message = match sheet {
            Sheet::Switches => self.sheets.switches.map(|switches| ToWorker::Switches(switches, window)),
            Sheet::Revocations => self.sheets.revocations.clone().map(ToWorker::Revocations),
        };
        if let Some(message) = message {
            self.send(worker, message).await;
        }
    }
}
