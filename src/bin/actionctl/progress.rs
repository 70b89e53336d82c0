//! [`Display`]: the steps of an action while it runs, on stderr. A bar on a terminal, a plain line for each step event
//! elsewhere, nothing with `-q`.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::api::{Event, Progress, Step, StepState, WatchActionResponse};
use crate::render::text::{cell, clean};
use crate::render::words::{size, span, word};
use crate::screen::Screen;

/// How often the bar moves by itself.
pub const TICK: Duration = Duration::from_millis(100);

/// Shows the progress of one action.
pub enum Display<'a> {
    /// A bar below the steps that have ended.
    Live(ProgressBar),
    /// A line for each step event.
    Lines { screen: &'a Screen, target: String },
    /// Nothing.
    Silent,
}

impl<'a> Display<'a> {
    /// For an action that is called `title` on `target`, as fits stderr.
    pub fn new(screen: &'a Screen, title: &str, target: &str) -> Self {
        if screen.is_quiet() {
            return Self::Silent;
        }
        if !screen.is_live() {
            return Self::Lines { screen, target: cell(target) };
        }
        let bar = ProgressBar::new(0).with_prefix(clean(title));
        // The template is a constant, and its test reads it; the plain bar serves as well.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.tick_chars("|/-\\ ").progress_chars("=> "));
        }
        Self::Live(bar)
    }

    /// Shows an event.
    pub fn event(&self, message: &WatchActionResponse) {
        match &message.event {
            Some(Event::Snapshot(action)) => self.progress(action.progress.get_or_default()),
            Some(Event::Step(event)) => {
                self.step(event.step.get_or_default());
                self.progress(event.progress.get_or_default());
            }
            Some(Event::Progress(progress)) => self.progress(progress),
            Some(Event::Outcome(_)) | None => {}
        }
    }

    /// Moves the bar, so that it is seen to live.
    pub fn tick(&self) {
        match self {
            Self::Live(bar) => bar.tick(),
            Self::Lines { .. } | Self::Silent => {}
        }
    }

    /// Tells something without breaking the bar.
    pub fn say(&self, text: &str) {
        match self {
            Self::Live(bar) => bar.println(text),
            Self::Lines { screen, .. } => screen.note(text),
            Self::Silent => {}
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        match self {
            Self::Live(bar) => bar.finish_and_clear(),
            Self::Lines { .. } | Self::Silent => {}
        }
    }

    fn step(&self, step: &Step) {
        match self {
            Self::Live(bar) => {
                if has_ended(step) {
                    bar.println(format!("  {}", step_line(step)));
                }
            }
            Self::Lines { screen, target } => screen.note(&format!("{target}: {}", step_line(step))),
            Self::Silent => {}
        }
    }

    fn progress(&self, progress: &Progress) {
        match self {
            Self::Live(bar) => {
                bar.set_length(progress.steps_total.into());
                bar.set_position(progress.steps_done.into());
                bar.set_message(under_way(progress));
            }
            Self::Lines { .. } | Self::Silent => {}
        }
    }
}

/// The bar's line: `| launch web [====>     ] 3/7 1s pull web:1 12.0 MiB of 40.0 MiB`.
const TEMPLATE: &str = "{spinner} {prefix} [{bar:20}] {pos}/{len} {elapsed} {wide_msg}";

/// Whether the step is over.
fn has_ended(step: &Step) -> bool {
    match step.state.enum_value_or_default() {
        StepState::STEP_STATE_UNSPECIFIED | StepState::STEP_STATE_PENDING | StepState::STEP_STATE_RUNNING => false,
        StepState::STEP_STATE_CHANGED
        | StepState::STEP_STATE_UNCHANGED
        | StepState::STEP_STATE_FAILED
        | StepState::STEP_STATE_UNDONE
        | StepState::STEP_STATE_UNDO_FAILED
        | StepState::STEP_STATE_SKIPPED => true,
    }
}

/// A step with its state: `create web_main: changed in 12.3 ms`.
fn step_line(step: &Step) -> String {
    let took = match step.duration_us {
        0 => String::new(),
        us => format!(" in {}", span(Duration::from_micros(us))),
    };
    let why = if step.message.is_empty() { String::new() } else { format!(": {}", cell(&step.message)) };
    format!("{}: {}{took}{why}", cell(&step.title), word(step.state))
}

/// What is under way: the step, and the bytes of a pull.
fn under_way(progress: &Progress) -> String {
    let mut text = match progress.current_step.as_str() {
        "" => word(progress.state),
        step => cell(step),
    };
    if progress.bytes_done > 0 || progress.bytes_total > 0 {
        text.push(' ');
        text.push_str(&size(progress.bytes_done));
        if progress.bytes_total > 0 {
            text.push_str(" of ");
            text.push_str(&size(progress.bytes_total));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ActionState;

    #[test]
    fn bar_has_a_template_that_can_be_read() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }

    #[test]
    fn step_lines_say_state_time_and_reason() {
        let mut step = Step {
            title: "start web_main".to_owned(),
            state: StepState::STEP_STATE_RUNNING.into(),
            ..Default::default()
        };
        assert_eq!(step_line(&step), "start web_main: running");
        assert!(!has_ended(&step));
        step.state = StepState::STEP_STATE_FAILED.into();
        step.duration_us = 12_300;
        step.message = "exited\nwith 1".to_owned();
        assert_eq!(step_line(&step), "start web_main: failed in 12.3 ms: exited with 1");
        assert!(has_ended(&step));
    }

    #[test]
    fn pull_shows_its_bytes_and_the_total_where_known() {
        let mut progress = Progress {
            state: ActionState::ACTION_STATE_RUNNING.into(),
            current_step: "pull web:1".to_owned(),
            bytes_done: 12 << 20,
            ..Default::default()
        };
        assert_eq!(under_way(&progress), "pull web:1 12.0 MiB");
        progress.bytes_total = 40 << 20;
        assert_eq!(under_way(&progress), "pull web:1 12.0 MiB of 40.0 MiB");
        assert_eq!(under_way(&Progress { current_step: String::new(), ..Default::default() }), "unspecified");
    }
}
