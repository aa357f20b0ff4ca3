//! Clients of the older protocol, through the recording proxy.

use super::*;

/// The next frame of this type.
async fn until_type(socket: &mut Socket, name: &str) -> Value {
    loop {
        let frame = next(socket).await;
        if frame["type"] == name {
            return frame;
        }
    }
}

/// A client of the older protocol, before and after a cut.
#[tokio::test]
async fn a_chat_of_the_older_protocol_passes_the_check_and_a_tampered_recording_fails() {
    let permits = Arc::new(Semaphore::new(0));
    let agent = Arc::new(Held(Arc::clone(&permits)));
    let gateway = Gateway::of(Parts { verifier: Arc::new(Prefixed), agent, ..Parts::default() }, |_| {}).await;
    let proxy = Recorded::before(gateway.address).await;
    let bearer = format!("Bearer {SECRET}ada");
    let headers = [("sec-websocket-protocol", "jwt-auth"), ("authorization", bearer.as_str())];
    let say = async |socket: &mut Socket, frame: Value| {
        socket.send(Message::text(frame.to_string())).await.expect("sent");
    };
    let mut ada = connect(proxy.address, "/ws", &headers).await.expect("a socket");
    let question = json!({ "user_request": "work", "thread_id": "t", "context": {}, "settings": {} });
    say(&mut ada, json!({ "type": "start_agent", "payload": question })).await;
    let last = until_type(&mut ada, "agent_thinking").await;
    drop(ada);
    let mut ada = connect(proxy.address, "/ws", &headers).await.expect("a socket");
    let place = json!({ "threadId": "t", "lastMessageId": last["message_id"], "connectionId": "c" });
    say(&mut ada, json!({ "type": "session_restore", "payload": place })).await;
    permits.add_permits(1);
    let end = until_type(&mut ada, "agent_completed").await;
    assert_eq!((&end["previous_id"], &end["payload"]["result"]), (&last["message_id"], &json!("at last")));
    say(&mut ada, json!({ "type": "auth", "payload": { "token": format!("{SECRET}ada") } })).await;
    until_type(&mut ada, "auth_ok").await;
    drop(ada);

    let text = proxy.end().await;
    let findings = judged(&text);
    assert_eq!(findings.contradictions, [], "{text}");
    assert_eq!((findings.sockets, findings.events), (2, 4), "{text}");
    assert!(!text.contains(SECRET) && text.contains(r#""token":"***""#), "{text}");
    let facts = facts(&text);
    let at = |name: &str| facts.iter().position(|fact| fact["frame"]["type"] == name).expect("a line");
    let (received, started, thinking) = (at("message_received"), at("agent_started"), at("agent_thinking"));
    assert_eq!((started, thinking), (received + 1, received + 2));
    let line = |index: usize| index as u64 + 1;
    assert_eq!(planted(&text, |facts| drop(facts.remove(started))), ("STR-1", [line(received), line(started)]));
    let doubled = planted(&text, |facts| facts.insert(started, facts[started].clone()));
    assert_eq!(doubled, ("STR-1", [line(started), line(thinking)]));
    let swapped = planted(&text, |facts| facts.swap(started, thinking));
    assert_eq!(swapped, ("STR-1", [line(received), line(started)]));
    // The gateway reads on somewhere else than the client has asked for before it could have begun.
    let (restore, completed) = (at("session_restore"), at("agent_completed"));
    let opened = facts.iter().rposition(|fact| fact["fact"] == "open").expect("a line");
    let ignored = planted(&text, |facts| {
        let mut asked = facts.remove(restore);
        asked["frame"]["payload"]["lastMessageId"] = facts[started]["frame"]["message_id"].clone();
        facts.insert(opened + 1, asked);
    });
    assert_eq!(ignored.0, "STR-1");
    let lost = planted(&text, |facts| {
        facts[completed]["frame"]["previous_id"] = facts[started]["frame"]["message_id"].clone();
    });
    assert_eq!(lost.0, "STR-1");
    let other = planted(&text, |facts| facts[completed]["frame"]["user_id"] = json!("bob"));
    assert_eq!(other.0, "ISO-1");
}
