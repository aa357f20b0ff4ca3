//! The agent that answers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lockstep::agent::agui::PASSED_ON;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use super::error::Broken;
use super::table::table;
use super::units;

table! {
    /// The agent that answers.
    pub struct Agent {
        /// `builtin` for a few rules and real tools, `openai` for a model behind any OpenAI-compatible endpoint,
        /// `agui` for an agent in any language behind an endpoint that speaks AG-UI.
        pub kind: AgentKind = AgentKind::Builtin,
        /// The agent's name in the frames of legacy clients.
        pub name: String = lockstep::wire::AGENT_NAME.to_owned(),
        /// For `kind = "openai"`: the endpoint, up to and including `/v1`.
        pub base_url: Option<String> = None,
        /// For `kind = "openai"`: the model's name.
        pub model: Option<String> = None,
        /// For `kind = "agui"`: the address that runs are posted to, such as `http://127.0.0.1:8000/`.
        pub url: Option<String> = None,
        /// For `kind = "openai"` and `"agui"`: the file that contains the key or the bearer token.
        pub api_key_file: Option<PathBuf> = None,
        /// For `kind = "openai"` and `"agui"`: the header for the bare key; if not set, `Authorization` with `Bearer`.
        pub api_key_header: Option<String> = None,
        /// For `kind = "openai"`: the system prompt.
        pub system: Option<String> = None,
        /// For `kind = "openai"`: the sampling temperature; if not set, the server's default.
        pub temperature: Option<Number> = None,
        /// For `kind = "openai"`: the most tokens of one reply; if not set, the server's default.
        pub max_tokens: Option<u32> = None,
        /// For `kind = "openai"`: the field that carries this limit; some servers need `max_completion_tokens`.
        pub max_tokens_field: String = "max_tokens".to_owned(),
        /// For `kind = "openai"`: whether to ask the server for token usage (`stream_options`). If it refuses, later
        /// requests go without it.
        pub usage: bool = true,
        /// For `kind = "openai"`: fields of a request and its messages that are left out because the server refuses
        /// them, such as `["tools"]` for a model without tools, or `["reasoning_content"]`.
        pub omit: Vec<String> = Vec::new(),
        /// For `kind = "openai"` and `"agui"`: the most earlier messages of the thread that are sent to the model, each with its
        /// run: tools and their results, and the text until the run failed or was stopped.
        pub max_turns: usize = 20,
        /// For `kind = "openai"` and `"agui"`: the most bytes of these messages. The newest ones that fit are sent.
        pub max_history_bytes: usize = 64 * 1024,
        /// For `kind = "openai"`: how often a model may call tools before it must answer.
        pub max_rounds: u32 = 8,
        /// For `kind = "openai"` and `"agui"`: how often a request is repeated if the server did not begin to answer.
        pub retries: u32 = 3,
        /// For `kind = "openai"` and `"agui"`: milliseconds before the first repetition, unless the server names a pause.
        /// The pause doubles each time, and a random part of up to half of it is left out.
        pub backoff_ms: u64 ["units::milliseconds"] = 500,
        /// For `kind = "openai"` and `"agui"`: the longest pause in milliseconds. If the server asks for a longer one, the
        /// run fails at once.
        pub backoff_most_ms: u64 ["units::milliseconds"] = 20_000,
        /// For `kind = "openai"` and `"agui"`: whether the environment variables `HTTPS_PROXY`, `HTTP_PROXY` and
        /// `NO_PROXY` apply.
        pub proxy: bool = true,
        /// For `kind = "openai"` and `"agui"`: the most seconds to connect.
        pub connect_seconds: u64 ["units::seconds"] = 10,
        /// For `kind = "openai"` and `"agui"`: the most seconds from a request to the first byte of its answer.
        pub first_byte_seconds: u64 ["units::seconds"] = 300,
        /// For `kind = "openai"` and `"agui"`: the most seconds of silence in a stream. Comments and empty events end a silence.
        pub idle_seconds: u64 ["units::seconds"] = 300,
        /// For `kind = "openai"`: the most seconds for one tool call. For `kind = "agui"`: the most seconds of silence
        /// while a tool runs.
        pub tool_seconds: u64 ["units::seconds"] = 600,
        /// For `kind = "agui"`: the most bytes of one event.
        pub max_event_bytes: usize = 1024 * 1024,
        /// For `kind = "agui"`: the most bytes of all events of a run.
        pub max_answer_bytes: usize = 16 * 1024 * 1024,
        /// For `kind = "agui"`: the events that are passed on to clients as `agent_thinking`. `RAW` and
        /// `MESSAGES_SNAPSHOT` mostly repeat what others say.
        pub pass_on: Vec<String> = PASSED_ON.map(str::to_owned).to_vec(),
        /// The most document searches at a time; 0 for half the number of processors. Users take turns.
        pub tool_threads: usize = 0,
        /// For `kind = "builtin"`: milliseconds between two pieces of an answer.
        pub pace_ms: u64 ["units::milliseconds"] = 40,
        /// For `kind = "openai"` and `"agui"`: headers that are added to each request. Put secrets into `api_key_file` instead.
        pub headers: BTreeMap<String, String> = BTreeMap::new(),
        /// For `kind = "openai"`: fields that are added to the body of each request.
        pub extra_body: Map<String, Value> = Map::new(),
    }
}

/// Which agent answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// A few rules and real tools; no model.
    Builtin,
    /// Any OpenAI-compatible endpoint.
    Openai,
    /// Any endpoint that speaks AG-UI.
    Agui,
}

impl Agent {
    pub(super) fn validate(&self) -> Result<(), Broken> {
        if self.kind == AgentKind::Openai && (self.base_url.is_none() || self.model.is_none()) {
            return Err(Broken::new("agent", "with `kind = \"openai\"` needs `base_url` and `model`"));
        }
        if self.kind == AgentKind::Agui && self.url.is_none() {
            return Err(Broken::new("agent", "with `kind = \"agui\"` needs `url`"));
        }
        for (field, bytes) in
            [("agent.max_event_bytes", self.max_event_bytes), ("agent.max_answer_bytes", self.max_answer_bytes)]
        {
            if bytes < 1024 {
                return Err(Broken::new(field, "must be at least 1024"));
            }
        }
        for (field, seconds) in [
            ("agent.connect_seconds", self.connect_seconds),
            ("agent.first_byte_seconds", self.first_byte_seconds),
            ("agent.idle_seconds", self.idle_seconds),
            ("agent.tool_seconds", self.tool_seconds),
        ] {
            if seconds == 0 {
                return Err(Broken::new(field, "must be at least 1"));
            }
        }
        Ok(())
    }
}
