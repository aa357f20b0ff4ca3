//! Tool calls of an agent that runs in another process: it reports when a call begins and when it ends.

use lockstep_model::ToolId;
use lockstep_model::run::{Input, ToolEnd};
use serde_json::{Value, json};

use super::{EmitError, Run, tool_name};
use crate::sync::lock;

impl Run {
    /// The id for another tool call.
    pub(crate) fn next_tool(&self) -> ToolId {
        let mut said = lock(&self.said);
        said.newest.tool += 1;
        ToolId(said.newest.tool)
    }

    /// `tool_executing`. Without a [`Run::close_tool`], the end of the run closes the call as abandoned.
    pub(crate) async fn open_tool(&self, tool: ToolId, name: &str, arguments: &Value) -> Result<(), EmitError> {
        let data = json!({ "tool_id": tool_name(tool), "name": name, "arguments": arguments });
        self.emit(Input::OpenTool(tool), data).await
    }

    /// `tool_completed`.
    pub(crate) async fn close_tool(&self, tool: ToolId, name: &str, result: &Value) -> Result<(), EmitError> {
        let data = json!({ "tool_id": tool_name(tool), "name": name, "status": "success", "result": result });
        self.emit(Input::CloseTool(tool, ToolEnd::Success), data).await
    }
}
