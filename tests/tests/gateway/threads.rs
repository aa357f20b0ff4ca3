//! Conversations over HTTP and on the socket: everything that a user said and was answered, however little of it the
//! stream has in memory, for that user alone, across crashes.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::hostile::client::Client;
use crate::hostile::starts::{Folder, Process, fetch, gateway, request, settings, token};
use crate::wire::{V1_SERVER, conforming};

pub(crate) const SMALL: &str = "[bounds]\nretained = 8\n[agent]\npace_ms = 0";

async fn get(address: SocketAddr, user: &str, path: &str) -> (u16, Value) {
    let (status, body) = fetch(address, path, &format!("Authorization: Bearer {}\r\n", token(user))).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}")))
}

/// All pages, newest first: the `list` of each.
async fn pages(address: SocketAddr, user: &str, path: &str, list: &str) -> Vec<Vec<Value>> {
    let (mut pages, mut before) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(address, user, &format!("{path}{before}")).await;
        assert_eq!(status, 200, "{page}");
        pages.push(page[list].as_array().expect("a list").clone());
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => return pages,
        }
    }
}

async fn turns(address: SocketAddr, user: &str, thread: &str, limit: usize) -> Vec<Value> {
    let path = format!("/threads/turns?thread_id={thread}&limit={limit}");
    let mut pages = pages(address, user, &path, "events").await;
    pages.reverse();
    pages.concat()
}

fn asked(events: &[Value]) -> Vec<&str> {
    let received = events.iter().filter(|event| event["type"] == "message_received");
    received.map(|event| event["data"]["payload"]["text"].as_str().expect("a text")).collect()
}

pub(crate) async fn say(client: &mut Client, id: &str, thread: &str, text: &str) -> Vec<Value> {
    let message = json!({ "type": "user_message", "message_id": id, "thread_id": thread, "payload": { "text": text } });
    client.say(&message).await;
    client.until("agent_completed").await
}

#[tokio::test]
async fn a_user_finds_all_of_their_conversations_and_no_other() {
    let folder = Folder::new();
    let file = settings(&folder, "", SMALL);
    let mut process = Process::start(gateway(), &file);
    let mut address = process.address().await;
    let mut seen: Vec<Value> = Vec::new();
    for life in 0..3 {
        let mut ada = Client::upgraded(address, &[]).await;
        ada.say(&json!({ "type": "auth", "token": token("ada"), "resume": "latest" })).await;
        ada.next().await;
        for turn in 0..6 {
            let text = format!("{life} {turn} 2+{turn}");
            let thread = ["first", "second"][usize::from(turn == 3)];
            let events = say(&mut ada, &format!("m{life}{turn}"), thread, &text).await;
            seen.extend(events.into_iter().filter(|event| event["thread_id"] == "first"));
        }
        drop(ada);
        if life < 2 {
            process = process.replaced(gateway(), &file).await;
            address = process.address().await;
        }
    }
    let told = turns(address, "ada", "first", 4).await;
    let texts: Vec<String> =
        (0..3).flat_map(|life| [0, 1, 2, 4, 5].map(|turn| format!("{life} {turn} 2+{turn}"))).collect();
    assert_eq!(asked(&told), texts.iter().map(String::as_str).collect::<Vec<_>>());
    // Except for pieces, which are joined, they are the events that the socket had.
    let whole = |events: &[Value]| {
        let whole = events.iter().filter(|event| event["type"] != "agent_delta" && event["offset"].is_u64());
        let whole = whole.map(|event| {
            let mut event = event.clone();
            event.as_object_mut().expect("an object").remove("previous");
            event
        });
        whole.collect::<Vec<_>>()
    };
    assert_eq!(whole(&told), whole(&seen));
    let text = |events: &[Value]| {
        let pieces = events.iter().filter(|event| event["type"] == "agent_delta" && event["data"]["kind"] == "text");
        pieces.map(|event| event["data"]["text"].as_str().expect("a text").to_owned()).collect::<String>()
    };
    assert_eq!(text(&told), text(&seen));

    let mut listed = pages(address, "ada", "/threads?limit=1", "threads").await;
    listed.retain(|page| !page.is_empty());
    let listed: Vec<(&Value, &Value)> = listed.iter().map(|page| (&page[0]["thread_id"], &page[0]["title"])).collect();
    let threads = [(json!("first"), json!("0 0 2+0")), (json!("second"), json!("0 3 2+3"))];
    assert_eq!(listed, threads.each_ref().map(|(thread, title)| (thread, title)));

    for (user, thread, title, status) in [
        ("ada", "first", "  Sums  ", 204),
        ("ada", "third", "Sums", 404),
        ("ada", "first", "  ", 400),
        ("bob", "first", "Mine", 404),
    ] {
        let line = format!("Authorization: Bearer {}\r\n", token(user));
        let title = json!({ "title": title }).to_string();
        let (answer, body) = request(address, "PATCH", &format!("/threads?thread_id={thread}"), &line, &title).await;
        assert_eq!(answer, status, "{body}");
    }
    assert_eq!(get(address, "ada", "/threads?limit=1").await.1["threads"][0]["title"], "Sums");

    assert_eq!(get(address, "bob", "/threads").await, (200, json!({ "threads": [], "next": null })));
    let none = (200, json!({ "events": [], "next": null }));
    assert_eq!(get(address, "bob", "/threads/turns?thread_id=first").await, none);
    process.terminate().await;
}

#[tokio::test]
async fn an_invalid_query_is_refused_by_its_request_id() {
    let folder = Folder::new();
    let mut process = Process::start(gateway(), &settings(&folder, "", SMALL));
    let address = process.address().await;
    for path in ["/threads", "/threads/turns"] {
        let (status, body) = fetch(address, path, "").await;
        assert!(status == 401 && body.contains("no_token"), "{status} {body}");
        let (status, body) = fetch(address, path, "Authorization: Bearer x.y.z\r\n").await;
        assert!(status == 401 && body.contains("rejected"), "{status} {body}");
        for query in ["limit=0", "limit=201", "limit=x", "before=x"] {
            let (status, body) = get(address, "ada", &format!("{path}?{query}")).await;
            assert_eq!((status, &body["error"]["code"]), (400, &json!("bad_request")), "{query}");
        }
    }
    process.terminate().await;
}

async fn delete(address: SocketAddr, user: &str, query: &str) -> u16 {
    let line = format!("Authorization: Bearer {}\r\n", token(user));
    request(address, "DELETE", &format!("/threads{query}"), &line, "").await.0
}

pub(crate) async fn connected(address: SocketAddr, user: &str, resume: Value) -> (Client, Value) {
    let mut client = Client::upgraded(address, &[]).await;
    client.say(&json!({ "type": "auth", "token": token(user), "resume": resume })).await;
    let ready = client.next().await;
    (client, ready)
}

/// RET-1, black-box: over HTTP and on the socket, with a running answer, with a reader that resumes inside the deleted
/// part, and across a crash.
#[tokio::test]
async fn what_is_deleted_is_never_read_again() {
    let folder = Folder::new();
    let file = settings(&folder, "", "[bounds]\nretained = 64\n[agent]\npace_ms = 0");
    let mut process = Process::start(gateway(), &file);
    let mut address = process.address().await;
    let (mut ada, ready) = connected(address, "ada", json!("latest")).await;
    let epoch = ready["epoch"].clone();
    let old = say(&mut ada, "m1", "old", "secret 2+2").await;
    say(&mut ada, "m2", "kept", "2+3").await;
    say(&mut ada, "m3", "old", "secret 2+4").await;
    let place = json!({ "epoch": epoch, "offset": old[1]["offset"] });
    let (away, ready) = connected(address, "ada", place.clone()).await;
    assert_eq!(ready["resumed"], true);
    drop(away);

    assert_eq!(delete(address, "bob", "?thread_id=old").await, 204, "of his own, which he has not");
    assert_eq!(asked(&turns(address, "ada", "old", 4).await).len(), 2);
    assert_eq!(delete(address, "ada", "?thread_id=old").await, 204);
    let told = ada.until("thread_deleted").await;
    assert_eq!(told.last().expect("it is told")["thread_id"], "old");
    let long = format!("?thread_id={}", "x".repeat(129));
    assert_eq!(delete(address, "ada", &long).await, 400);

    let check = async |address: SocketAddr, resumed: bool| {
        assert!(turns(address, "ada", "old", 4).await.is_empty());
        assert_eq!(asked(&turns(address, "ada", "kept", 4).await), ["2+3"]);
        let threads = pages(address, "ada", "/threads?limit=9", "threads").await.concat();
        assert_eq!(threads.iter().map(|thread| &thread["thread_id"]).collect::<Vec<_>>(), ["kept"]);
        for from in [json!("earliest"), place.clone()] {
            let (mut back, ready) = connected(address, "ada", from.clone()).await;
            assert!(ready["resumed"] == true || from != place || !resumed, "{ready}");
            let events = back.until("thread_deleted").await;
            let text = serde_json::to_string(&events).expect("JSON");
            assert!(!text.contains("secret") && text.contains("2+3"), "{text}");
        }
    };
    check(address, true).await;
    process.kill().await;
    process = Process::start(gateway(), &file);
    address = process.address().await;
    check(address, true).await;

    // The name is free again, its message ids are not, and a running answer is stopped.
    let (mut ada, _) = connected(address, "ada", json!("latest")).await;
    ada.say(&json!({ "type": "user_message", "message_id": "m1", "thread_id": "old", "payload": { "text": "2+2" } }))
        .await;
    assert_eq!(ada.until("error").await.last().expect("a refusal")["code"], "forgotten");
    say(&mut ada, "m4", "old", "2+5").await;
    assert_eq!(asked(&turns(address, "ada", "old", 4).await), ["2+5"]);
    ada.say(&json!({ "type": "delete_thread", "thread_id": "old" })).await;
    ada.until("thread_deleted").await;
    assert!(turns(address, "ada", "old", 4).await.is_empty());
    process.terminate().await;
}

/// The answer to a request on the socket, which must name the request.
pub(crate) async fn answered(client: &mut Client, frame: &Value) -> Value {
    client.say(frame).await;
    loop {
        let answer = client.next().await;
        assert_ne!(answer["type"], "close", "{answer} to {frame}");
        if answer["request_id"] == frame["request_id"] {
            return conforming(&V1_SERVER, &answer.to_string());
        }
    }
}

#[tokio::test]
async fn the_socket_says_the_same_of_conversations_as_http() {
    let folder = Folder::new();
    let mut process = Process::start(gateway(), &settings(&folder, "", SMALL));
    let address = process.address().await;
    let (mut ada, _) = connected(address, "ada", json!("latest")).await;
    for (turn, thread) in ["first", "second", "first"].into_iter().enumerate() {
        say(&mut ada, &format!("m{turn}"), thread, &format!("{turn}+{turn}")).await;
    }
    for (kind, path, list) in [
        ("list_threads", "/threads?limit=1", "threads"),
        ("read_turns", "/threads/turns?thread_id=first&limit=1", "events"),
    ] {
        let (mut before, mut found) = (Value::Null, 0);
        loop {
            let frame = json!({ "type": kind, "request_id": "r", "thread_id": "first", "limit": 1, "before": &before });
            let answer = answered(&mut ada, &frame).await;
            let query = before.as_str().map(|before| format!("&before={before}")).unwrap_or_default();
            let (status, page) = get(address, "ada", &format!("{path}{query}")).await;
            assert_eq!(status, 200, "{page}");
            assert_eq!((&answer[list], &answer["next"]), (&page[list], &page["next"]), "{kind}");
            found += usize::from(page[list] != json!([]));
            before = page["next"].clone();
            if before.is_null() {
                break;
            }
        }
        assert_eq!(found, 2, "{kind}");
    }
    process.terminate().await;
}

fn rename(thread: &str, title: &str) -> Value {
    json!({ "type": "rename_thread", "request_id": title, "thread_id": thread, "title": title })
}

#[tokio::test]
async fn a_thread_is_renamed_on_the_socket_or_it_is_said_why_not() {
    let folder = Folder::new();
    let mut process = Process::start(gateway(), &settings(&folder, "", SMALL));
    let address = process.address().await;
    let (mut ada, _) = connected(address, "ada", json!("latest")).await;
    let (mut bob, _) = connected(address, "bob", json!("latest")).await;
    say(&mut ada, "m1", "first", "2+2").await;
    let renamed = answered(&mut ada, &rename("first", " Sums ")).await;
    assert_eq!(renamed, json!({ "type": "thread_renamed", "request_id": " Sums " }));
    for (client, thread, title, code) in
        [(&mut ada, "third", "x", "unknown_thread"), (&mut bob, "first", "Mine", "unknown_thread")]
    {
        assert_eq!(answered(client, &rename(thread, title)).await["code"], code, "{thread}");
    }
    assert_eq!(answered(&mut ada, &rename("first", "  ")).await["code"], "invalid_field");
    let titles = async || get(address, "ada", "/threads").await.1["threads"][0]["title"].clone();
    assert_eq!(titles().await, "Sums");
    let back = json!({ "type": "rename_thread", "request_id": "r", "thread_id": "first", "title": null });
    assert_eq!(answered(&mut ada, &back).await["type"], "thread_renamed");
    assert_eq!(titles().await, "2+2");
    process.terminate().await;
}
