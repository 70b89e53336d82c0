//! [`Interrupt`]: Ctrl-C as a question that is asked between two messages of a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::SigId;
use signal_hook::consts::SIGINT;

/// While it lives, Ctrl-C does not end the process but is remembered.
pub struct Interrupt {
    pressed: Arc<AtomicBool>,
    registration: Option<SigId>,
}

impl Interrupt {
    /// From now on. Where the system does not allow it, Ctrl-C ends the process as ever.
    pub fn remember() -> Self {
        let pressed = Arc::new(AtomicBool::new(false));
        let registration = signal_hook::flag::register(SIGINT, Arc::clone(&pressed)).ok();
        Self { pressed, registration }
    }

    /// Whether it was pressed since last asked.
    pub fn was_pressed(&self) -> bool {
        self.pressed.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(registration) = self.registration.take() {
            signal_hook::low_level::unregister(registration);
        }
    }
}
