//! Answers to the other members of the cluster.

use core::pin::Pin;

use http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Buf};
use lockstep_model::connection::Origin;

use super::{NotUpgraded, bad, handshake, refuse, tokens};
use crate::Manager;
use crate::cluster::{COMMAND_PATH, OPERATOR_PATH, PATH, client, credential};
use crate::driver::commands::{self, MAX_COMMAND};
use crate::driver::looks;
use crate::manager::Opening;
use crate::wire::{Codec, resume_from_query};

impl Manager {
    /// Answers a request of another member of the cluster: serves a connection that it relays, executes a command for a
    /// user of this process, or answers an operator's question about one. If the request is wrong, the response's body
    /// says why: 403 without the cluster's key, 404 for an unknown path, or if this process is no member of a cluster.
    pub async fn serve_member<B>(&self, mut request: Request<B>) -> Response<String>
    where
        B: Body<Data: Buf> + Unpin,
    {
        if let Err(NotUpgraded { status, reason }) = self.is_member(request.headers()) {
            return refuse(status, reason);
        }
        let is_command = request.uri().path() == COMMAND_PATH;
        match request.uri().path() {
            PATH => match relayed(&request) {
                Ok((opening, accept)) => {
                    let selected = HeaderValue::from_static(opening.codec.subprotocol());
                    self.accept(&mut request, opening, Some(selected), accept)
                }
                Err(NotUpgraded { status, reason }) => refuse(status, reason),
            },
            COMMAND_PATH | OPERATOR_PATH => match content(request.body_mut(), MAX_COMMAND).await {
                Some(content) => {
                    let core = &self.inner.core;
                    let (status, body) = if is_command {
                        commands::execute(core, &content).await
                    } else {
                        looks::answer(core, &content).await
                    };
                    let mut response = Response::new(body);
                    *response.status_mut() = status;
                    response
                }
                None => refuse(StatusCode::PAYLOAD_TOO_LARGE, "the command is too long, or was cut off"),
            },
            _ => refuse(StatusCode::NOT_FOUND, "this path is not one that members use"),
        }
    }

    fn is_member(&self, headers: &HeaderMap) -> Result<(), NotUpgraded> {
        let Some(membership) = &self.inner.core.effects().membership else {
            let reason = "this process is no member of a cluster";
            return Err(NotUpgraded { status: StatusCode::NOT_FOUND, reason });
        };
        if !membership.cluster().admits(headers) {
            let reason = "the cluster's key is missing or wrong: all members must have the same";
            return Err(NotUpgraded { status: StatusCode::FORBIDDEN, reason });
        }
        Ok(())
    }
}

/// The parameters of a relayed connection, and the answer to its key.
fn relayed<B>(request: &Request<B>) -> Result<(Opening, HeaderValue), NotUpgraded> {
    let (headers, accept) = (request.headers(), handshake(request)?);
    let codec = tokens(headers, &SEC_WEBSOCKET_PROTOCOL).next().and_then(Codec::of_subprotocol);
    let codec = codec.ok_or(bad("the subprotocol of a relayed connection is missing or not known"))?;
    let resume = resume_from_query(request.uri().query().unwrap_or("")).map_err(|wrong| bad(wrong.reason()))?;
    let credential = credential(headers).ok_or(bad("the credential of a relayed connection is missing"))?;
    let client = client(headers).map_err(|_| bad("the client's address of a relayed connection is not one"))?;
    let opening =
        Opening { credential: Some(credential), resume, origin: Origin::Member, client, ..Opening::new(codec) };
    Ok((opening, accept))
}

/// Reads a body of at most `most` bytes. `None` if it is longer or fails.
async fn content<B: Body<Data: Buf> + Unpin>(body: &mut B, most: usize) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    while let Some(frame) = core::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let Ok(mut data) = frame.ok()?.into_data() else { continue };
        if content.len() + data.remaining() > most {
            return None;
        }
        while data.has_remaining() {
            let length = data.chunk().len();
            content.extend_from_slice(data.chunk());
            data.advance(length);
        }
    }
    Some(content)
}
