//! The built-in agent, which answers when no model is configured. It is not a model and says so; it reads a message by
//! a few fixed rules, calls real tools, and shows its work as a model's agent would.
//!
//! | a message with | gets |
//! | --- | --- |
//! | arithmetic, such as `2 * (3 + 4)` | the calculator |
//! | a question for the time or the date | the clock |
//! | `search for …`, `find …`, a question about the documents | the search over the documents |
//! | `ask me` and any of the above | an approval of each tool first; without a tool, a question |
//! | "what did I say before?" | the earlier messages of the thread |
//! | `count to N`, N up to [`MAX_COUNT`] | one `agent_delta` per number: something to cancel, or to reload halfway |
//! | anything else | what it can do |
//!
//! Several in one message are done at the same time. The data of its `agent_thinking` is `{"text": …}`, a remark on
//! what it does. Its answer is emitted in pieces (`agent_delta`), which together are the `text` of `agent_completed`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::tools::{CallError, Invocation, Tools};
use super::{Agent, EmitError, Message, Paused, Run, ToolError};
use crate::BoxFuture;
use crate::payload::text_of;

mod plan;

use plan::{Call, Plan};

/// The highest number that it counts to.
pub const MAX_COUNT: u32 = 200;

/// The pause before each piece of its answer, so that a reader sees the answer grow.
const PACE: Duration = Duration::from_millis(40);
/// The number of words in a piece of the answer.
const PIECE: usize = 3;
/// The most earlier messages that it repeats.
const MAX_RECALLED: usize = 5;
/// The longest part of a message that it repeats, in characters.
const MAX_QUOTE: usize = 200;

const ABOUT: &str = "I am Lockstep's built-in demonstration agent: there is no language model behind me, only a few rules \
                     and real tools. I can calculate (try \"2 * (3 + 4)\"), tell the time (\"what time is it?\"), search \
                     the documents (\"search for …\"), ask you first (\"ask me, then 6 * 7\"), count (\"count to 20\"), and repeat your earlier messages in \
                     this thread.";

/// The built-in agent.
#[derive(Clone, Debug)]
pub struct Builtin {
    tools: Tools,
    pace: Duration,
}

impl Builtin {
    /// The agent that searches `documents` in the data directory.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self::with(Tools::standard(data_dir))
    }

    /// The agent with these tools in place of its own, matched by name.
    #[must_use]
    pub const fn with(tools: Tools) -> Self {
        Self { tools, pace: PACE }
    }

    /// Sets the pause before each piece of the answer, 40 ms by default.
    #[must_use]
    pub const fn pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    async fn work(&self, message: &Message, run: &Run) -> Result<Work, EmitError> {
        let Some(text) = message.text().filter(|text| !text.trim().is_empty()) else {
            let answer = format!("Your message contains no text that I can read. {ABOUT}");
            self.say(run, &answer).await?;
            return Ok(Work::Answer(answer));
        };
        let plan = Plan::of(&text);
        if plan.asks {
            return Ok(Work::Ask(request(&plan.calls)));
        }
        if let Some(asked) = plan.count {
            return self.count(run, asked).await.map(Work::Answer);
        }
        self.carry_out(&plan, &text, message, run).await.map(Work::Answer)
    }

    /// Does what the plan says.
    async fn carry_out(&self, plan: &Plan, text: &str, message: &Message, run: &Run) -> Result<String, EmitError> {
        if !plan.calls.is_empty() {
            run.thinking(&remark(&plan.calls)).await?;
        }
        let mut parts = Vec::new();
        let calls = plan.calls.iter().map(|call| self.call(run, &message.subject, call));
        for (call, result) in plan.calls.iter().zip(join_all(calls).await) {
            match result {
                Ok(value) => parts.push(call.answer(&value)),
                Err(ToolError::Failed(error)) => parts.push(call.excuse(&error.to_string())),
                Err(ToolError::Run(error)) => return Err(error),
                Err(error @ (ToolError::Panicked | ToolError::NotJson)) => parts.push(call.excuse(&error.to_string())),
            }
        }
        if plan.recall {
            parts.push(recalled(run).await);
        }
        if parts.is_empty() {
            parts.push(format!("You wrote: \"{}\". {ABOUT}", quote(text)));
        }
        let answer = parts.join("\n\n");
        self.say(run, &answer).await?;
        Ok(answer)
    }

    /// Goes on after the user's reply.
    async fn go_on(&self, paused: &Paused, run: &Run) -> Result<String, EmitError> {
        let reply: Value = serde_json::from_str(paused.reply.get()).unwrap_or_default();
        let text = paused.message.text().unwrap_or_default();
        let mut plan = Plan::of(&text);
        if plan.calls.is_empty() {
            let name = reply["text"].as_str().or(reply.as_str()).map_or("you who would not say", str::trim);
            let answer = format!("Hello, {}.", quote(name));
            self.say(run, &answer).await?;
            return Ok(answer);
        }
        let asked = plan.calls.len();
        let mut index = 0;
        plan.calls.retain(|_| {
            index += 1;
            is_approved(&reply, index - 1)
        });
        if plan.calls.is_empty() {
            let answer = "Then I leave it.".to_owned();
            self.say(run, &answer).await?;
            return Ok(answer);
        }
        if plan.calls.len() < asked {
            run.thinking("I leave out the tools that were not approved.").await?;
        }
        self.carry_out(&plan, &text, &paused.message, run).await
    }

    async fn call(&self, run: &Run, subject: &Arc<str>, call: &Call) -> Result<Value, ToolError<CallError>> {
        let (name, arguments) = (call.tool(), call.arguments());
        let work = async {
            match self.tools.named(name) {
                Some(tool) => {
                    let subject = Arc::clone(subject);
                    tool.call(Invocation { subject, arguments: arguments.clone() }).await
                }
                None => Err("this agent has no such tool".into()),
            }
        };
        run.tool(name, &arguments, work).await
    }

    /// Emits an answer piece by piece.
    async fn say(&self, run: &Run, answer: &str) -> Result<(), EmitError> {
        for piece in pieces(answer) {
            self.piece(run, piece).await?;
        }
        Ok(())
    }

    async fn piece(&self, run: &Run, piece: &str) -> Result<(), EmitError> {
        if !self.pace.is_zero() {
            tokio::time::sleep(self.pace).await;
        }
        run.text(piece).await
    }

    async fn count(&self, run: &Run, asked: u64) -> Result<String, EmitError> {
        let mut answer = String::new();
        let most = u32::try_from(asked).unwrap_or(u32::MAX).min(MAX_COUNT);
        for number in 1..=most {
            let piece = if number == 1 { "1".to_owned() } else { format!(" {number}") };
            answer.push_str(&piece);
            self.piece(run, &piece).await?;
        }
        if asked > u64::from(MAX_COUNT) || most == 0 {
            let rest = format!("{}I can count to {MAX_COUNT} at most.", if most == 0 { "" } else { ". " });
            answer.push_str(&rest);
            self.piece(run, &rest).await?;
        }
        Ok(answer)
    }
}

impl Agent for Builtin {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        let agent = self.clone();
        Box::pin(async move {
            let work = agent.work(&message, &run).await;
            end(run, work).await;
        })
    }

    fn resume(&self, paused: Paused, run: Run) -> BoxFuture<'static, ()> {
        let agent = self.clone();
        Box::pin(async move {
            let work = agent.go_on(&paused, &run).await;
            end(run, work.map(Work::Answer)).await;
        })
    }
}

/// The outcome of the agent's work.
enum Work {
    Answer(String),
    /// The user must reply first.
    Ask(Value),
}

async fn end(run: Run, work: Result<Work, EmitError>) {
    let ended = match work {
        Ok(Work::Answer(text)) => run.complete(json!({ "text": text, "model": "lockstep-builtin" })).await,
        Ok(Work::Ask(request)) => run.pause(request).await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        // Whatever ended or refused the run has told the user; otherwise dropping the handle ends it.
        tracing::debug!(%error, "the built-in agent was interrupted");
    }
}

/// The question to the user before these tools are called.
fn request(calls: &[Call]) -> Value {
    if calls.is_empty() {
        return json!({ "message": "What is your name?" });
    }
    let asks: Vec<Value> = calls
        .iter()
        .enumerate()
        .map(|(index, call)| {
            json!({ "id": index.to_string(), "kind": "approval", "tool": call.tool(), "arguments": call.arguments() })
        })
        .collect();
    json!({ "message": "May I use these tools?", "asks": asks })
}

/// Whether the user approved the tool with this index.
fn is_approved(reply: &Value, index: usize) -> bool {
    reply["answers"][index.to_string()]["approved"] == true
}

/// A remark on what it is about to do.
fn remark(calls: &[Call]) -> String {
    let mut names: Vec<&str> = calls.iter().map(Call::tool).collect();
    names.dedup();
    format!("I am using these tools: {}.", names.join(", "))
}

/// What the user said before in the thread.
async fn recalled(run: &Run) -> String {
    let history = run.history(MAX_RECALLED).await;
    let said: Vec<String> = history.iter().filter_map(|turn| text_of(&turn.message)).collect();
    if said.is_empty() {
        return "I cannot find an earlier message of yours in this thread.".to_owned();
    }
    let lines: Vec<String> = said.iter().map(|text| format!("- \"{}\"", quote(text))).collect();
    format!("Your earlier messages, oldest first:\n{}", lines.join("\n"))
}

fn quote(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MAX_QUOTE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Splits a text into pieces of a few words, leaving nothing out.
fn pieces(text: &str) -> Vec<&str> {
    let (mut pieces, mut begin, mut words) = (Vec::new(), 0, 0);
    for (at, character) in text.char_indices() {
        if character.is_whitespace() {
            words += 1;
            if words % PIECE == 0 {
                pieces.push(&text[begin..at]);
                begin = at;
            }
        }
    }
    pieces.push(&text[begin..]);
    pieces
}
