//! What a peer may make the gateway hold.

use super::error::{Broken, at_least};
use super::table::table;
use crate::transport;

table! {
    /// What a peer may make the gateway hold.
    pub struct Limits {
        /// Bytes of one message.
        pub message_bytes: usize = transport::Limits::DEFAULT.message,
        /// Bytes of one WebSocket frame.
        pub frame_bytes: usize = transport::Limits::DEFAULT.frame,
        /// Bytes of a socket's read buffer.
        pub read_buffer_bytes: usize = transport::Limits::DEFAULT.read_buffer,
        /// Bytes of a socket's write buffer.
        pub write_buffer_bytes: usize = transport::Limits::DEFAULT.write_buffer,
        /// Bytes of a request's header.
        pub header_bytes: usize = 16 * 1024,
        /// Milliseconds from a TCP connection, and from the end of a response, to the end of a request's header.
        pub header_ms: u64 = 5_000,
        /// Milliseconds from the end of a request's header to its response, the reading of its body included; and from
        /// when the peer lets the response wait until it has taken it.
        pub request_ms: u64 = 30_000,
        /// TCP connections of one address.
        pub per_address: u32 = 2_048,
        /// TCP connections in all.
        pub sockets: u32 = 18_000,
    }
}

impl Limits {
    /// Those of the sockets.
    #[must_use]
    pub const fn socket(&self) -> transport::Limits {
        transport::Limits {
            message: self.message_bytes,
            frame: self.frame_bytes,
            read_buffer: self.read_buffer_bytes,
            write_buffer: self.write_buffer_bytes,
        }
    }

    pub(super) fn validate(&self) -> Result<(), Broken> {
        at_least("limits.message_bytes", self.message_bytes as u64, 1_024)?;
        at_least("limits.frame_bytes", self.frame_bytes as u64, 1_024)?;
        at_least("limits.read_buffer_bytes", self.read_buffer_bytes as u64, 512)?;
        at_least("limits.header_bytes", self.header_bytes as u64, 8_192)?;
        at_least("limits.header_ms", self.header_ms, 100)?;
        at_least("limits.request_ms", self.request_ms, 1_000)?;
        at_least("limits.per_address", self.per_address.into(), 1)?;
        at_least("limits.sockets", self.sockets.into(), 1)
    }
}
