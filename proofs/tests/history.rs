//! Histories with one planted contradiction each, and one without.

use lockstep_proofs::history::{NotAHistory, check};
use serde_json::{Value, json};

/// Two clients of one user, one of which reconnects, and a client of another user, without contradictions.
fn history() -> Vec<Value> {
    let fact = |client: &str, user: &str, socket: u64, fact: &str, frame: Value| json!({ "at": 0, "client": client, "user": user, "socket": socket, "fact": fact, "frame": frame });
    let ready = |user: &str, offset: u64| json!({ "type": "connection_ready", "user_id": user, "epoch": 1, "offset": offset, "connection_id": "00" });
    let event = |kind: &str, offset: u64, run: &str, data: Value| json!({ "type": kind, "offset": offset, "previous": offset - 1, "run_id": run, "data": data });
    let run = |run: &str, first: u64, message: &str| {
        vec![
            event("message_received", first, run, json!({ "message_id": message, "payload": 1 })),
            event("agent_started", first + 1, run, json!({})),
            event("tool_executing", first + 2, run, json!({ "tool_id": "t1" })),
            event("tool_completed", first + 3, run, json!({ "tool_id": "t1", "status": "success" })),
            event("agent_completed", first + 4, run, json!({ "text": "yes" })),
        ]
    };
    let mut lines = vec![
        fact("a1", "ada", 1, "open", Value::Null),
        fact("a1", "ada", 1, "sent", json!({ "type": "auth", "token": "***" })),
        fact("a1", "ada", 1, "received", ready("ada", 0)),
        fact("a1", "ada", 1, "sent", json!({ "type": "user_message", "message_id": "m1", "payload": 1 })),
    ];
    let first = run("r1", 1, "m1");
    lines.extend(first[..3].iter().map(|event| fact("a1", "ada", 1, "received", event.clone())));
    lines.push(fact("a1", "ada", 1, "closed", Value::Null));
    lines.push(fact("a1", "ada", 2, "open", Value::Null));
    lines.push(fact("a1", "ada", 2, "received", ready("ada", 3)));
    lines.extend(first[3..].iter().map(|event| fact("a1", "ada", 2, "received", event.clone())));
    lines.push(fact("a2", "ada", 1, "open", Value::Null));
    lines.push(fact("a2", "ada", 1, "received", ready("ada", 0)));
    lines.extend(first.iter().map(|event| fact("a2", "ada", 1, "received", event.clone())));
    lines.push(fact("b", "bob", 1, "open", Value::Null));
    lines.push(fact("b", "bob", 1, "received", ready("bob", 0)));
    lines.extend(run("r2", 1, "m1").iter().map(|event| fact("b", "bob", 1, "received", event.clone())));
    lines.push(json!({ "client": "agent", "user": "bob", "fact": "acked", "frame": { "type": "agent_started", "run_id": "r2" } }));
    lines
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn contradictions(lines: &[Value]) -> Vec<(&'static str, [u64; 2])> {
    let findings = check(text(lines).as_bytes()).expect("a history");
    findings.contradictions.iter().map(|found| (found.property, found.lines)).collect()
}

#[test]
fn a_correct_history_has_no_contradictions() {
    let findings = check(text(&history()).as_bytes()).expect("a history");
    assert_eq!(findings.contradictions, []);
    assert_eq!((findings.lines, findings.sockets, findings.events), (27, 4, 15));
}

#[test]
fn each_planted_violation_is_found_by_its_property_and_names_its_two_lines() {
    let plant = |plant: &dyn Fn(&mut Vec<Value>)| {
        let mut lines = history();
        plant(&mut lines);
        contradictions(&lines)
    };
    assert_eq!(plant(&|lines| lines.swap(2, 4))[0], ("AUTH-1", [1, 3]), "an event before it is ready");
    let late = |lines: &mut Vec<Value>| {
        let event = lines[6].clone();
        lines.insert(8, event);
    };
    assert_eq!(plant(&late), [("AUTH-1", [8, 9])], "after the close");
    assert_eq!(plant(&|lines| lines[2]["frame"]["user_id"] = json!("bob")), [("ISO-1", [1, 3])]);
    let foreign =
        |lines: &mut Vec<Value>| lines[21..26].iter_mut().for_each(|line| line["frame"]["run_id"] = json!("r1"));
    assert!(plant(&foreign).contains(&("ISO-1", [5, 22])), "{:?}", plant(&foreign));
    let skipped = |lines: &mut Vec<Value>| drop(lines.remove(5));
    assert_eq!(plant(&skipped), [("STR-1", [5, 6])]);
    let doubled = |lines: &mut Vec<Value>| {
        let event = lines[5].clone();
        lines.insert(6, event);
    };
    assert_eq!(plant(&doubled), [("STR-1", [6, 7])]);
    assert_eq!(
        plant(&|lines| lines[17]["frame"]["data"] = json!({ "tool_id": "t1", "status": "failure" })),
        [("STR-2", [11, 18])]
    );
    assert_eq!(
        plant(&|lines| lines[10]["frame"] = lines[4]["frame"].clone()).first().map(|found| found.0),
        Some("STR-1")
    );
}

#[test]
fn a_run_that_breaks_its_grammar_is_refused() {
    let bob = |change: &dyn Fn(&mut [Value])| {
        let mut lines = history();
        change(&mut lines[21..26]);
        contradictions(&lines)
    };
    let unpaired = bob(&|run| {
        run[3]["frame"]["type"] = json!("agent_thinking");
    });
    assert_eq!(unpaired, [("RUN-1", [25, 26])], "it ends with an open tool");
    let twice = bob(&|run| {
        run[2]["frame"] = run[4]["frame"].clone();
        run[2]["frame"]["offset"] = json!(3);
        run[2]["frame"]["previous"] = json!(2);
    });
    assert_eq!(twice[0], ("RUN-1", [24, 25]), "an event after the end");
    let early = bob(&|run| run[1]["frame"]["type"] = json!("agent_thinking"));
    assert!(early.contains(&("RUN-1", [22, 23])), "{early:?}");
}

/// RUN-5: one reply resumes a paused run, as clients of either protocol see it.
#[test]
fn a_run_that_resumes_twice_for_one_pause_is_refused() {
    let v1 = |run: &str, offset: u64, event: &str, pause: u64| {
        let mut data = json!({ "pause": pause });
        let member = if event == "agent_paused" { "request" } else { "reply" };
        data[member] = json!({ "text": "x" });
        json!({ "type": event, "offset": offset, "previous": offset - 1, "run_id": run, "data": data })
    };
    let legacy = |run: &str, offset: u64, event: &str, pause: u64| {
        let mut payload = v1(run, offset, event, pause)["data"].take();
        payload["status"] = json!(event.trim_start_matches("agent_"));
        payload["step_number"] = json!(offset);
        let (at, previous) = (format!("1:{offset}"), format!("1:{}", offset - 1));
        json!({ "type": "agent_thinking", "message_id": at, "previous_id": previous, "run_id": run, "user_id": "cy", "payload": payload })
    };
    let line = |frame: Value| json!({ "client": "c", "user": "cy", "socket": 1, "fact": "received", "frame": frame });
    let ready = json!({ "type": "connection_ready", "user_id": "cy", "epoch": 1, "offset": 0 });
    for is_legacy in [false, true] {
        let with = |events: &[(&str, u64)]| {
            let plain = |kind: &str, offset: u64| {
                let data = json!({ "message_id": "m1", "text": "" });
                json!({ "type": kind, "offset": offset, "previous": offset - 1, "run_id": "r1", "data": data })
            };
            let mut lines =
                vec![line(ready.clone()), line(plain("message_received", 1)), line(plain("agent_started", 2))];
            for (offset, (event, pause)) in (3..).zip(events) {
                lines.push(line(match *event {
                    "agent_paused" | "agent_resumed" if is_legacy => legacy("r1", offset, event, *pause),
                    "agent_paused" | "agent_resumed" => v1("r1", offset, event, *pause),
                    other => plain(other, offset),
                }));
            }
            contradictions(&lines)
        };
        let (paused, resumed) = (("agent_paused", 1), ("agent_resumed", 1));
        let (end, failed, thought) = (("agent_completed", 0), ("agent_error", 0), ("agent_thinking", 0));
        assert_eq!(with(&[paused, resumed, thought, ("agent_paused", 2), ("agent_resumed", 2), end]), []);
        assert_eq!(with(&[paused, failed]), [], "there is no reply");
        assert_eq!(with(&[paused, resumed, resumed, end]), [("RUN-1", [5, 6])], "two replies counted");
        assert_eq!(with(&[paused, ("agent_resumed", 2), end]), [("RUN-1", [4, 5])], "the reply to another pause");
        assert_eq!(with(&[paused, thought, resumed, end]), [("RUN-1", [4, 5])], "an agent while it waits");
        assert_eq!(with(&[paused, end])[0], ("RUN-1", [4, 5]), "an answer without a reply");
    }
}

#[test]
fn a_notice_stands_alone() {
    let notice = |offset: u64, run: &str| {
        let frame = json!({ "type": "notice", "offset": offset, "previous": offset - 1, "run_id": run, "data": {} });
        json!({ "client": "b", "user": "bob", "socket": 1, "fact": "received", "frame": frame })
    };
    let with = |notices: &[Value]| {
        let mut lines = history();
        lines.extend(notices.iter().cloned());
        contradictions(&lines)
    };
    assert_eq!(with(&[notice(6, "n1"), notice(7, "n2")]), []);
    assert_eq!(with(&[notice(6, "n1"), notice(7, "n1")]), [("RUN-1", [28, 29])], "said twice");
    assert_eq!(with(&[notice(6, "r2")]), [("RUN-1", [26, 28])], "a run's id");
}

#[test]
fn a_message_that_runs_twice_and_an_acknowledged_event_that_is_missing_are_refused() {
    let mut lines = history();
    let known = json!({ "type": "message_known", "message_id": "m1", "run_id": "r9", "offset": 1 });
    lines.push(json!({ "client": "b", "user": "bob", "socket": 1, "fact": "received", "frame": known }));
    assert_eq!(contradictions(&lines), [("RUN-2", [22, 28])]);

    let mut lines = history();
    let acked = json!({ "type": "agent_thinking", "run_id": "r2" });
    lines.push(json!({ "client": "agent", "user": "bob", "fact": "acked", "frame": acked }));
    assert_eq!(contradictions(&lines), [("RUN-3", [26, 28])]);
}

/// RUN-4: of two runs in one thread the second begins when the first has ended, if the gateway says that threads queue.
#[test]
fn runs_of_a_thread_that_overlap_are_refused() {
    let line =
        |fact: &str, frame: Value| json!({ "client": "c", "user": "cy", "socket": 1, "fact": fact, "frame": frame });
    let events = [
        ("message_received", "r1", "m1", "t"),
        ("agent_started", "r1", "", "t"),
        ("message_received", "r2", "m2", "t"),
        ("message_received", "r3", "m3", "u"),
        ("agent_started", "r3", "", "u"),
        ("agent_completed", "r1", "", "t"),
        ("agent_started", "r2", "", "t"),
        ("agent_error", "r2", "", "t"),
    ];
    let with = |output: &[usize], limits: Value| {
        let ready = json!({ "type": "connection_ready", "user_id": "cy", "epoch": 1, "offset": 0, "limits": limits });
        let mut lines = vec![line("open", Value::Null), line("received", ready)];
        for (offset, (kind, run, message, thread)) in (1..).zip(output.iter().map(|place| events[*place])) {
            let data = json!({ "message_id": message });
            let frame = json!({ "type": kind, "offset": offset, "previous": offset - 1, "run_id": run, "thread_id": thread, "data": data });
            lines.push(line("received", frame));
        }
        contradictions(&lines)
    };
    let queues = json!({ "concurrency": "queue" });
    let (right, overlap) = ([0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 6, 5, 7]);
    assert_eq!(with(&right, queues.clone()), []);
    assert_eq!(with(&overlap, queues.clone()), [("RUN-4", [4, 8])]);
    assert_eq!(with(&[0, 2, 6, 1, 5, 7], queues), [("RUN-4", [3, 5])], "in another order than their messages");
    for says_otherwise in [json!({ "concurrency": "parallel" }), json!({ "runs": 8 }), Value::Null] {
        assert_eq!(with(&overlap, says_otherwise.clone()), [], "{says_otherwise}");
    }
}

/// STR-3: frames of a part that were cut and joined differently have the same content, or they contradict each other.
#[test]
fn a_part_with_two_contents_is_refused() {
    let frame = |socket: u64, previous: u64, offset: u64, text: &str| {
        let data = json!({ "part": 1, "kind": "text", "text": text });
        let frame =
            json!({ "type": "agent_delta", "offset": offset, "previous": previous, "run_id": "r2", "data": data });
        json!({ "client": "b", "user": "bob", "socket": socket, "fact": "received", "frame": frame })
    };
    let ready = |socket: u64, offset: u64| {
        let bare = |fact: &str| json!({ "client": "b", "user": "bob", "socket": socket, "fact": fact });
        let frame = json!({ "type": "connection_ready", "user_id": "bob", "epoch": 7, "offset": offset, "connection_id": "00" });
        let mut received = bare("received");
        received["frame"] = frame;
        [bare("open"), received]
    };
    let with = |second: &[Value], from: u64| {
        let mut lines = Vec::from(ready(8, 10));
        lines.extend([frame(8, 10, 11, "one "), frame(8, 11, 12, "two "), frame(8, 12, 13, "three")]);
        lines.extend(ready(9, from));
        lines.extend(second.iter().cloned());
        contradictions(&lines)
    };
    assert_eq!(with(&[frame(9, 10, 13, "one two three")], 10), []);
    assert_eq!(with(&[frame(9, 10, 12, "one two "), frame(9, 12, 13, "three")], 10), []);
    assert_eq!(with(&[frame(9, 11, 13, "two three")], 11), [], "the rest");
    assert_eq!(with(&[frame(9, 13, 14, " four")], 13), []);
    let refused = |found: Vec<(&'static str, [u64; 2])>| found.iter().any(|(property, _)| *property == "STR-3");
    assert!(refused(with(&[frame(9, 10, 13, "one two two three")], 10)), "a piece twice");
    assert!(refused(with(&[frame(9, 10, 13, "one three")], 10)), "a piece less");
    assert!(refused(with(&[frame(9, 11, 13, "one two three")], 11)), "once more from the beginning");
    assert!(refused(with(&[frame(9, 10, 12, "one "), frame(9, 12, 13, "three")], 10)), "lost at the joint");
}

/// The same history from a recorder that does not know the users.
fn anonymous() -> Vec<Value> {
    let mut lines = history();
    for line in &mut lines {
        line.as_object_mut().expect("a line").remove("user");
    }
    lines
}

#[test]
fn a_sockets_user_is_learned_from_connection_ready() {
    assert_eq!(contradictions(&anonymous()), []);
    let plant = |plant: &dyn Fn(&mut Vec<Value>)| {
        let mut lines = anonymous();
        plant(&mut lines);
        contradictions(&lines)
    };
    let other = |lines: &mut Vec<Value>| lines[9]["frame"]["user_id"] = json!("bob");
    assert_eq!(plant(&other)[0], ("ISO-1", [5, 11]), "a run that is seen by two users");
    let again = |lines: &mut Vec<Value>| {
        let mut ready = lines[2].clone();
        ready["frame"]["user_id"] = json!("bob");
        ready["frame"]["offset"] = json!(3);
        lines.insert(7, ready);
    };
    assert_eq!(plant(&again), [("ISO-1", [3, 8])], "one socket of two users");
    assert_eq!(plant(&|lines| lines.swap(2, 4))[0], ("AUTH-1", [1, 3]));
    let unnamed = |lines: &mut Vec<Value>| {
        lines[2]["frame"].as_object_mut().expect("a frame").remove("user_id");
    };
    let mut lines = anonymous();
    unnamed(&mut lines);
    assert!(matches!(check(text(&lines).as_bytes()), Err(NotAHistory::NotAFact(3, _))));
}

#[test]
fn a_client_may_send_anything_and_even_an_invalid_text_before_ready_is_too_early() {
    let sent = |frame: Value| json!({ "client": "a1", "socket": 1, "fact": "sent", "frame": frame });
    let mut lines = anonymous();
    lines.insert(3, sent(json!({ "type": 7, "offset": "x" })));
    lines.insert(3, sent(json!([])));
    lines.insert(3, json!({ "client": "a1", "socket": 1, "fact": "sent" }));
    assert_eq!(contradictions(&lines), []);
    let text = json!({ "client": "a1", "socket": 1, "fact": "received" });
    lines.insert(3, text.clone());
    assert_eq!(contradictions(&lines), []);
    lines.insert(1, text);
    assert_eq!(contradictions(&lines), [("AUTH-1", [1, 2])]);
}

#[test]
fn names_are_equal_however_they_are_escaped() {
    let escaped = text(&history()).replace("\"m1\"", "\"\\u006d1\"").replacen("\"ada\"", "\"\\u0061da\"", 5);
    assert!(escaped.contains("\\u006d1") && escaped.contains("\\u0061da"));
    assert_eq!(check(escaped.as_bytes()).expect("a history").contradictions, []);
}

#[test]
fn a_reported_gap_is_no_contradiction_and_unseen_events_are_not_checked() {
    let mut lines = history();
    let reset = json!({ "type": "stream_reset", "from": 1, "to": 4 });
    lines[22]["frame"] = reset;
    lines.drain(23..25);
    lines.pop();
    assert_eq!(contradictions(&lines), []);
}

#[test]
fn an_invalid_history_is_an_error() {
    assert_eq!(check("".as_bytes()), Err(NotAHistory::Empty));
    assert!(matches!(check("{}\n".as_bytes()), Err(NotAHistory::NotAFact(1, _))));
    assert!(matches!(check("\u{0}\n".as_bytes()), Err(NotAHistory::NotAFact(1, _))));
    assert!(matches!(check(&b"\xff\n"[..]), Err(NotAHistory::Unreadable(_))));
}

/// The frames that one socket reads of a thread that is deleted at offset 4, and of another thread.
fn reads(client: &str, socket: u64, from: u64, events: &[(&str, u64, u64, &str)]) -> Vec<Value> {
    let fact = |fact: &str, frame: Value| json!({ "client": client, "user": "ada", "socket": socket, "fact": fact, "frame": frame });
    let ready = json!({ "type": "connection_ready", "user_id": "ada", "epoch": 1, "offset": from });
    let events = events.iter().map(|(kind, offset, previous, thread)| {
        // A deletion has a run id of its own.
        let run = format!("{kind}{thread}{}", if *kind == "thread_deleted" { *offset } else { 0 });
        let run = if *kind == "thread_deleted" { run } else { format!("run of {thread}") };
        let data = json!({ "message_id": format!("m{thread}"), "payload": 1 });
        json!({ "type": kind, "offset": offset, "previous": previous, "run_id": run, "thread_id": thread, "data": data })
    });
    [fact("open", Value::Null), fact("received", ready)]
        .into_iter()
        .chain(events.map(|event| fact("received", event)))
        .collect()
}

#[test]
fn reading_a_thread_after_its_deletion_is_refused() {
    const GONE: (&str, u64, u64, &str) = ("message_received", 1, 0, "t");
    const OTHER: (&str, u64, u64, &str) = ("message_received", 2, 1, "u");
    const END: (&str, u64, u64, &str) = ("agent_error", 3, 2, "t");
    const DELETED: (&str, u64, u64, &str) = ("thread_deleted", 4, 3, "t");
    let whole = reads("a", 1, 0, &[GONE, OTHER, END, DELETED]);
    // A later reader's entries link past the deleted ones, and a reader that was behind may have read some of them.
    let later = reads("b", 1, 0, &[("message_received", 2, 0, "u"), ("thread_deleted", 4, 2, "t")]);
    let behind = reads("c", 1, 0, &[GONE, OTHER]);
    let inside = reads("c", 2, 3, &[DELETED]);
    let next = ("message_received", 5, 4, "v");
    let right = [behind, whole.clone(), later, inside, reads("d", 1, 4, &[next])].concat();
    assert_eq!(contradictions(&right), []);

    let again = [whole.clone(), reads("b", 1, 0, &[GONE, ("thread_deleted", 4, 1, "t")])].concat();
    assert_eq!(contradictions(&again), [("RET-1", [6, 9])], "a socket that was opened after another had read it");
    let at_once = [reads("b", 1, 0, &[]), whole.clone(), reads("b", 1, 0, &[GONE])[2..].to_vec()].concat();
    assert_eq!(contradictions(&at_once), [], "it may have been sent before");
    let relinked = [whole, reads("b", 1, 4, &[next]), reads("c", 1, 3, &[("message_received", 5, 3, "v")])].concat();
    assert_eq!(contradictions(&relinked), [("STR-2", [9, 12])], "nothing was deleted between the two");
}
