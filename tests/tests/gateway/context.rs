//! What an agent is told about its thread: every finished turn with its tools, including partial answers.

use lockstep::BoxFuture;
use lockstep::agent::{Agent, End, Message, Run, Step, ToolCall, Turn};
use lockstep_model::run::Reason;
use serde_json::{Value, json};

use crate::hostile::client::message;
use crate::judged::Watched;

/// Emits text and calls tools, then does what the message asks: completes, fails, or waits to be cancelled. Asked
/// `what`, it answers with the thread it was given.
struct Remembers;

impl Agent for Remembers {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let asked = message.text().unwrap_or_default();
            if asked == "what" {
                let turns: Vec<Value> = run.history(100).await.iter().map(told).collect();
                return run.complete(json!({ "text": "this", "turns": turns })).await.expect("an end");
            }
            run.delta("reasoning", "hm").await.expect("a piece");
            for piece in ["I ", "look."] {
                run.text(piece).await.expect("a piece");
            }
            let _ = run.tool("add", &json!({ "a": 1 }), async { Ok::<_, String>(2) }).await;
            let _ = run.tool("bad", &json!({}), async { Err::<u8, _>("no") }).await;
            run.text(&format!("So {asked}")).await.expect("a piece");
            match asked.as_str() {
                "completes" => run.complete(json!({ "text": "done" })).await.expect("an end"),
                "fails" => run.fail("sorry").await.expect("an end"),
                _ => run.ended().await,
            }
        })
    }
}

fn told(turn: &Turn) -> Value {
    let steps = turn.steps.iter().map(|step| match step {
        Step::Text(text) => json!(text),
        Step::Tool(ToolCall { id, name, arguments, result, .. }) => json!([id, name, arguments, result]),
        Step::Asked(exchange) => json!([exchange.request, exchange.reply]),
    });
    let end = match &turn.end {
        Some(End::Completed(data)) => json!(data),
        Some(End::Failed(reason)) => json!(reason),
        None => Value::Null,
    };
    json!([turn.message, steps.collect::<Vec<_>>(), end])
}

#[tokio::test(start_paused = true)]
async fn an_agent_knows_each_turn_of_its_thread_as_far_as_it_came() {
    let manager = Watched::of(Remembers);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    ada.say(&message("m1", "completes").to_string());
    ada.until("agent_completed").await;
    ada.say(&message("m2", "fails").to_string());
    ada.until("agent_error").await;
    ada.say(&message("m3", "waits").to_string());
    let mut seen = ada.until("tool_completed").await;
    seen.extend(ada.until("tool_completed").await);
    seen.extend(ada.until("agent_delta").await);
    ada.say(&json!({ "type": "cancel", "run_id": seen[0]["run_id"] }).to_string());
    ada.until("agent_error").await;
    ada.say(
        &json!({ "type": "user_message", "message_id": "m4", "thread_id": "other", "payload": { "text": "waits" } })
            .to_string(),
    );
    ada.until("agent_started").await;
    ada.say(&message("m5", "what").to_string());
    let answer = ada.until("agent_completed").await;
    let turn = |asked: &str, end: Value| {
        let tools = [json!(["t1", "add", r#"{"a":1}"#, { "Ok": "2" }]), json!(["t2", "bad", "{}", { "Err": "no" }])];
        let [add, bad] = tools;
        json!([{ "text": asked }, ["I look.", add, bad, format!("So {asked}")], end])
    };
    let expected = json!([
        turn("completes", json!({ "text": "done" })),
        turn("fails", json!(Reason::Failed)),
        turn("waits", json!(Reason::Cancelled)),
    ]);
    assert_eq!(answer.last().expect("an end")["data"]["turns"], expected);
}

/// Replaced and deleted turns are not part of the conversation. Replacing a running answer stops it.
#[tokio::test(start_paused = true)]
async fn an_agent_is_not_told_what_was_replaced_or_deleted() {
    let manager = Watched::of(Remembers);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    let said = |id: &str, text: &str, replaces: Option<u64>| {
        let payload = json!({ "text": text });
        json!({ "type": "user_message", "message_id": id, "payload": payload, "replaces": replaces }).to_string()
    };
    let asked = |answer: &[Value]| -> Vec<String> {
        let turns = answer.last().expect("an end")["data"]["turns"].as_array().expect("turns").clone();
        turns.iter().map(|turn| turn[0]["text"].as_str().expect("a text").to_owned()).collect()
    };
    let offset = |events: &[Value]| events[0]["offset"].as_u64().expect("an offset");
    ada.say(&said("m1", "completes", None));
    ada.until("agent_completed").await;
    ada.say(&said("m2", "completes", None));
    let second = offset(&ada.until("agent_completed").await);
    ada.say(&said("m3", "waits", None));
    ada.until("agent_delta").await;
    ada.say(&said("m4", "what", Some(second)));
    let answer = ada.until("agent_completed").await;
    let stopped = answer.iter().position(|event| event["type"] == "agent_error").expect("it is stopped");
    let received = answer.iter().position(|event| event["data"]["message_id"] == "m4").expect("it is received");
    assert!(stopped < received, "the end of what is replaced comes before the message");
    assert_eq!(answer[received]["data"]["replaces"], second);
    assert_eq!(asked(&answer), ["completes"]);

    ada.say(&said("m5", "what", None));
    assert_eq!(asked(&ada.until("agent_completed").await), ["completes", "what"]);
    ada.say(&said("m6", "what", Some(u64::MAX >> 11)));
    let refused = ada.until("error").await;
    assert_eq!(refused.last().expect("a refusal")["code"], "invalid_field");

    ada.say(&said("m7", "waits", None));
    ada.until("agent_delta").await;
    ada.say(&json!({ "type": "delete_thread" }).to_string());
    ada.until("thread_deleted").await;
    ada.say(&said("m8", "what", None));
    assert_eq!(asked(&ada.until("agent_completed").await), [""; 0]);
    ada.say(&said("m1", "completes", None));
    assert_eq!(ada.until("error").await.last().expect("a refusal")["code"], "forgotten");
}
