//! `jwt-auth`: the envelope of the system that this one replaces, as its clients speak it.
//!
//! In: `{type, payload, message_id?, thread_id?, timestamp?}`; the time is the client's own and is ignored.
//!
//! | type | meaning |
//! | --- | --- |
//! | `start_agent`, `user_message`, `chat`, `chat_message`, `agent_request`, `execute_agent`, `user_input` | a message |
//! | `stop_agent`, `stop`, `cancel` | cancels `run_id`; without it the thread's runs, or all if no thread is known |
//! | `session_restore` | reading continues after `payload.lastMessageId` |
//! | `auth` | a refresh: `token`. The first credential comes with the upgrade request |
//! | `ping`, `heartbeat` | answered with `pong`, `heartbeat_ack` |
//! | see [`decode`] | signs of life that expect no answer |
//!
//! The message is `payload`: a string, or an object with the text in `content`, `message`, `user_request` or `text`.
//! Without a payload, these members are read from the frame. `thread_id` is in the payload or in the frame. A message
//! without a `message_id` gets a random one, so it cannot be repeated.
//!
//! Out: `{type, run_id, user_id, agent_name, thread_id, timestamp, payload, data, message_id, previous_id}`; `payload`
//! and `data` are the same, because some clients read one and some the other. The `message_id` of an event is its place
//! in the stream, `<epoch>:<offset>`, and `previous_id` the place of the entry before it; the client's own message id is
//! in the payload. See [`event`] for the payloads, and [`control`] for frames that are not events.
//!
//! The payloads contain what the earlier system computed from a run as a whole: execution times, step numbers, the text
//! of a streamed answer. The codec computes it from what it has sent on this connection ([`memory`]). So these frames
//! are encoded for each connection.

use super::{CodecState, Decoded, Hex, event as named, message, text};

mod control;
mod decode;
mod event;
mod fields;
mod memory;

pub(super) use control::{handshake, notice};
pub(super) use decode::decode;
pub(super) use event::event;
pub(super) use memory::Memory;
pub use memory::{MAX_HEARTBEATS, MAX_OPEN, MAX_TEXT, MAX_TOOLS};
