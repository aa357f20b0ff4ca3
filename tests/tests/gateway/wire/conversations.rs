//! Requests about conversations and their answers: decoded as the schema says, each answered under its own request id.

use lockstep::log::Written;
use lockstep::log::conversations::{Thread, ThreadPlace, Threads, Turns};
use lockstep::payload::{Query, data_of};
use lockstep::wire::{MAX_PAGE, MAX_TITLE};
use lockstep_model::{PartId, run};

use super::*;

/// The query in a frame.
fn query(frame: &Value) -> Arc<Query> {
    let request = fresh(Codec::V1).decode(&frame.to_string());
    let Request::Query { query: Payload::Query(query) } = &request else { panic!("{frame} became {request:?}") };
    Arc::clone(query)
}

fn named(request: &str) -> Arc<Query> {
    query(&json!({ "type": "list_threads", "request_id": request }))
}

/// One answer of each kind to the request with that id.
pub(super) fn answers(request: &str) -> [Control<Payload>; 3] {
    let thread = Thread { name: Some("t".into()), title: Some("Sums".to_owned()), updated: 12, open: true };
    let threads = Threads { threads: vec![thread], next: Some(ThreadPlace { updated: 12, name: "t".to_owned() }) };
    let piece = written(Kind::Delta(PartId(1)), None, &parse(data_of(Kind::Delta(PartId(1))).get()));
    let turns = Turns { entries: vec![(Offset(9), piece)], next: None };
    let query = named(request);
    [query.threads(&threads), query.turns(&turns), query.renamed()]
        .map(|answer| Control::Answer(Payload::Answer(answer.into())))
}

fn written(kind: Kind, thread: Option<&str>, data: &Value) -> Written {
    Written { run: RunId(0xAB), kind, record: record(thread, 1_700_000_000_123, data) }
}

fn request(kind: &str, more: &Value) -> Value {
    let mut frame = json!({ "type": kind, "request_id": "r" });
    for (name, value) in more.as_object().expect("members") {
        frame[name] = value.clone();
    }
    frame
}

#[test]
fn a_request_says_what_is_wanted_and_may_leave_out_all_but_its_name() {
    let none = json!({ "limit": null, "before": null, "thread_id": null, "title": null });
    let (place, page) = (json!({ "limit": 1, "before": "17.t.1" }), json!({ "limit": MAX_PAGE, "before": "0." }));
    let turns = json!({ "thread_id": "t", "limit": 2.0, "before": "9007199254740991" });
    let long = "é".repeat(MAX_TITLE);
    for (frame, wanted) in [
        (request("list_threads", &json!({})), "Threads { before: None, limit: 50 }"),
        (request("list_threads", &none), "Threads { before: None, limit: 50 }"),
        (
            request("list_threads", &place),
            r#"Threads { before: Some(ThreadPlace { updated: 17, name: "t.1" }), limit: 1 }"#,
        ),
        (
            request("list_threads", &page),
            r#"Threads { before: Some(ThreadPlace { updated: 0, name: "" }), limit: 200 }"#,
        ),
        (request("read_turns", &json!({})), "Turns { thread: None, before: None, limit: 50 }"),
        (request("read_turns", &none), "Turns { thread: None, before: None, limit: 50 }"),
        (
            request("read_turns", &turns),
            r#"Turns { thread: Some("t"), before: Some(Offset(9007199254740991)), limit: 2 }"#,
        ),
        (request("rename_thread", &json!({})), "Rename { thread: None, title: None }"),
        (request("rename_thread", &none), "Rename { thread: None, title: None }"),
        (
            request("rename_thread", &json!({ "thread_id": "t", "title": " My sums " })),
            r#"Rename { thread: Some("t"), title: Some("My sums") }"#,
        ),
        (request("rename_thread", &json!({ "title": &long })), long.as_str()),
    ] {
        assert!(V1_CLIENT.is_valid(&frame), "the schema refuses {frame}");
        let query = query(&frame);
        assert_eq!(query.fault(), None, "{frame}");
        assert!(format!("{:?}", query.wanted).contains(wanted), "{frame} became {:?}", query.wanted);
        assert!(!format!("{query:?}").contains("sums"), "its content is its user's");
    }
}

#[test]
fn a_member_that_is_of_the_wrong_kind_is_refused_under_the_name_of_its_request() {
    for frame in [
        request("list_threads", &json!({ "limit": 0 })),
        request("list_threads", &json!({ "limit": MAX_PAGE + 1 })),
        request("list_threads", &json!({ "limit": "7" })),
        request("list_threads", &json!({ "limit": 1.5 })),
        request("list_threads", &json!({ "before": "17" })),
        request("list_threads", &json!({ "before": ".t" })),
        request("list_threads", &json!({ "before": "+17.t" })),
        request("list_threads", &json!({ "before": "12345678901234567.t" })),
        request("list_threads", &json!({ "before": 17 })),
        request("read_turns", &json!({ "limit": -1 })),
        request("read_turns", &json!({ "before": "" })),
        request("read_turns", &json!({ "before": "+7" })),
        request("read_turns", &json!({ "before": "7.t" })),
        request("read_turns", &json!({ "before": "12345678901234567" })),
        request("read_turns", &json!({ "before": 7 })),
        request("read_turns", &json!({ "thread_id": "" })),
        request("read_turns", &json!({ "thread_id": "t".repeat(129) })),
        request("rename_thread", &json!({ "thread_id": 7 })),
        request("rename_thread", &json!({ "title": "" })),
        request("rename_thread", &json!({ "title": " \t " })),
        request("rename_thread", &json!({ "title": "x".repeat(MAX_TITLE + 1) })),
        request("rename_thread", &json!({ "title": ["x"] })),
    ] {
        assert!(!V1_CLIENT.is_valid(&frame), "the schema allows {frame}");
        let query = query(&frame);
        assert_eq!(query.fault(), Some(Code::InvalidField), "{frame}");
        let refused = conforming(&V1_SERVER, query.refused(Code::InvalidField).as_str());
        assert_eq!((&refused["request_id"], &refused["code"]), (&json!("r"), &json!("invalid_field")));
    }
}

#[test]
fn a_request_without_a_good_name_is_no_request() {
    for kind in ["list_threads", "read_turns", "rename_thread"] {
        for name in [json!(null), json!(""), json!(7), json!(["r"]), json!("é".repeat(129))] {
            let frame = json!({ "type": kind, "request_id": name });
            assert!(!V1_CLIENT.is_valid(&frame), "the schema allows {frame}");
            let request = fresh(Codec::V1).decode(&frame.to_string());
            assert!(
                matches!(request, Request::Invalid { code: Code::InvalidField, message: None }),
                "{frame} became {request:?}"
            );
        }
        refuses(Codec::V1, &json!({ "type": kind }).to_string(), Code::InvalidField);
        refuses(Codec::Legacy, &json!({ "type": kind, "request_id": "r" }).to_string(), Code::UnknownType);
    }
}

#[test]
fn each_answer_says_what_the_log_has_found() {
    let listed = |name: Option<&str>, title: Option<&str>, open| Thread {
        name: name.map(Arc::from),
        title: title.map(str::to_owned),
        updated: 1_700_000_000_123,
        open,
    };
    let threads = vec![listed(Some("t\"1"), Some("Sums"), true), listed(None, None, false)];
    let place = ThreadPlace { updated: 1_700_000_000_123, name: String::new() };
    let answer = named("r").threads(&Threads { threads, next: Some(place) });
    let expected = json!({
        "type": "threads", "request_id": "r", "next": "1700000000123.", "threads": [
            { "thread_id": "t\"1", "title": "Sums", "updated_at": 1_700_000_000_123u64, "open": true },
            { "thread_id": null, "title": null, "updated_at": 1_700_000_000_123u64, "open": false },
        ],
    });
    assert_eq!(conforming(&V1_SERVER, answer.as_str()), expected);
    let none = json!({ "type": "threads", "request_id": "r", "threads": [], "next": null });
    assert_eq!(conforming(&V1_SERVER, named("r").threads(&Threads::default()).as_str()), none);
    let renamed = json!({ "type": "thread_renamed", "request_id": "r" });
    assert_eq!(conforming(&V1_SERVER, named("r").renamed().as_str()), renamed);
}

/// Events as on the stream, except for `previous`.
#[test]
fn turns_have_every_kind_of_event() {
    let mut kinds = events::kinds();
    let piece = json!({ "part": 1, "kind": "text", "text": "4 and 2" });
    kinds.push((Kind::Delta(PartId(1)), "agent_delta", piece));
    kinds.push((Kind::Notice, "notice", json!({ "text": "Back at noon." })));
    kinds.push((Kind::Deleted, "thread_deleted", json!({})));
    for thread in [None, Some("t")] {
        let entries = (5..).zip(&kinds).map(|(offset, (kind, _, data))| (Offset(offset), written(*kind, thread, data)));
        let turns = Turns { entries: entries.collect(), next: Some(Offset(5)) };
        let answer = conforming(&V1_SERVER, named("r").turns(&turns).as_str());
        let events = (5..).zip(&kinds).map(|(offset, (_, name, data))| {
            json!({
                "type": name, "offset": offset, "run_id": "00000000000000ab", "thread_id": thread,
                "timestamp": 1_700_000_000_123u64, "data": data,
            })
        });
        let events: Vec<Value> = events.collect();
        assert_eq!(answer, json!({ "type": "turns", "request_id": "r", "events": events, "next": "5" }));
    }
    let empty = json!({ "type": "turns", "request_id": "r", "events": [], "next": null });
    assert_eq!(conforming(&V1_SERVER, named("r").turns(&Turns::default()).as_str()), empty);
}

/// The schema is strict: an event has a kind, and the data of that kind.
#[test]
fn an_event_of_a_turn_that_is_wrong_is_found() {
    let entry = written(Kind::Error(run::Reason::Failed), None, &json!({ "reason": "failed", "message": "No." }));
    let turns = Turns { entries: vec![(Offset(9), entry)], next: None };
    let answer = conforming(&V1_SERVER, named("r").turns(&turns).as_str());
    for (place, wrong) in [
        ("/events/0/type", json!("agent_nonsense")),
        ("/events/0/type", json!("agent_delta")),
        ("/events/0/data", json!({})),
        ("/events/0/data/reason", json!("weather")),
        ("/events/0/offset", json!(-1)),
        ("/next", json!(9)),
    ] {
        let mut answer = answer.clone();
        *answer.pointer_mut(place).expect("a member") = wrong;
        assert!(!V1_SERVER.is_valid(&answer), "the schema allows {answer}");
    }
}

#[test]
fn what_has_no_answer_is_refused_under_its_name() {
    let query = named("r");
    for code in [Code::Busy, Code::NotKept, Code::UnknownThread, Code::InvalidField] {
        let mut peer = peer_at(Codec::V1, 8);
        let plain = told(&mut peer, &Control::Error(code));
        let refused = told(&mut peer, &Control::Unanswered { query: Payload::Query(Arc::clone(&query)), code });
        let expected =
            json!({ "type": "error", "request_id": "r", "code": plain["code"], "message": plain["message"] });
        assert_eq!(refused, expected);
    }
}

proptest! {
    #[test]
    fn every_answer_has_the_name_of_its_request(name in any_name()) {
        let query = named(&name);
        let mut peer = peer_at(Codec::V1, 8);
        let refused = Control::Unanswered { query: Payload::Query(query), code: Code::Busy };
        for control in answers(&name).into_iter().chain([refused]) {
            prop_assert_eq!(&told(&mut peer, &control)["request_id"], &json!(&name));
        }
    }
}
