//! Who answers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use super::error::Broken;
use super::table::table;

table! {
    /// Who answers.
    pub struct Agent {
        /// Which: `builtin` for a few rules and real tools, `openai` for a model behind any OpenAI-compatible endpoint.
        pub kind: AgentKind = AgentKind::Builtin,
        /// For `kind = "openai"`: the endpoint up to and with `/v1`.
        pub base_url: Option<String> = None,
        /// For `kind = "openai"`: the model's name.
        pub model: Option<String> = None,
        /// For `kind = "openai"`: the file that holds the key.
        pub api_key_file: Option<PathBuf> = None,
        /// For `kind = "openai"`: the header that the key goes into as it is; without, `Authorization` after `Bearer`.
        pub api_key_header: Option<String> = None,
        /// For `kind = "openai"`: what the model is told before everything else.
        pub system: Option<String> = None,
        /// For `kind = "openai"`: how freely the model chooses its words; without, the server's default.
        pub temperature: Option<Number> = None,
        /// For `kind = "openai"`: the most tokens of one reply; without, the server's default.
        pub max_tokens: Option<u32> = None,
        /// For `kind = "openai"`: the field that says so, for some servers `max_completion_tokens`.
        pub max_tokens_field: String = "max_tokens".to_owned(),
        /// For `kind = "openai"`: whether the server is asked for the usage of tokens (`stream_options`). One that refuses is
        /// asked without.
        pub usage: bool = true,
        /// For `kind = "openai"`: fields of a request and its messages that the server refuses and that are left out, such as
        /// `["tools"]` for a model without tools, or `["reasoning_content"]`.
        pub omit: Vec<String> = Vec::new(),
        /// For `kind = "openai"`: how many earlier messages of the thread the model is told, with what came of each: tools and
        /// their results, and what was said until a run failed or was stopped.
        pub max_turns: usize = 20,
        /// For `kind = "openai"`: bytes of these. The newest are told, as many as fit.
        pub max_history_bytes: usize = 64 * 1024,
        /// For `kind = "openai"`: how often a model may call tools before it must have answered.
        pub max_rounds: u32 = 8,
        /// For `kind = "openai"`: how often a request is repeated that the server did not begin to answer.
        pub retries: u32 = 3,
        /// For `kind = "openai"`: seconds that connecting may take.
        pub connect_seconds: u64 = 10,
        /// For `kind = "openai"`: seconds from a request to the first byte of its answer.
        pub first_byte_seconds: u64 = 300,
        /// For `kind = "openai"`: seconds that a stream may be silent. Comments and empty events are no silence.
        pub idle_seconds: u64 = 300,
        /// For `kind = "openai"`: seconds that a tool may take.
        pub tool_seconds: u64 = 600,
        /// Searches of documents that are made at a time; zero: as many as half of the processors. Users take turns.
        pub tool_threads: usize = 0,
        /// For `kind = "builtin"`: milliseconds between two pieces of an answer.
        pub pace_ms: u64 = 40,
        /// For `kind = "openai"`: headers that are added to each request. A secret belongs into `api_key_file`.
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
}

impl Agent {
    pub(super) fn validate(&self) -> Result<(), Broken> {
        if self.kind == AgentKind::Openai && (self.base_url.is_none() || self.model.is_none()) {
            return Err(Broken::new("agent", "with `kind = \"openai\"` needs `base_url` and `model`"));
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
