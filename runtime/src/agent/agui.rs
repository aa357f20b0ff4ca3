//! An agent in any language, behind an HTTP endpoint that speaks AG-UI (<https://docs.ag-ui.com>): the gateway posts a
//! run, and the server answers with a stream of its events. LangGraph, CrewAI, Pydantic AI, Mastra and Google ADK have
//! such endpoints.
//!
//! # What is sent
//!
//! `RunAgentInput`, with these fields:
//!
//! | field | content |
//! | --- | --- |
//! | `threadId` | a digest of the user and the thread's name, so that no two users share a thread at the server |
//! | `runId` | the run's id, as on the wire |
//! | `messages` | the thread's newest turns with their tool calls, and the message; the same message keeps its id |
//! | `state`, `context` | `agui.state` and `agui.context` of the message's payload, otherwise empty |
//! | `forwardedProps` | `agui.forwardedProps` of the payload, with `lockstep: {user, thread, message}` added |
//! | `tools` | `agui.tools` of the payload: tools that the front end runs |
//! | `resume` | after a pause: the user's answers to the interrupts |
//!
//! # What becomes of the events
//!
//! | AG-UI | the run |
//! | --- | --- |
//! | `TEXT_MESSAGE_*` | `agent_delta` of the kind `text`; messages of other roles are left out |
//! | `REASONING_MESSAGE_*`, `THINKING_TEXT_MESSAGE_*` | `agent_delta` of the kind `reasoning` |
//! | `TOOL_CALL_START` to `TOOL_CALL_END` | `tool_executing` with the arguments, once they are complete |
//! | `TOOL_CALL_RESULT` | `tool_completed`; a result that is a JSON object or list is one, any other is text |
//! | types in [`Config::pass_on`] | `agent_thinking` with `{"agui": event}`; of one with more than 64 KiB, `{type, bytes}` |
//! | `RUN_FINISHED` | `agent_completed` with the `text` of the last message, and with `result` and `usage` if there are any |
//! | `RUN_FINISHED` with the outcome `interrupt` | `agent_paused` with an `approval` or a `question` for each interrupt |
//! | `RUN_FINISHED` with open calls of tools of the front end | `agent_paused` with a `tool` for each such call |
//! | `RUN_ERROR` | `agent_error` with the code `reported`; the server's message is for the operator's log |
//!
//! Without a streamed text, the text is that of the last message in a `MESSAGES_SNAPSHOT`. `_CHUNK` events are read
//! too. Types that are not known are ignored, and so is everything behind the end. A call without a result is closed as
//! abandoned when the run ends.
//!
//! If the events violate AG-UI, such as arguments of an unknown call, the run fails with the code `protocol`, and the
//! operator's log has the reason. If the stream breaks off, the run fails; it never becomes a short answer. A request
//! is repeated only if it did not reach the server, or was refused with 429 or 503. When the run is cancelled or
//! reaches its deadline, the connection to the server is closed, which tells an AG-UI server to stop.
//!
//! # Human in the loop
//!
//! A run that pauses waits for a reply of any of the user's connections, over restarts too. The reply goes on with it
//! in a new request: the same `threadId`, the `runId` with the number of the request behind it (`-2`), the messages of
//! the run until now with the server's own `toolCallId`s, and
//!
//! * in `resume`, an entry for each interrupt: `resolved` with the answer as `payload`, or `cancelled` if the reply has
//!   no answer for it;
//! * for each tool of the front end, a message of the role `tool` with the answer, or with the error "no answer". Its
//!   `tool_completed` is emitted before the request.
//!
//! `state` is that of the message again: a server that changes it must keep it by `threadId`.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use reqwest::header::ACCEPT;
use reqwest::{Client, Response, Url};
use serde_json::Value;

use super::http::{self, causes};
use super::{Agent, Message, Paused, Run};
use crate::BoxFuture;

mod asks;
mod config;
mod failure;
mod input;
mod reading;
mod steps;
mod stream;

pub use config::{Config, ConfigError, PASSED_ON, Token};

use asks::{Earlier, Replied};
use failure::Failure;
use reading::{Outcome, Reading};
use steps::Steps;

/// An agent behind an AG-UI endpoint.
#[derive(Clone, Debug)]
pub struct AgUi {
    config: Arc<Config>,
    endpoint: Url,
    client: Client,
}

impl AgUi {
    /// An agent at this address. Nothing is sent yet.
    ///
    /// ```
    /// use lockstep::agent::agui::{AgUi, Config};
    ///
    /// assert!(AgUi::new(Config::new("http://127.0.0.1:8000/")).is_ok());
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let endpoint = config.endpoint()?;
        let client = http::client(&endpoint, config.request_headers()?, config.connect_timeout, config.proxy);
        Ok(Self { config: Arc::new(config), endpoint, client: client.ok_or(ConfigError::Client)? })
    }

    async fn work(&self, message: &Message, run: &Run) -> Result<Outcome, Failure> {
        let history = run.history(self.config.max_turns).await;
        let body = input::request(&self.config, &history, message, run);
        let reading = Reading::new(input::front_end_tools(message));
        self.exchange(&body, run, (reading, Steps::default())).await
    }

    async fn go_on(&self, mut paused: Paused, run: &Run) -> Result<Outcome, Failure> {
        let history = run.history(self.config.max_turns).await;
        let replied = Replied::of(&paused);
        for (tool, name, result) in replied.close(&mut paused.turn) {
            match run.close_tool(tool, &name, result.as_ref().map_err(|error| *error)).await {
                Err(error) if !http::is_beyond(&error) => return Err(Failure::Run(error)),
                Ok(()) | Err(_) => {}
            }
        }
        let body = input::resumption(&self.config, &history, &paused, &replied, run);
        let mut steps = Steps::default();
        let front_end = input::front_end_tools(&paused.message);
        let reading = Reading::resumed(front_end, Earlier::of(&mut paused.turn), &mut steps);
        self.exchange(&body, run, (reading, steps)).await
    }

    /// Sends a request, and reads its run to the end.
    async fn exchange(&self, body: &Value, run: &Run, begun: (Reading, Steps)) -> Result<Outcome, Failure> {
        // Each wait for the server has its own time-out.
        let response = run.alive_during(self.ask(body, run)).await?;
        run.alive_during(stream::read(response, &self.config, run, begun)).await
    }

    /// Sends a request, repeating it if the server has not begun a run, and returns the beginning of the answer.
    async fn ask(&self, body: &Value, run: &Run) -> Result<Response, Failure> {
        let mut attempt = 0;
        loop {
            let (failure, asked) = match self.send(body).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            if !failure.may_pass() || attempt >= self.config.retries {
                return Err(failure);
            }
            let pause = match asked {
                Some(asked) if asked > self.config.backoff_most => return Err(Failure::Busy(asked)),
                Some(asked) => asked,
                None => http::pause(self.config.backoff, self.config.backoff_most, attempt),
            };
            tracing::info!(%failure, attempt, ?pause, "retrying the request to the agent");
            match run.thinking(&format!("{failure}; trying again.")).await {
                Err(error) if !http::is_beyond(&error) => return Err(Failure::Run(error)),
                Ok(()) | Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// Sends a request once. An error comes with the pause that the server asks for.
    async fn send(&self, body: &Value) -> Result<Response, (Failure, Option<Duration>)> {
        let request = self.client.post(self.endpoint.clone()).header(ACCEPT, "text/event-stream").json(body);
        let response = match tokio::time::timeout(self.config.first_byte_timeout, request.send()).await {
            Err(_) => return Err((Failure::Slow, None)),
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let failure = if error.is_connect() { Failure::Unreachable } else { Failure::Dropped };
                tracing::warn!(error = %causes(&error.without_url()), "the agent cannot be reached");
                return Err((failure, None));
            }
        };
        let status = response.status();
        if !status.is_success() {
            let asked = http::retry_after(&response);
            self.log_refusal(response).await;
            return Err((Failure::Status(status.as_u16()), asked));
        }
        match http::media_type(&response).as_str() {
            // Some servers do not state the content type.
            "text/event-stream" | "text/plain" | "application/octet-stream" | "" => Ok(response),
            _ => Err((Failure::NoStream, None)),
        }
    }

    /// Logs a refusal's body for the operator, unless the refusal is about the token.
    async fn log_refusal(&self, response: Response) {
        let status = response.status().as_u16();
        let body = http::refusal(response, self.config.idle_timeout).await;
        if matches!(status, 401 | 403) {
            tracing::warn!(status, "the agent's server refused the token");
            return;
        }
        let token = self.config.token.as_ref().map(|Token(token)| token);
        let answer = http::logged(&String::from_utf8_lossy(&body), token);
        tracing::warn!(status, ?answer, "the agent's server refused a request");
    }
}

impl Agent for AgUi {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        let agent = self.clone();
        Box::pin(async move {
            let outcome = agent.work(&message, &run).await;
            end(run, outcome).await;
        })
    }

    fn resume(&self, paused: Paused, run: Run) -> BoxFuture<'static, ()> {
        let agent = self.clone();
        Box::pin(async move {
            let outcome = agent.go_on(paused, &run).await;
            end(run, outcome).await;
        })
    }
}

async fn end(run: Run, outcome: Result<Outcome, Failure>) {
    let ended = match outcome {
        Ok(Outcome::Answered(data)) => run.complete(data).await,
        Ok(Outcome::Asked(request)) => run.pause(request).await,
        Err(Failure::Run(error)) => Err(error),
        Err(failure) => {
            counter!("lockstep_agent_failures_total", "code" => failure.code()).increment(1);
            tracing::warn!(%failure, "the agent did not answer");
            run.fail_as(failure.code(), &failure.to_string()).await
        }
    };
    if let Err(error) = ended {
        // Whatever ended or refused the run has told the user; otherwise dropping the handle ends it.
        tracing::debug!(%error, "the agent's answer was interrupted");
    }
}
