//! Tool calls of an agent that runs in another process: it reports when a call begins and when it ends.

use lockstep_model::ToolId;
use lockstep_model::run::{Input, ToolEnd};
use serde_json::{Value, json};

use super::{EmitError, Run, tool_name};
use crate::sync::lock;

/// A tool call as its agent's server makes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RemoteCall {
    /// Its id at the server.
    pub(crate) call_id: String,
    /// The tool's name.
    pub(crate) name: String,
    /// The call's arguments, a JSON object.
    pub(crate) arguments: Value,
}

impl Run {
    /// The id for another tool call.
    pub(crate) fn next_tool(&self) -> ToolId {
        let mut said = lock(&self.said);
        said.newest.tool += 1;
        ToolId(said.newest.tool)
    }

    /// `tool_executing`. Without a [`Run::close_tool`], the end of the run closes the call as abandoned.
    pub(crate) async fn open_tool(&self, tool: ToolId, call: &RemoteCall) -> Result<(), EmitError> {
        let RemoteCall { call_id, name, arguments } = call;
        let data = json!({ "tool_id": tool_name(tool), "call_id": call_id, "name": name, "arguments": arguments });
        self.emit(Input::OpenTool(tool), data).await
    }

    /// `tool_completed`, with the tool's result or why it failed.
    pub(crate) async fn close_tool(
        &self,
        tool: ToolId,
        name: &str,
        result: Result<&Value, &str>,
    ) -> Result<(), EmitError> {
        let tool_id = tool_name(tool);
        let (end, data) = match result {
            Ok(result) => {
                (ToolEnd::Success, json!({ "tool_id": tool_id, "name": name, "status": "success", "result": result }))
            }
            Err(error) => {
                (ToolEnd::Failure, json!({ "tool_id": tool_id, "name": name, "status": "failure", "error": error }))
            }
        };
        self.emit(Input::CloseTool(tool, end), data).await
    }
}

/// The tool of that id on the wire.
pub(crate) fn tool_named(name: &str) -> Option<ToolId> {
    name.strip_prefix('t')?.parse().ok().map(ToolId)
}
