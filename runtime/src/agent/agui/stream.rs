//! Reads an agent's run and emits its steps as they arrive.

use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use super::Config;
use super::failure::Failure;
use super::reading::{Outcome, Reading};
use super::steps::{Emitted, Steps};
use crate::agent::http::{Emitting, causes, settled};
use crate::agent::sse::Parser;
use crate::agent::{EmitError, Run};

/// Reads the events of a run up to its end, emits them on the way, and returns the outcome.
pub(super) async fn read(
    response: Response,
    config: &Config,
    run: &Run,
    (mut reading, mut steps): (Reading, Steps),
) -> Result<Outcome, Failure> {
    let mut source = Source { response, parser: Parser::bounded(config.max_event_bytes), read: 0 };
    let mut emitting: Option<Emitting<'_, Emitted>> = None;
    let mut deadline = Instant::now() + config.idle_timeout;
    loop {
        if emitting.is_none() {
            emitting = steps.next(run);
        }
        if reading.is_finished() && emitting.is_none() {
            return Ok(reading.into_outcome());
        }
        let may_read = !reading.is_finished() && steps.has_room();
        tokio::select! {
            emitted = settled(&mut emitting) => {
                emitting = None;
                note(&mut steps, emitted)?;
                if !may_read {
                    // The pause in reading was caused by the log, so the server gets a new deadline.
                    deadline = Instant::now() + patience(&reading, config);
                }
            }
            read = source.read(&mut reading, &mut steps, config, deadline), if may_read => {
                if let Err(failure) = read {
                    // Emit what the agent said before.
                    if let Some(emitting) = emitting.take() {
                        note(&mut steps, emitting.await)?;
                    }
                    while let Some(last) = steps.next(run) {
                        note(&mut steps, last.await)?;
                    }
                    return Err(failure);
                }
                deadline = Instant::now() + patience(&reading, config);
            }
        }
    }
}

fn note(steps: &mut Steps, emitted: Result<Emitted, EmitError>) -> Result<(), Failure> {
    steps.emitted(emitted.map_err(Failure::Run)?);
    Ok(())
}

/// How long the server may be silent.
fn patience(reading: &Reading, config: &Config) -> core::time::Duration {
    if reading.waits_for_tool() { config.tool_timeout } else { config.idle_timeout }
}

struct Source {
    response: Response,
    parser: Parser,
    /// Bytes until now.
    read: usize,
}

impl Source {
    /// Reads the next chunk. Cancel safe: it awaits only the chunk.
    async fn read(
        &mut self,
        reading: &mut Reading,
        steps: &mut Steps,
        config: &Config,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let chunk = match timeout_at(deadline, self.response.chunk()).await {
            Err(_) => return Err(Failure::Slow),
            Ok(Err(error)) => {
                tracing::info!(error = %causes(&error.without_url()), "the connection to the agent broke");
                return Err(Failure::Cut);
            }
            Ok(Ok(None)) => return Err(Failure::Cut),
            Ok(Ok(Some(chunk))) => chunk,
        };
        self.read = self.read.saturating_add(chunk.len());
        if self.read > config.max_answer_bytes {
            tracing::warn!(most = config.max_answer_bytes, "the agent's run has too many bytes");
            return Err(Failure::TooLong);
        }
        let mut events = Vec::new();
        let parsed = self.parser.feed(&chunk, &mut events);
        for event in events.iter().map(|event| event.data.trim()).filter(|data| !data.is_empty()) {
            reading.take(event, config, steps)?;
            if reading.is_finished() {
                // Events after the end do not concern this run.
                return Ok(());
            }
        }
        parsed.map_err(|_| {
            tracing::warn!(most = config.max_event_bytes, "an event of the agent's run has too many bytes");
            Failure::TooLong
        })
    }
}
