//! The JSON Schemas (draft 2020-12) of the frames, as published in `runtime/schema`.
//!
//! Each is one `oneOf` over the frame types, with a definition for each type. The schemas of the server's frames allow
//! no undescribed member, so that tests find gaps in the description. Clients should still ignore members that they do
//! not know, because a newer gateway may send more.

/// What a client of [`Codec::V1`](super::Codec::V1) may send.
pub const V1_CLIENT: &str = include_str!("../../schema/v1.client.json");
/// What the gateway sends to a client of [`Codec::V1`](super::Codec::V1).
pub const V1_SERVER: &str = include_str!("../../schema/v1.server.json");
/// What a client of [`Codec::Legacy`](super::Codec::Legacy) may send.
pub const LEGACY_CLIENT: &str = include_str!("../../schema/legacy.client.json");
/// What the gateway sends to a client of [`Codec::Legacy`](super::Codec::Legacy).
pub const LEGACY_SERVER: &str = include_str!("../../schema/legacy.server.json");
/// The AsyncAPI 3.0 document that combines the four schemas with the close codes.
pub const ASYNCAPI: &str = include_str!("../../asyncapi.yaml");
