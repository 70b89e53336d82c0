//! Images of the simulator: which are there, and pulls that take their time and tell their bytes.

use std::time::Duration;

use crate::model::workload::PullPolicy;
use crate::runtime::adapter::{Call, Change, RtResult, RuntimeError};

use super::Engine;
use super::config::{SimImage, SimImageState, SimOp};

/// How often a pull tells how far it is, milliseconds.
const PROGRESS_MS: u64 = 50;

/// The most pieces that a pull comes in.
const MOST_PIECES: u64 = 1_000;

impl Engine {
    /// Makes the image present, as the policy says. `Changed` when it was fetched.
    pub(super) fn ensure_image(&self, call: &Call, image: &str, pull: PullPolicy) -> RtResult<Change> {
        if image.is_empty() {
            return Err(RuntimeError::InvalidSpec { reason: "the image's reference is empty".to_owned() });
        }
        let is_present =
            self.look(|state| Ok(state.pulled.contains(image)))? || self.image_state(image) == SimImageState::Present;
        match pull {
            PullPolicy::Never if !is_present => {
                Err(pull_failed(image, "it is not on the node and its pull policy is never"))
            }
            PullPolicy::Never => Ok(Change::Unchanged),
            PullPolicy::IfNotPresent if is_present => Ok(Change::Unchanged),
            PullPolicy::IfNotPresent | PullPolicy::Always => self.pull(call, image),
        }
    }

    fn pull(&self, call: &Call, image: &str) -> RtResult<Change> {
        let passage = self.faults.enter(call, SimOp::Pull, image)?;
        if self.image_state(image) == SimImageState::Missing {
            return Err(pull_failed(image, "manifest unknown"));
        }
        let known = self.image(image);
        let bytes = known.and_then(|known| known.bytes).unwrap_or(self.config.image_bytes);
        let takes_ms = known.and_then(|known| known.pull_ms).unwrap_or(self.config.pull_ms);
        let pieces = (takes_ms / PROGRESS_MS).clamp(1, MOST_PIECES);
        call.progress.bytes("layer", 0, bytes);
        for piece in 1..=pieces {
            passage.wait(Duration::from_millis(takes_ms) / u32::try_from(pieces).unwrap_or(1))?;
            // In 128 bits, because the product of two sizes may not fit 64.
            let done = u128::from(bytes) * u128::from(piece) / u128::from(pieces);
            call.progress.bytes("layer", u64::try_from(done).unwrap_or(bytes), bytes);
        }
        self.change(|state, _| {
            state.pulled.insert(image.to_owned());
            Ok(())
        })?;
        passage.leave(Change::Changed)
    }

    fn image(&self, reference: &str) -> Option<&SimImage> {
        self.config.images.iter().find(|image| image.reference == reference)
    }

    fn image_state(&self, reference: &str) -> SimImageState {
        self.image(reference).map_or(self.config.other_images, |image| image.state)
    }
}

fn pull_failed(image: &str, reason: &str) -> RuntimeError {
    RuntimeError::ImagePull { image: image.to_owned(), reason: reason.to_owned() }
}
