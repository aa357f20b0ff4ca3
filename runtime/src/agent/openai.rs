//! Any OpenAI-compatible endpoint as an agent: `POST {base_url}/chat/completions`, streamed, with tools.
//!
//! What the model says is shown as it comes: `agent_thinking` with `{"delta": …}` is the next piece of its text, with
//! `{"reasoning": …}` the next piece of a reasoning model's thoughts, with `{"text": …}` a remark of this adapter. While
//! one event is on its way to the log, what comes meanwhile gathers into the next one, so a slow log makes larger pieces
//! and not a longer queue. `agent_completed` has the whole `text` of the last reply, the `model`, its `usage` if the
//! server tells it, and `"truncated": true` if a limit cut the text off.
//!
//! A request is repeated only while nothing of its answer has come. An answer that breaks off is a failure that says
//! so, never a short answer. When the run is cancelled, the connection to the model is closed.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, Url};
use serde_json::{Value, json};

use super::tools::Tools;
use super::{Agent, EmitError, Message, Run, ToolError};
use crate::verify::BoxFuture;

mod chat;
mod config;
mod failure;
mod latency;
pub mod sse;
mod stream;

pub use config::{ApiKey, Config, ConfigError};

use chat::{Call, Finish, Reply};
use failure::Failure;

/// The most bytes of a refusal that are read, for the operator's log.
const MAX_REFUSAL: usize = 4 << 10;
/// The most characters of it that are logged.
const MAX_LOGGED: usize = 300;
/// The most bytes of a tool's result that the model is told.
const MAX_RESULT: usize = 64 << 10;

/// An agent that asks a model.
#[derive(Clone, Debug)]
pub struct OpenAi {
    config: Config,
    endpoint: Url,
    client: Client,
    tools: Tools,
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
        // An error means that the process has one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        if let Some(key) = &config.api_key {
            headers.insert(AUTHORIZATION, key.header()?);
        }
        let mut client = Client::builder()
            .default_headers(headers)
            .user_agent(concat!("lockstep/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            // Neither the key nor the conversation goes where the operator has not sent it.
            .redirect(reqwest::redirect::Policy::none());
        if endpoint.scheme() == "http" {
            // A model on one's own machine needs no system certificates.
            client = client.tls_certs_only([]);
        }
        if !config.proxy {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|_| ConfigError::Client)?;
        Ok(Self { config, endpoint, client, tools })
    }

    async fn work(&self, message: &Message, run: &Run) -> Result<Value, Failure> {
        let mut messages = chat::conversation(&self.config, &run.history(), message);
        let mut rounds = 0;
        loop {
            let body = chat::request(&self.config, &messages, &self.tools);
            let response = self.ask(&body, run).await?;
            let mut reply = stream::read(response, &self.config, run).await?;
            if reply.calls.is_empty() {
                return self.answer_of(reply);
            }
            if rounds >= self.config.max_rounds {
                return Err(Failure::Rounds(rounds));
            }
            rounds += 1;
            messages.push(reply.message());
            let results = join_all(reply.calls.iter().map(|call| self.call(call, run))).await;
            for (call, result) in reply.calls.iter().zip(results) {
                messages.push(json!({ "role": "tool", "tool_call_id": call.id, "content": result? }));
            }
        }
    }

    fn answer_of(&self, reply: Reply) -> Result<Value, Failure> {
        if reply.text.is_empty() {
            return Err(Failure::Empty);
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

    /// Sends a request, again if the server did not begin to answer, and returns the beginning of the answer.
    async fn ask(&self, body: &Value, run: &Run) -> Result<Response, Failure> {
        let mut attempt = 0;
        loop {
            let (failure, asked) = match latency::timed(self.send(body)).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            if !failure.may_pass() || attempt >= self.config.retries {
                return Err(failure);
            }
            let pause = match asked {
                Some(asked) if asked > self.config.backoff_most => return Err(Failure::Busy(asked)),
                Some(asked) => asked,
                None => self.pause(attempt),
            };
            tracing::info!(%failure, attempt, ?pause, "the model is asked again");
            shown(run.thinking(&format!("{failure}; I try again.")).await)?;
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// One attempt. With an error comes the pause that the server asks for.
    async fn send(&self, body: &Value) -> Result<Response, (Failure, Option<Duration>)> {
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
            let asked = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
            self.log_refusal(response).await;
            return Err((Failure::Status(status.as_u16()), asked));
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream") {
            Ok(response)
        } else {
            Err((Failure::NoStream, None))
        }
    }

    /// Tells the operator what the server has to say, unless it is about the key.
    async fn log_refusal(&self, mut response: Response) {
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let reading = async {
            while let Ok(Some(chunk)) = response.chunk().await {
                body.extend_from_slice(&chunk);
                if body.len() >= MAX_REFUSAL {
                    break;
                }
            }
        };
        // What has come until then is enough for a log.
        let _ = tokio::time::timeout(self.config.idle_timeout.min(Duration::from_secs(2)), reading).await;
        if matches!(status, 401 | 403) {
            tracing::warn!(status, "the model's server refused the API key");
            return;
        }
        body.truncate(MAX_REFUSAL);
        let text = String::from_utf8_lossy(&body);
        let text = self.config.api_key.as_ref().map_or_else(|| text.to_string(), |key| key.redact(&text));
        let text: String = text.chars().take(MAX_LOGGED).collect();
        tracing::warn!(status, answer = ?text, "the model's server refused a request");
    }

    /// The pause before the next attempt, with a random part.
    fn pause(&self, attempt: u32) -> Duration {
        let whole = self.config.backoff.saturating_mul(2_u32.saturating_pow(attempt)).min(self.config.backoff_most);
        // Without randomness, everybody waits equally long, which is no reason to fail.
        let random = crate::random_bytes().map_or(0, u32::from_ne_bytes);
        whole - whole.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
    }

    /// Calls a tool, and returns what the model is told of it.
    async fn call(&self, call: &Call, run: &Run) -> Result<String, Failure> {
        let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let parsed = serde_json::from_str::<Value>(arguments).ok().filter(Value::is_object);
        let displayed = parsed.clone().unwrap_or_else(|| json!({ "unreadable": head(arguments, MAX_LOGGED) }));
        let work = async {
            let tool = self.tools.named(&call.name).ok_or_else(|| "there is no tool of this name".to_owned())?;
            let arguments = parsed.ok_or_else(|| "the arguments are not a JSON object".to_owned())?;
            match tokio::time::timeout(self.config.tool_timeout, tool.call(arguments)).await {
                Ok(result) => result,
                Err(_) => Err("the tool took too long".to_owned()),
            }
        };
        match run.tool(&call.name, &displayed, work).await {
            Ok(value) => Ok(head(&value.to_string(), MAX_RESULT).to_owned()),
            Err(ToolError::Failed(error)) => Ok(json!({ "error": error }).to_string()),
            // The model may do with fewer tools at once, or answer without.
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
                    tracing::warn!(%failure, "the model has not answered");
                    run.fail(&failure.to_string()).await
                }
            };
            if let Err(error) = ended {
                // Whoever ended the run, or refused it, has told the user; dropping the handle ends it otherwise.
                tracing::debug!(%error, "the model's answer was interrupted");
            }
        })
    }
}

/// A run that has emitted all it may can still end, so what is only shown on the way is left out then.
fn shown(emitted: Result<(), EmitError>) -> Result<(), Failure> {
    match emitted {
        Ok(()) | Err(EmitError::Refused(lockstep_model::Refusal::TooManyEvents)) => Ok(()),
        Err(error) => Err(Failure::Run(error)),
    }
}

/// The beginning of a text, of at most so many bytes.
fn head(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// An error with what caused it.
fn causes(error: &dyn core::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The pause that a server asks for (RFC 9110 §10.2.3): seconds, or the date at which it is over.
fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    let seconds = || value.parse().ok().map(Duration::from_secs);
    let date = || Some(httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).unwrap_or_default());
    seconds().or_else(date)
}
