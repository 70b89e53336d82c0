//! [`Changes`]: what changes under some prefixes, over one stream that is made again when it breaks.
//!
//! First everything is listed, at one revision; from there on changes are told. After a break each prefix goes on where it
//! was. Where etcd has forgotten that revision (compaction), everything is listed again. A stream that says nothing is asked
//! for a sign of life (etcd 3.4), so that a connection that is dead without a word is noticed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::client::{Client, meaning_of};
use super::{end_of, entry};
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;
use crate::proto::etcd::watch_request::Request_union;
use crate::proto::etcd::{RangeRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use crate::proto::etcd_grpc::{K_V_RANGE as KV_RANGE, WATCH_WATCH};
use crate::proto::kv::Event;
use crate::proto::kv::event::EventType;
use crate::storage::shared::StoreChange;
use crate::storage::{Entry, StoreError};
use crate::transport::channel::Bounds;
use crate::transport::duplex::Duplex;

/// Between two tries, at least and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// After so long without a word the server is asked for one, and after as long again it is taken for dead.
const QUIET: Duration = Duration::from_secs(15);

/// The time that listing everything has.
const LIST_BUDGET: Duration = Duration::from_secs(30);

/// Entries listed at once; fewer where they are too large for one answer.
const PAGE: i64 = 64;

/// What is kept of one listing or of one answer in parts, at most, bytes.
const MOST_BYTES: usize = 64 << 20;

/// An open stream.
struct Open {
    call: Duplex<WatchRequest, WatchResponse>,
    /// Whether the server was asked for a word and has not given one.
    is_asked: bool,
    /// The parts of an answer of which more are to come, by watch.
    parts: BTreeMap<i64, Vec<Event>>,
    part_bytes: usize,
}

/// See the module.
pub struct Changes {
    client: Arc<Client>,
    prefixes: Vec<String>,
    cancel: CancelToken,
    /// The latest revision that is known under each prefix; empty before everything is listed.
    revisions: Vec<i64>,
    open: Option<Open>,
    ready: VecDeque<StoreChange>,
    pause: Duration,
    has_failed: bool,
}

impl Changes {
    /// Changes under these prefixes, until `cancel` ends them.
    pub fn new(client: Arc<Client>, prefixes: &[String], cancel: &CancelToken) -> Self {
        Self {
            client,
            prefixes: prefixes.to_vec(),
            cancel: cancel.clone(),
            revisions: Vec::new(),
            open: None,
            ready: VecDeque::new(),
            pause: PAUSE.0,
            has_failed: false,
        }
    }

    /// One step towards the next change.
    fn advance(&mut self) -> Result<(), StoreError> {
        if self.revisions.is_empty() {
            let (entries, revision) = self.list()?;
            self.revisions = vec![revision; self.prefixes.len()];
            self.ready.push_back(StoreChange::Snapshot(entries));
            return Ok(());
        }
        let Some(open) = &mut self.open else { return self.connect() };
        let deadline = Deadline::after(QUIET);
        let bounds = Bounds { deadline, cancel: &self.cancel };
        match open.call.next(bounds).map_err(meaning_of)? {
            Some(answer) => {
                open.is_asked = false;
                // That a watch is created does not tell yet that it lasts: one of them may be refused.
                if !answer.created && !answer.canceled {
                    self.pause = PAUSE.0;
                }
                self.take(answer)
            }
            None if open.is_asked => {
                Err(StoreError::Unavailable(format!("etcd is silent for {} s", 2 * QUIET.as_secs())))
            }
            None => {
                open.is_asked = true;
                let request = Request_union::ProgressRequest(WatchProgressRequest::default());
                let bounds = Bounds { deadline: Deadline::after(QUIET), cancel: &self.cancel };
                open.call.send(message(request), bounds).map_err(meaning_of)
            }
        }
    }

    /// Everything under the prefixes at one revision.
    fn list(&self) -> Result<(Vec<Entry>, i64), StoreError> {
        let deadline = Deadline::after(LIST_BUDGET);
        let (mut entries, mut revision, mut bytes, mut page) = (Vec::new(), 0, 0, PAGE);
        for prefix in &self.prefixes {
            let mut key = prefix.as_bytes().to_vec();
            loop {
                if self.cancel.is_cancelled() {
                    return Err(StoreError::Unavailable("listing was cancelled".to_owned()));
                }
                let range_end = end_of(prefix.as_bytes());
                let request =
                    RangeRequest { key: key.clone(), range_end, limit: page, revision, ..RangeRequest::default() };
                let answer = match self.client.read(&KV_RANGE, &request, deadline) {
                    // Too large for one answer.
                    Err(StoreError::Damaged { .. }) if page > 1 => {
                        page = (page / 4).max(1);
                        continue;
                    }
                    answer => answer?,
                };
                if revision == 0 {
                    revision = answer.header.as_ref().map_or(0, |header| header.revision);
                }
                let Some(last) = answer.kvs.last() else { break };
                key = [last.key.as_slice(), &[0]].concat();
                bytes += answer.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum::<usize>();
                if bytes > MOST_BYTES {
                    let reason = format!("more than {MOST_BYTES} bytes are stored under it and others");
                    return Err(StoreError::Damaged { key: prefix.clone(), reason });
                }
                entries.extend(answer.kvs.into_iter().filter_map(|kv| entry(kv).ok()));
                if !answer.more {
                    break;
                }
            }
        }
        Ok((entries, revision))
    }

    /// Opens the stream and asks for each prefix from where it is known.
    fn connect(&mut self) -> Result<(), StoreError> {
        let create = |(index, prefix): (usize, &String)| {
            message(Request_union::CreateRequest(WatchCreateRequest {
                key: prefix.as_bytes().to_vec(),
                range_end: end_of(prefix.as_bytes()),
                start_revision: self.revisions[index] + 1,
                watch_id: watch_id(index),
                fragment: true,
                ..WatchCreateRequest::default()
            }))
        };
        let messages: Vec<_> = self.prefixes.iter().enumerate().map(create).collect();
        let deadline = Deadline::after(QUIET);
        let (call, answer) = self.client.open(&WATCH_WATCH, &messages, deadline, &self.cancel)?;
        self.open = Some(Open { call, is_asked: false, parts: BTreeMap::new(), part_bytes: 0 });
        self.take(answer)
    }

    fn take(&mut self, answer: WatchResponse) -> Result<(), StoreError> {
        if answer.canceled && answer.compact_revision != 0 {
            log::info!("etcd has forgotten what happened since revision {:?}: everything is listed", self.revisions);
            self.list_again();
            return Ok(());
        }
        if answer.canceled {
            // A token that is no longer taken looks like a want of rights here.
            self.client.forget_token();
            return Err(StoreError::Unavailable(format!("etcd ends the watch: {}", answer.cancel_reason)));
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let parts = open.parts.entry(answer.watch_id).or_default();
        let size = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
        open.part_bytes += answer.events.iter().map(size).sum::<usize>();
        parts.extend(answer.events);
        if answer.fragment {
            if open.part_bytes > MOST_BYTES {
                self.list_again();
            }
            return Ok(());
        }
        let events = open.parts.remove(&answer.watch_id).unwrap_or_default();
        open.part_bytes = open.parts.values().flatten().map(size).sum();
        for event in events {
            self.tell(answer.watch_id, event);
        }
        Ok(())
    }

    fn tell(&mut self, id: i64, event: Event) {
        let Some(kv) = event.kv.into_option() else { return };
        let index = usize::try_from(id - 1).unwrap_or(usize::MAX);
        if let Some(known) = self.revisions.get_mut(index) {
            *known = kv.mod_revision.max(*known);
        }
        // A key that is no text is nobody's here.
        let Ok(entry) = entry(kv) else { return };
        let is_deleted = event.type_ == EventType::DELETE.into();
        self.ready.push_back(match is_deleted {
            true => StoreChange::Deleted { key: entry.key },
            false => StoreChange::Put(entry),
        });
    }

    fn list_again(&mut self) {
        self.revisions.clear();
        self.open = None;
    }
}

impl Iterator for Changes {
    type Item = Result<StoreChange, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some(Ok(change));
            }
            if std::mem::take(&mut self.has_failed) {
                self.cancel.wait(Urge::Cancel, Deadline::after(self.pause));
                self.pause = (self.pause * 2).min(PAUSE.1);
            }
            if self.cancel.is_cancelled() {
                return None;
            }
            match self.advance() {
                Ok(()) => {}
                Err(_) if self.cancel.is_cancelled() => return None,
                Err(error) => {
                    if self.open.take().is_some() {
                        self.client.pass_on();
                    }
                    self.has_failed = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// The id of the watch of a prefix: not 0, which lets etcd choose.
fn watch_id(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX - 1) + 1
}

fn message(request: Request_union) -> WatchRequest {
    WatchRequest { request_union: Some(request), ..WatchRequest::default() }
}
