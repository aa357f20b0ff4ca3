//! The JSON Schemas (draft 2020-12) of the frames, as they are published in `runtime/schema`.
//!
//! Each is one `oneOf` over the frames' types, with a definition for each. Those of the server's frames allow no member
//! that is not described, so that a test sees what the description lacks; a client should still ignore what it does not
//! know, for a newer gateway may say more.

/// What a client of [`Codec::V1`](super::Codec::V1) may send.
pub const V1_CLIENT: &str = include_str!("../../schema/v1.client.json");
/// What the gateway sends to a client of [`Codec::V1`](super::Codec::V1).
pub const V1_SERVER: &str = include_str!("../../schema/v1.server.json");
/// What a client of [`Codec::Legacy`](super::Codec::Legacy) may send.
pub const LEGACY_CLIENT: &str = include_str!("../../schema/legacy.client.json");
/// What the gateway sends to a client of [`Codec::Legacy`](super::Codec::Legacy).
pub const LEGACY_SERVER: &str = include_str!("../../schema/legacy.server.json");
/// The AsyncAPI 3.0 document that puts the four together, with the close codes.
pub const ASYNCAPI: &str = include_str!("../../asyncapi.yaml");
