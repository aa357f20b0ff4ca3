//! Who answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
        /// For `kind = "openai"`: what the model is told before everything else.
        pub system: Option<String> = None,
        /// For `kind = "builtin"`: milliseconds between two pieces of an answer.
        pub pace_ms: u64 = 40,
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
        Ok(())
    }
}
