//! The progress line, on a terminal only.

use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::settings::{Progress, Settings};
use crate::report::table::grouped;

/// Shows progress on standard error until it is dropped. Draws nothing if standard error is not a terminal.
pub(super) struct Line(ProgressBar);

impl Line {
    /// Creates a line, and settings that update it.
    pub(super) fn attach(mut settings: Settings) -> (Self, Settings) {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        let drawn = bar.clone();
        settings.on_progress = Arc::new(move |progress| {
            if !drawn.is_hidden() {
                drawn.set_message(describe(progress));
                drawn.tick();
            }
        });
        (Self(bar), settings)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn describe(progress: &Progress) -> String {
    let rate = progress.states as f64 / progress.elapsed.as_secs_f64().max(1e-3);
    format!(
        "{} ({}): {} states, {} distinct, {}/s, depth {}, queue {}",
        progress.model,
        progress.stage.word(),
        grouped(progress.states),
        grouped(progress.unique_states),
        grouped(rate as usize),
        progress.depth,
        grouped(progress.queue),
    )
}
