//! What a peer may make the gateway hold.

use std::time::Duration;

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
        /// Milliseconds from a TCP connection, and from the first byte of a further request, to the end of a request's
        /// header.
        pub header_ms: u64 = 5_000,
        /// Milliseconds that an HTTP connection may wait for its next request. Longer than a load balancer keeps idle
        /// connections (often 60 s), or the balancer sends requests into connections that are being closed.
        pub idle_ms: u64 = 75_000,
        /// Milliseconds from the end of a request's header to its response, the reading of its body included; and from
        /// when the peer lets the response wait until it has taken it.
        pub request_ms: u64 = 30_000,
        /// TCP connections of one address, 64 bits of an IPv6 address being one. Behind a trusted proxy its client's
        /// address counts. Beyond it, and beyond `sockets`, a few more are served without an upgrade: health, metrics,
        /// logins and operators.
        pub per_address: u32 = 2_048,
        /// TCP connections in all. Fewer, and the start says so, if the limit of open files leaves fewer.
        pub sockets: u32 = 18_000,
        /// Open files that are kept for other than the clients' sockets: the log, accounts, and connections to models.
        pub other_files: u32 = 256,
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

    /// How long a request's header may take.
    #[must_use]
    pub const fn header(&self) -> Duration {
        Duration::from_millis(self.header_ms)
    }

    /// How long a connection may wait for a request.
    #[must_use]
    pub const fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    /// How long a request may take.
    #[must_use]
    pub const fn request(&self) -> Duration {
        Duration::from_millis(self.request_ms)
    }

    pub(super) fn validate(&self) -> Result<(), Broken> {
        at_least("limits.message_bytes", self.message_bytes as u64, 1_024)?;
        at_least("limits.frame_bytes", self.frame_bytes as u64, 1_024)?;
        at_least("limits.read_buffer_bytes", self.read_buffer_bytes as u64, 512)?;
        at_least("limits.header_bytes", self.header_bytes as u64, 8_192)?;
        at_least("limits.header_ms", self.header_ms, 100)?;
        at_least("limits.idle_ms", self.idle_ms, 1_000)?;
        at_least("limits.request_ms", self.request_ms, 1_000)?;
        at_least("limits.per_address", self.per_address.into(), 1)?;
        at_least("limits.sockets", self.sockets.into(), 1)
    }
}
