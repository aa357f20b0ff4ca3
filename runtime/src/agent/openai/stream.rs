//! Reads a reply and emits its content as it arrives.

use std::time::Duration;

use metrics::histogram;
use reqwest::Response;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::reply::{Finish, Reply, Shown};
use super::{Config, shown};
use crate::agent::Run;
use crate::agent::http::{self, MAX_WAITING, begin, causes, settled};
use crate::agent::sse::Parser;

/// The longest time that a complete reply may take to report its usage and end.
const TAIL: Duration = Duration::from_secs(2);

type Emitting<'a> = http::Emitting<'a, ()>;

/// The most bytes of a reply that comes as one document.
const MAX_DOCUMENT: usize = 8 << 20;

/// How a server answers.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// A stream of events, as requested.
    Events,
    /// A document: some servers do not stream, or not with tools.
    Document,
}

/// Reads a reply to its end, and emits its content on the way. `began` is when it was requested.
pub(super) async fn read(
    (response, form): (Response, Form),
    tools: Vec<String>,
    config: &Config,
    began: Instant,
    run: &Run,
) -> Result<Reply, Failure> {
    let body = match form {
        Form::Events => Body::Events(Parser::default()),
        Form::Document => Body::Document(Vec::new()),
    };
    let mut source = Source { response, body, idle: config.idle_timeout };
    let mut reply = Reply::new(tools);
    let mut waiting = Shown::default();
    let mut emitting: Option<Emitting<'_>> = None;
    let mut deadline = Instant::now() + config.idle_timeout;
    let (mut over, mut begun) = (false, false);
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
                    // The pause in reading was caused by the log, so the server gets a new deadline.
                    deadline = Instant::now() + config.idle_timeout;
                }
            }
            read = source.read(&mut reply, &mut waiting, deadline), if may_read => {
                over = match read {
                    Ok(over) => over,
                    // Nothing after the end can invalidate the reply.
                    Err(_) if reply.finish.is_some() => true,
                    Err(failure) => {
                        // Emit the model's output from before the failure.
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
                let says = !waiting.text.is_empty() || !waiting.reasoning.is_empty() || !reply.calls.is_empty();
                if says && !core::mem::replace(&mut begun, true) {
                    histogram!("lockstep_model_first_token_seconds").record(began.elapsed());
                }
            }
        }
    }
}

struct Source {
    response: Response,
    body: Body,
    idle: Duration,
}

enum Body {
    Events(Parser),
    Document(Vec<u8>),
}

impl Source {
    fn patience(&self, reply: &Reply) -> Duration {
        if reply.finish.is_some() { self.idle.min(TAIL) } else { self.idle }
    }

    /// Reads the next chunk, and returns whether the stream is over. Cancel safe: it awaits only the chunk.
    async fn read(&mut self, reply: &mut Reply, waiting: &mut Shown, deadline: Instant) -> Result<bool, Failure> {
        let chunk = match timeout_at(deadline, self.response.chunk()).await {
            Err(_) => return Err(Failure::Slow),
            Ok(Err(error)) => {
                tracing::info!(error = %causes(&error.without_url()), "the model's connection broke");
                return Err(Failure::Cut);
            }
            Ok(Ok(None)) if reply.finish.is_some() => return Ok(true),
            Ok(Ok(None)) => {
                return match &self.body {
                    Body::Events(_) => Err(Failure::Cut),
                    Body::Document(bytes) => whole(bytes, reply, waiting),
                };
            }
            Ok(Ok(Some(chunk))) => chunk,
        };
        let parser = match &mut self.body {
            Body::Events(parser) => parser,
            Body::Document(bytes) if bytes.len() + chunk.len() <= MAX_DOCUMENT => {
                bytes.extend_from_slice(&chunk);
                return Ok(false);
            }
            Body::Document(_) => return Err(Failure::TooLong),
        };
        let mut events = Vec::new();
        let parsed = parser.feed(&chunk, &mut events);
        for event in events {
            match event.data.trim() {
                data if event.name == "error" => return Err(reported(data)),
                "[DONE]" if reply.is_done() => return Ok(true),
                "[DONE]" => return Err(Failure::Cut),
                // Some servers keep the connection alive with these.
                "" => {}
                data => reply.take(data, waiting)?,
            }
        }
        parsed.map_err(|_| Failure::TooLong)?;
        Ok(false)
    }
}

/// Takes a reply that arrived as one document.
fn whole(bytes: &[u8], reply: &mut Reply, waiting: &mut Shown) -> Result<bool, Failure> {
    let text = core::str::from_utf8(bytes).map_err(|_| Failure::NoStream)?;
    match reply.take(text, waiting) {
        Err(Failure::Garbled) => return Err(Failure::NoStream),
        other => other?,
    }
    if reply.text.is_empty() && reply.calls.is_empty() && reply.finish.is_none() {
        return Err(Failure::NoStream);
    }
    reply.finish = reply.finish.or(Some(Finish::Whole));
    Ok(true)
}

/// The failure for an error event.
fn reported(data: &str) -> Failure {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    Failure::reported(data.get("error").unwrap_or(&data))
}

impl Shown {
    /// Emits the gathered output, thoughts before text.
    fn next<'a>(&mut self, run: &'a Run) -> Option<Emitting<'a>> {
        let (kind, piece) = if !self.reasoning.is_empty() {
            ("reasoning", begin(&mut self.reasoning))
        } else if !self.text.is_empty() {
            ("text", begin(&mut self.text))
        } else {
            return None;
        };
        Some(Box::pin(async move { run.delta(kind, &piece).await }))
    }
}
