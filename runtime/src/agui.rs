//! Front ends that speak AG-UI, such as CopilotKit, TanStack AI or `@ag-ui/client`: a request with the user's message is
//! answered with the events of the run that it begins.
//!
//! The events are made from the user's stream, which a connection of this process reads over a socket in memory: the
//! same machines decide as for a WebSocket. So the run is durable, continues when its reader is gone, and is seen by
//! all of the user's connections. [`Manager::agui`](crate::Manager::agui) is independent of the HTTP server; the
//! ready-made gateway serves it as `POST /agui`.
//!
//! | of the stream | AG-UI |
//! | --- | --- |
//! | `message_received` | `RUN_STARTED` |
//! | `agent_delta` of the kind `text`, `reasoning` | `TEXT_MESSAGE_*`, `REASONING_*`; one message for each part |
//! | `agent_delta` of another kind | `CUSTOM` with the name `agent_delta` |
//! | `agent_thinking` | `REASONING_*`, the event that an AG-UI agent sent, or `CUSTOM` with the name `agent_thinking` |
//! | `tool_executing`, `tool_completed` | `TOOL_CALL_START`, `_ARGS` and `_END`, `TOOL_CALL_RESULT` |
//! | `agent_completed` | `RUN_FINISHED` with the data as `result` |
//! | `agent_paused` | `RUN_FINISHED`; with the outcome `interrupt` if the pause needs more than results of the front end's tools |
//! | `agent_error` | `RUN_ERROR`; of a cancelled run `RUN_FINISHED` with the outcome `cancelled`, from version 1.0 on |
//!
//! A run that pauses ends the stream, and the answer goes on in that of another request with the same newest message of
//! the user: one with `resume`, or with results of the front end's tools behind that message. It must answer
//! every question. The first reply to a pause counts, even if another client sent it, so a request may be sent again.
//!
//! The message's id and thread name the run (RUN-2). A repeated request is answered with the same run from its
//! beginning, without the output that the request's own messages already contain. Each event has an `id`, a [`Place`];
//! a client that sends it as `Last-Event-ID` gets exactly what follows. A request with answers begins with
//! `RUN_STARTED` in any case, and its own messages show what the client has.

mod answers;
mod connection;
mod input;
mod place;
mod stream;
mod translator;

pub use input::{Asked, NotAsked};
pub use place::{NotAPlace, Place};
pub use stream::{Cut, Events, NotBegun};
