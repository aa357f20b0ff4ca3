//! Any OpenAI-compatible endpoint as an agent: `POST {base_url}/chat/completions`, streamed, with tools.
//!
//! The model's output is emitted as it arrives: `agent_delta` with the next piece of its text, or of a reasoning
//! model's thoughts (kind `reasoning`), and `agent_thinking` with a remark of this adapter. While one event is on its
//! way to the log, further output gathers in the next one. So a slow log leads to larger pieces and not to a longer
//! queue. `agent_completed` has the whole `text` of the last reply, the `model`, its `usage` if the server reports it,
//! and `"truncated": true` if a limit cut the text off.
//!
//! Whatever the server sends with tool calls, such as its model's thoughts and their signatures, is sent back unchanged
//! with the results. Calls that a limit has cut off are not made.
//!
//! A request is repeated only before its answer has begun to arrive. An answer that breaks off is reported as a
//! failure, never as a short answer. When the run is cancelled, the connection to the model is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use metrics::{counter, histogram};
use reqwest::header::ACCEPT;
use reqwest::{Client, Response, Url};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::http::{self, MAX_LOGGED, MAX_RESULT, causes, head, retry_after};
use super::tools::{Invocation, Tools};
use super::{Agent, EmitError, Message, Run, ToolError};
use crate::BoxFuture;

mod chat;
mod config;
mod failure;
mod joined;
mod latency;
mod refusal;
mod reply;
mod stream;

pub use config::{ApiKey, Config, ConfigError};

use failure::Failure;
use reply::{Call, Finish, Reply};
use stream::Form;

/// An agent that asks a model.
#[derive(Clone, Debug)]
pub struct OpenAi {
    config: Config,
    endpoint: Url,
    client: Client,
    tools: Tools,
    /// Whether the server has refused to report token usage.
    no_usage: Arc<AtomicBool>,
}

impl OpenAi {
    /// An agent that asks this model and offers it these tools. Nothing is sent yet.
    ///
    /// ```
    /// use lockstep::agent::openai::{Config, OpenAi};
    /// use lockstep::agent::tools::Tools;
    ///
    /// let agent = OpenAi::new(Config::new("http://127.0.0.1:11434/v1", "llama3.2"), Tools::none());
    /// assert!(agent.is_ok());
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn new(config: Config, tools: Tools) -> Result<Self, ConfigError> {
        let endpoint = config.endpoint()?;
        let headers = config.request_headers()?;
        let client = http::client(&endpoint, headers, config.connect_timeout, config.proxy);
        let client = client.ok_or(ConfigError::Client)?;
        Ok(Self { config, endpoint, client, tools, no_usage: Arc::default() })
    }

    async fn work(&self, message: &Message, run: &Run) -> Result<Value, Failure> {
        let history = run.history(self.config.max_turns).await;
        let mut messages = chat::conversation(&self.config, &self.tools, &history, message);
        let mut rounds = 0;
        loop {
            let mut body = chat::request(&self.config, &messages, &self.tools);
            let began = Instant::now();
            // Each wait for the server has its own time-out.
            let answer = run.alive_during(self.ask(&mut body, run)).await?;
            let names = self.tools.iter().map(|tool| tool.name().to_owned()).collect();
            let mut reply = run.alive_during(stream::read(answer, names, &self.config, began, run)).await?;
            histogram!("lockstep_model_reply_seconds").record(began.elapsed());
            if reply.calls.is_empty() {
                return self.answer_of(reply);
            }
            if reply.finish == Some(Finish::Length) {
                return Err(Failure::Truncated);
            }
            if rounds >= self.config.max_rounds {
                return Err(Failure::Rounds(rounds));
            }
            rounds += 1;
            messages.push(reply.message());
            let calls = join_all(reply.calls.iter().map(|call| self.call(call, &message.subject, run)));
            // Each tool has its own time-out too.
            let results = run.alive_during(calls).await;
            for (call, result) in reply.calls.iter().zip(results) {
                messages.push(json!({ "role": "tool", "tool_call_id": call.id, "content": result? }));
            }
        }
    }

    fn answer_of(&self, reply: Reply) -> Result<Value, Failure> {
        if reply.text.is_empty() {
            return Err(if reply.finish == Some(Finish::Length) { Failure::Truncated } else { Failure::Empty });
        }
        let mut data = json!({ "text": reply.text, "model": reply.model.unwrap_or_else(|| self.config.model.clone()) });
        if let Some(usage) = reply.usage {
            data["usage"] = usage;
        }
        if reply.finish == Some(Finish::Length) {
            data["truncated"] = true.into();
        }
        Ok(data)
    }

    /// Sends a request, repeating it if the server did not begin to answer, and returns the beginning of the answer.
    async fn ask(&self, body: &mut Value, run: &Run) -> Result<(Response, Form), Failure> {
        let mut attempt = 0;
        if self.no_usage.load(Ordering::Relaxed) {
            refusal::leave_out_usage(body);
        }
        loop {
            let (failure, asked) = match latency::timed(self.send(body)).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            if let Failure::Refused { field, .. } = &failure
                && field == refusal::USAGE
                && refusal::leave_out_usage(body)
            {
                // Nothing in the answer depends on it.
                tracing::warn!("the model's server refuses `stream_options`: later requests omit it");
                self.no_usage.store(true, Ordering::Relaxed);
                continue;
            }
            if !failure.may_pass() || attempt >= self.config.retries {
                return Err(failure);
            }
            let pause = match asked {
                Some(asked) if asked > self.config.backoff_most => return Err(Failure::Busy(asked)),
                Some(asked) => asked,
                None => http::pause(self.config.backoff, self.config.backoff_most, attempt),
            };
            tracing::info!(%failure, attempt, ?pause, "retrying the request to the model");
            shown(run.thinking(&format!("{failure}; trying again.")).await)?;
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// Sends a request once. An error comes with the pause that the server asks for.
    async fn send(&self, body: &Value) -> Result<(Response, Form), (Failure, Option<Duration>)> {
        let request = self.client.post(self.endpoint.clone()).header(ACCEPT, "text/event-stream").json(body);
        let response = match tokio::time::timeout(self.config.first_byte_timeout, request.send()).await {
            Err(_) => return Err((Failure::Slow, None)),
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                tracing::warn!(error = %causes(&error.without_url()), "the model cannot be reached");
                return Err((Failure::Unreachable, None));
            }
        };
        let status = response.status();
        if !status.is_success() {
            let asked = retry_after(&response);
            let said = self.log_refusal(response).await;
            return Err((refusal::of(status.as_u16(), &said, body, &self.config), asked));
        }
        match http::media_type(&response).as_str() {
            // Some servers do not state the content type.
            "text/event-stream" | "text/plain" | "application/octet-stream" | "" => Ok((response, Form::Events)),
            "application/json" => Ok((response, Form::Document)),
            _ => Err((Failure::NoStream, None)),
        }
    }

    /// Logs a refusal's body for the operator, unless the refusal is about the key, and returns the body.
    async fn log_refusal(&self, response: Response) -> String {
        let status = response.status().as_u16();
        let body = http::refusal(response, self.config.idle_timeout).await;
        if matches!(status, 401 | 403) {
            tracing::warn!(status, "the model's server refused the API key");
            return String::new();
        }
        let text = String::from_utf8_lossy(&body);
        let text = self.config.api_key.as_ref().map_or_else(|| text.to_string(), |key| key.redact(&text));
        tracing::warn!(status, answer = ?http::logged(&text, None), "the model's server refused a request");
        text
    }

    /// Calls a tool, and returns its result for the model.
    async fn call(&self, call: &Call, subject: &Arc<str>, run: &Run) -> Result<String, Failure> {
        let parsed = call.parsed();
        let displayed = parsed.clone().unwrap_or_else(|| json!({ "unreadable": head(&call.arguments, MAX_LOGGED) }));
        let work = async {
            let tool = self.tools.named(&call.name).ok_or_else(|| "there is no tool with this name".to_owned())?;
            let arguments = parsed.ok_or_else(|| "the arguments are not a JSON object".to_owned())?;
            let invocation = Invocation { subject: Arc::clone(subject), arguments };
            match tokio::time::timeout(self.config.tool_timeout, tool.call(invocation)).await {
                Ok(result) => result,
                Err(_) => Err("the tool took too long".to_owned().into()),
            }
        };
        match run.tool(&call.name, &displayed, work).await {
            Ok(value) => Ok(head(&value.to_string(), MAX_RESULT).to_owned()),
            Err(ToolError::Failed(error)) => Ok(json!({ "error": error.to_string() }).to_string()),
            Err(error @ (ToolError::Panicked | ToolError::NotJson)) => {
                Ok(json!({ "error": error.to_string() }).to_string())
            }
            // The model may manage with fewer tools at once, or answer without.
            Err(ToolError::Run(EmitError::Refused(
                refusal @ (lockstep_model::Refusal::TooManyTools | lockstep_model::Refusal::TooManyEvents),
            ))) => Ok(json!({ "error": refusal.to_string() }).to_string()),
            Err(ToolError::Run(error)) => Err(Failure::Run(error)),
        }
    }
}

impl Agent for OpenAi {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        let agent = self.clone();
        Box::pin(async move {
            let ended = match agent.work(&message, &run).await {
                Ok(data) => run.complete(data).await,
                Err(Failure::Run(error)) => Err(error),
                Err(failure) => {
                    counter!("lockstep_model_failures_total", "code" => failure.code()).increment(1);
                    tracing::warn!(%failure, "the model did not answer");
                    run.fail_as(failure.code(), &failure.to_string()).await
                }
            };
            if let Err(error) = ended {
                // Whatever ended or refused the run has told the user; otherwise dropping the handle ends it.
                tracing::debug!(%error, "the model's answer was interrupted");
            }
        })
    }
}

/// Ignores [`TooManyEvents`](lockstep_model::Refusal::TooManyEvents): a run at its event limit can still end, so output
/// on the way there is left out.
fn shown(emitted: Result<(), EmitError>) -> Result<(), Failure> {
    match emitted {
        Err(error) if !http::is_beyond(&error) => Err(Failure::Run(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
