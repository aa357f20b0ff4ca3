//! The codecs against their published schemas.

use std::sync::{Arc, LazyLock};

use jsonschema::Validator;
use lockstep::payload::{Payload, Record};
use lockstep::wire::{Codec, CodecState, schema};
use lockstep_model::run::Kind;
use lockstep_model::{
    Bounds, Code, ConnectionId, Control, Entry, Epoch, Event, Frame, Mode, Offset, Request, RunId, UserId,
};
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

mod conversations;
mod events;
mod hostile;
mod legacy;
mod legacy_events;
mod notices;
mod places;
mod published;
mod refusals;
mod requests;

/// The frames that a client of `lockstep.v1` may send.
pub(crate) static V1_CLIENT: LazyLock<Validator> = LazyLock::new(|| validator(schema::V1_CLIENT));
/// The frames that a client of `lockstep.v1` receives.
pub(crate) static V1_SERVER: LazyLock<Validator> = LazyLock::new(|| validator(schema::V1_SERVER));
/// The frames that a legacy client may send.
pub(crate) static LEGACY_CLIENT: LazyLock<Validator> = LazyLock::new(|| validator(schema::LEGACY_CLIENT));
/// The frames that a legacy client receives.
pub(crate) static LEGACY_SERVER: LazyLock<Validator> = LazyLock::new(|| validator(schema::LEGACY_SERVER));

fn validator(schema: &str) -> Validator {
    jsonschema::draft202012::new(&parse(schema)).expect("a schema that is sound")
}

/// Parses the frame and asserts that it conforms to its schema.
pub(crate) fn conforming(schema: &Validator, frame: &str) -> Value {
    let value = parse(frame);
    if let Err(error) = schema.validate(&value) {
        panic!("{frame}\nis not what the schema allows: {error}");
    }
    value
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}\nis not JSON: {error}"))
}

const CODECS: [Codec; 2] = [Codec::V1, Codec::Legacy];

fn server(codec: Codec) -> &'static Validator {
    match codec {
        Codec::V1 => &V1_SERVER,
        Codec::Legacy => &LEGACY_SERVER,
    }
}

/// A codec before `connection_ready`.
fn fresh(codec: Codec) -> CodecState {
    CodecState::new(codec, ConnectionId(0xC0FFEE), &Bounds::DEFAULT)
}

fn ready(offset: u64) -> Control<Payload> {
    Control::Ready {
        user: UserId(1),
        epoch: Epoch(7),
        offset: Offset(offset),
        head: Offset(offset),
        resumed: true,
        mode: Mode::Ready,
    }
}

/// A codec that has announced an offset of epoch 7 as its start.
fn peer_at(codec: Codec, offset: u64) -> CodecState {
    let mut peer = fresh(codec);
    peer.identify(Arc::from("ada"));
    told(&mut peer, &ready(offset));
    assert_eq!(peer.following().is_some(), codec == Codec::Legacy);
    peer
}

/// The frame that a peer reads for this control.
fn told(peer: &mut CodecState, control: &Control<Payload>) -> Value {
    let schema = server(peer.codec());
    conforming(schema, peer.encode(&Frame::Control(control.clone())).expect("a text frame").as_str())
}

fn entry(kind: Kind, offset: u64, payload: Option<Arc<Record>>) -> Entry<Payload> {
    let event = Event { run: RunId(0xAB), thread: None, kind, payload: payload.map(Payload::Record) };
    Entry { offset: Offset(offset), previous: Offset(offset - 1), event }
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("JSON")
}

/// A record as the log returns it.
fn record(thread: Option<&str>, at: u64, data: &Value) -> Arc<Record> {
    Arc::new(Record::written(thread.map(Arc::from), raw(data), at))
}

/// The code with which the codec refuses the request, if it does.
fn fault(request: &Request<Payload>) -> Option<Code> {
    match request {
        Request::Invalid { code, .. } => Some(*code),
        Request::Query { query: Payload::Query(query) } => query.fault(),
        Request::Auth { .. }
        | Request::Message { .. }
        | Request::Cancel { .. }
        | Request::Reply { .. }
        | Request::Seek { .. }
        | Request::Delete { .. }
        | Request::Query { .. }
        | Request::Ping
        | Request::Pong
        | Request::Violation(_) => None,
    }
}

fn refuses(codec: Codec, frame: &str, code: Code) {
    let request = fresh(codec).decode(frame);
    let shown: String = frame.chars().take(200).collect();
    assert_eq!(fault(&request), Some(code), "{codec:?}: {shown}\nbecame {request:?}");
}

/// A message's payload as written, and its thread.
fn message(request: &Request<Payload>) -> (&str, Option<&str>) {
    let Request::Message { payload: Payload::Record(record), .. } = request else {
        panic!("no message: {request:?}");
    };
    (record.data.get(), record.thread.as_deref())
}

/// Any JSON that a client may send as a payload.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no other", |number| number.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(|members| json!(members)),
        ]
    })
}

/// A name of a message or a thread: 1 to 128 characters of any script.
fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-zA-Z0-9-]{1,40}".boxed(),
        2 => prop::collection::vec(any::<char>(), 1..=128).prop_map(String::from_iter).boxed(),
        1 => prop::collection::vec(Just('é'), 128).prop_map(String::from_iter).boxed(),
    ]
}
