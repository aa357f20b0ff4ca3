//! Limits on what a peer may use.

use lockstep::transport;
use std::time::Duration;

use super::error::{Broken, at_least};
use super::table::table;
use super::units;

table! {
    /// Limits on what a peer may use.
    pub struct Limits {
        /// The most bytes of one message.
        pub message_bytes: usize = transport::BufferLimits::DEFAULT.message,
        /// The most bytes of one WebSocket frame.
        pub frame_bytes: usize = transport::BufferLimits::DEFAULT.frame,
        /// The size of a socket's read buffer in bytes.
        pub read_buffer_bytes: usize = transport::BufferLimits::DEFAULT.read_buffer,
        /// The size of a socket's write buffer in bytes.
        pub write_buffer_bytes: usize = transport::BufferLimits::DEFAULT.write_buffer,
        /// The most bytes of a request's header.
        pub header_bytes: usize = 16 * 1024,
        /// The most milliseconds from a TCP connection, or from the first byte of a further request, to the end of a
        /// request's header.
        pub header_ms: u64 ["units::milliseconds"] = 5_000,
        /// The most milliseconds that an HTTP connection waits for its next request. Must be longer than a load
        /// balancer keeps idle connections (often 60 s), because otherwise the balancer sends requests into connections
        /// that are being closed.
        pub idle_ms: u64 ["units::milliseconds"] = 75_000,
        /// The most milliseconds from the end of a request's header to its response, including reading its body; also
        /// the most that the response may wait for the peer to read it.
        pub request_ms: u64 ["units::milliseconds"] = 30_000,
        /// The most TCP connections of one address; 64 bits of an IPv6 address are one address. Behind a trusted proxy
        /// its client's address counts. Beyond this limit, and beyond `sockets`, a few more are served without an
        /// upgrade, for health, metrics, logins and operators.
        pub per_address: u32 = 2_048,
        /// The most TCP connections in total. If the limit of open files allows fewer, the startup log says so.
        pub sockets: u32 = 18_000,
        /// Open files that are reserved for other uses than clients' sockets: the log, accounts, and connections to
        /// models.
        pub other_files: u32 = 256,
    }
}

impl Limits {
    /// The limits of the sockets.
    #[must_use]
    pub const fn socket(&self) -> transport::BufferLimits {
        let mut limits = transport::BufferLimits::DEFAULT;
        limits.message = self.message_bytes;
        limits.frame = self.frame_bytes;
        limits.read_buffer = self.read_buffer_bytes;
        limits.write_buffer = self.write_buffer_bytes;
        limits
    }

    /// The most time for a request's header.
    #[must_use]
    pub const fn header(&self) -> Duration {
        Duration::from_millis(self.header_ms)
    }

    /// The most time that a connection waits for a request.
    #[must_use]
    pub const fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    /// The most time for a request.
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
