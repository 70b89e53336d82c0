//! [`Slot`]: the database that readers use now, while the writer may have to open it again after a failure.
//!
//! A reader takes the handle and reads without any lock; only during a reopening does it wait, until its deadline.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use redb::Database;

use super::disk::Fence;
use crate::clock::Deadline;
use crate::storage::StoreError;

/// An open database and the fence that ends it.
pub(super) struct Handle {
    /// The database.
    pub(super) database: Database,
    /// Its file's fence.
    pub(super) fence: Fence,
}

enum State {
    Open(Arc<Handle>),
    Reopening,
    Failed(String),
    Closed,
}

/// Where the present handle lies.
pub(super) struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

impl Slot {
    /// A slot with an open handle.
    pub(super) fn new(handle: Handle) -> Self {
        Self { state: Mutex::new(State::Open(Arc::new(handle))), changed: Condvar::new() }
    }

    /// The present handle; waits for one that is being opened again.
    pub(super) fn current(&self, deadline: Deadline) -> Result<Arc<Handle>, StoreError> {
        let mut state = self.lock();
        loop {
            match &*state {
                State::Open(handle) => return Ok(Arc::clone(handle)),
                State::Failed(reason) => return Err(StoreError::Unavailable(reason.clone())),
                State::Closed => return Err(StoreError::Unavailable("it is closed".to_owned())),
                State::Reopening => {}
            }
            let left = deadline.remaining();
            if left.is_zero() {
                return Err(StoreError::Unavailable("its file is being opened again".to_owned()));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The handle for the writer, which alone changes the slot.
    pub(super) fn open_handle(&self) -> Option<Arc<Handle>> {
        match &*self.lock() {
            State::Open(handle) => Some(Arc::clone(handle)),
            State::Reopening | State::Failed(_) | State::Closed => None,
        }
    }

    /// Takes the handle away from readers, who wait from now on, and ends its access to the file.
    pub(super) fn give_up(&self) -> Option<Arc<Handle>> {
        let State::Open(handle) = self.replace(State::Reopening) else { return None };
        handle.fence.close();
        Some(handle)
    }

    /// Puts a new handle in; readers go on.
    pub(super) fn put(&self, handle: Handle) {
        self.replace(State::Open(Arc::new(handle)));
    }

    /// Tells readers why there is no handle.
    pub(super) fn fail(&self, reason: String) {
        self.replace(State::Failed(reason));
    }

    /// Closes the database for good. Readers still under way end first or fail.
    pub(super) fn close(&self) {
        let State::Open(handle) = self.replace(State::Closed) else { return };
        match Arc::try_unwrap(handle) {
            Ok(handle) => {
                if let Err(error) = handle.database.close() {
                    log::warn!("the store's file was not closed in order and will be repaired: {error}");
                }
            }
            // A reader is still there: the file stays as after a crash, which the next start repairs.
            Err(handle) => handle.fence.close(),
        }
    }

    fn replace(&self, state: State) -> State {
        let before = std::mem::replace(&mut *self.lock(), state);
        self.changed.notify_all();
        before
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
