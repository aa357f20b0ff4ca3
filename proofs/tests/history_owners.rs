//! Histories of one user's sockets over several gateways: OWN-2 and OWN-3.

use lockstep_proofs::history::check;
use serde_json::{Value, json};

type Line = (&'static str, u64, &'static str, Value);

fn contradictions(lines: &[Line]) -> Vec<(&'static str, [u64; 2])> {
    let text: String = lines
        .iter()
        .map(|(client, socket, fact, frame)| {
            format!("{}\n", json!({ "client": client, "socket": socket, "fact": fact, "frame": frame }))
        })
        .collect();
    let findings = check(text.as_bytes()).expect("a history");
    findings.contradictions.iter().map(|found| (found.property, found.lines)).collect()
}

fn open(client: &'static str, socket: u64) -> Line {
    (client, socket, "open", Value::Null)
}

/// The credential, with the position from which the client wants to read on.
fn auth(client: &'static str, socket: u64, resume: Value) -> Line {
    let mut frame = json!({ "type": "auth", "token": "***" });
    frame["resume"] = resume;
    (client, socket, "sent", frame)
}

fn at(epoch: u64, offset: u64) -> Value {
    json!({ "epoch": epoch, "offset": offset })
}

fn ready(client: &'static str, socket: u64, epoch: u64, from: u64, head: u64, resumed: &Value) -> Line {
    let mut frame =
        json!({ "type": "connection_ready", "user_id": "ada", "epoch": epoch, "offset": from, "head": head });
    frame["resumed"] = resumed.clone();
    (client, socket, "received", frame)
}

fn event(client: &'static str, socket: u64, offset: u64) -> Line {
    let data = json!({ "number": offset });
    let frame = json!({ "type": "notice", "offset": offset, "previous": offset - 1, "run_id": format!("n{offset}"), "data": data });
    (client, socket, "received", frame)
}

/// A client that reads the entries 1 to 3 of epoch 7: lines 1 to 6.
fn three() -> Vec<Line> {
    let begins = [open("a", 1), auth("a", 1, json!("latest")), ready("a", 1, 7, 0, 0, &json!(true))];
    begins.into_iter().chain((1..=3).map(|offset| event("a", 1, offset))).collect()
}

/// These three entries, and then a socket that is told what `told` says.
fn then(client: &'static str, resume: Value, told: Line) -> Vec<(&'static str, [u64; 2])> {
    let socket = told.1;
    contradictions(&[three(), vec![open(client, socket), auth(client, socket, resume), told]].concat())
}

#[test]
fn a_head_below_what_the_user_has_read_is_refused() {
    let yes = json!(true);
    assert_eq!(then("a", at(7, 2), ready("a", 2, 7, 2, 2, &yes)), [("OWN-2", [6, 9])], "an entry is gone");
    assert_eq!(then("b", json!("latest"), ready("b", 1, 7, 2, 2, &yes)), [("OWN-2", [6, 9])], "another tab");
    assert_eq!(then("a", at(7, 3), ready("a", 2, 7, 3, 3, &yes)), []);
    assert_eq!(then("a", at(7, 3), ready("a", 2, 7, 3, 9, &yes)), []);
    assert_eq!(then("a", at(7, 3), ready("a", 2, 8, 0, 2, &json!(false))), [], "a new epoch may have lost entries");
}

#[test]
fn what_the_user_reads_while_a_socket_opens_says_nothing_of_its_head() {
    let opens = |line: usize| {
        let mut lines = three();
        lines.insert(line, open("b", 1));
        lines.push(auth("b", 1, json!("latest")));
        lines.push(ready("b", 1, 7, 2, 2, &json!(true)));
        contradictions(&lines)
    };
    assert_eq!(opens(5), [], "the third entry may be newer than the answer");
    assert_eq!(opens(6), [("OWN-2", [6, 9])]);
    let without = [three(), vec![ready("b", 1, 7, 2, 2, &json!(true))]].concat();
    assert_eq!(contradictions(&without), [], "it is not known when the socket was opened");
}

#[test]
fn a_head_that_was_told_is_what_the_user_has_seen() {
    let told = [open("a", 1), ready("a", 1, 7, 5, 5, &json!(true)), open("b", 1)];
    let with = |head: u64| contradictions(&[told.to_vec(), vec![ready("b", 1, 7, head, head, &json!(true))]].concat());
    assert_eq!(with(4), [("OWN-2", [2, 4])]);
    assert_eq!(with(5), []);
}

#[test]
fn an_older_gateway_that_tells_no_head_and_another_users_stream_are_not_compared() {
    let mut silent = ready("a", 2, 7, 2, 2, &json!(false));
    silent.3.as_object_mut().expect("a frame").remove("head");
    assert_eq!(then("a", at(7, 2), silent), []);
    let mut other = ready("b", 1, 7, 0, 0, &json!(true));
    other.3["user_id"] = json!("bob");
    assert_eq!(then("b", json!("latest"), other), []);
}

#[test]
fn a_position_that_is_called_gone_and_is_retained_is_refused() {
    let no = json!(false);
    assert_eq!(then("a", at(7, 3), ready("a", 2, 7, 1, 3, &no)), [("OWN-3", [8, 9])]);
    assert_eq!(then("a", at(7, 1), ready("a", 2, 7, 1, 3, &no)), [("OWN-3", [8, 9])], "where the window begins");
    assert_eq!(then("a", at(7, 1), ready("a", 2, 7, 2, 3, &no)), [], "it has left the window");
    assert_eq!(then("a", at(7, 9), ready("a", 2, 7, 1, 3, &no)), [], "no such entry was ever read");
    assert_eq!(then("a", at(7, 3), ready("a", 2, 8, 0, 3, &no)), [], "the epoch is new");
    assert_eq!(then("a", at(7, 3), ready("a", 2, 6, 0, 3, &no)), [("OWN-3", [8, 9])], "the epoch is older");
    assert_eq!(then("a", json!("unread"), ready("a", 2, 7, 1, 3, &no)), [], "it named no position");
}

#[test]
fn a_client_that_is_ahead_of_its_owner_is_not_told_that_its_position_is_gone() {
    let behind = then("a", at(7, 3), ready("a", 2, 7, 0, 2, &json!(false)));
    assert_eq!(behind, [("OWN-2", [6, 9])], "the owner lost what it or another had shown");
}

/// A refresh of the credential does not change the position; only the first `auth` of a socket names it.
#[test]
fn the_position_is_the_one_of_the_first_credential() {
    let begins = |first: Value, second: Value| {
        let told = ready("a", 2, 7, 2, 3, &json!(false));
        contradictions(&[three(), vec![open("a", 2), auth("a", 2, first), auth("a", 2, second), told]].concat())
    };
    assert_eq!(begins(at(7, 3), at(7, 1)), [("OWN-3", [8, 10])]);
    assert_eq!(begins(at(7, 1), at(7, 3)), []);
}

#[test]
fn connections_of_the_older_protocol_are_compared_by_the_head_that_they_are_told() {
    let told = |head: Value| {
        let payload = json!({ "epoch": 7, "offset": 2, "head": head, "resumed": true, "user_id": "ada" });
        ("b", 1, "received", json!({ "type": "connection_established", "payload": payload }))
    };
    assert_eq!(then("b", json!("latest"), told(json!(2))), [("OWN-2", [6, 9])]);
    assert_eq!(then("b", json!("latest"), told(json!(3))), []);
    assert_eq!(then("b", json!("latest"), told(Value::Null)), []);
}
