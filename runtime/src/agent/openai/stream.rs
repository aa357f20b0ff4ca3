//! Reading a reply while what it says is shown.

use core::future::Future;
use core::pin::Pin;
use std::time::Duration;

use reqwest::Response;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::chat::{Reply, Shown};
use super::failure::Failure;
use super::sse::Parser;
use super::{Config, shown};
use crate::agent::{EmitError, Run};

/// How much one event shows at most, and how much may wait to be shown before no more is read, in bytes.
const MAX_WAITING: usize = 64 << 10;
/// How long a reply that is whole may take to say its usage and end.
const TAIL: Duration = Duration::from_secs(2);

type Emitting<'a> = Pin<Box<dyn Future<Output = Result<(), EmitError>> + Send + 'a>>;

/// Reads a reply to its end, and shows what it says on the way.
pub(super) async fn read(response: Response, config: &Config, run: &Run) -> Result<Reply, Failure> {
    let mut source = Source { response, parser: Parser::default(), idle: config.idle_timeout };
    let mut reply = Reply::default();
    let mut waiting = Shown::default();
    let mut emitting: Option<Emitting<'_>> = None;
    let mut deadline = Instant::now() + config.idle_timeout;
    let mut over = false;
    loop {
        if emitting.is_none() {
            emitting = waiting.next(run);
        }
        if over && emitting.is_none() {
            return Ok(reply);
        }
        let may_read = !over && waiting.text.len() + waiting.reasoning.len() < MAX_WAITING;
        tokio::select! {
            emitted = settled(&mut emitting) => {
                emitting = None;
                shown(emitted)?;
                if !may_read {
                    // The silence was ours.
                    deadline = Instant::now() + config.idle_timeout;
                }
            }
            read = source.read(&mut reply, &mut waiting, deadline), if may_read => {
                over = match read {
                    Ok(over) => over,
                    // Nothing that comes after the end takes anything of it away.
                    Err(_) if reply.finish.is_some() => true,
                    Err(failure) => {
                        // What the model said before that was said.
                        if let Some(emitting) = emitting.take() {
                            shown(emitting.await)?;
                        }
                        while let Some(last) = waiting.next(run) {
                            shown(last.await)?;
                        }
                        return Err(failure);
                    }
                };
                deadline = Instant::now() + source.patience(&reply);
            }
        }
    }
}

/// Waits for the event that is on its way; for ever if there is none.
async fn settled(emitting: &mut Option<Emitting<'_>>) -> Result<(), EmitError> {
    match emitting {
        Some(emitting) => emitting.await,
        None => core::future::pending().await,
    }
}

struct Source {
    response: Response,
    parser: Parser,
    idle: Duration,
}

impl Source {
    fn patience(&self, reply: &Reply) -> Duration {
        if reply.finish.is_some() { self.idle.min(TAIL) } else { self.idle }
    }

    /// Takes the next chunk, and says whether the stream is over. Cancel safe: it awaits nothing but the chunk.
    async fn read(&mut self, reply: &mut Reply, waiting: &mut Shown, deadline: Instant) -> Result<bool, Failure> {
        let chunk = match timeout_at(deadline, self.response.chunk()).await {
            Err(_) => return Err(Failure::Slow),
            Ok(Err(error)) => {
                tracing::info!(error = %super::causes(&error.without_url()), "the model's stream broke");
                return Err(Failure::Cut);
            }
            Ok(Ok(None)) if reply.finish.is_some() => return Ok(true),
            Ok(Ok(None)) => return Err(Failure::Cut),
            Ok(Ok(Some(chunk))) => chunk,
        };
        let mut events = Vec::new();
        let parsed = self.parser.feed(&chunk, &mut events);
        for event in events {
            match event.data.trim() {
                "[DONE]" if reply.finish.is_some() => return Ok(true),
                "[DONE]" => return Err(Failure::Cut),
                // A server's way to keep the connection awake.
                "" => {}
                data => reply.take(data, waiting)?,
            }
        }
        parsed.map_err(|_| Failure::TooLong)?;
        Ok(false)
    }
}

impl Shown {
    /// Emits what has gathered, thoughts before text.
    fn next<'a>(&mut self, run: &'a Run) -> Option<Emitting<'a>> {
        let data = if !self.reasoning.is_empty() {
            json!({ "reasoning": begin(&mut self.reasoning) })
        } else if !self.text.is_empty() {
            json!({ "delta": begin(&mut self.text) })
        } else {
            return None;
        };
        Some(Box::pin(run.progress(data)))
    }
}

/// Takes as much of a text as one event shows.
fn begin(text: &mut String) -> String {
    let rest = text.split_off(text.floor_char_boundary(MAX_WAITING));
    core::mem::replace(text, rest)
}
