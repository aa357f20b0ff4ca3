//! An answer that grows: a reader that keeps up gets pieces, one that was away gets the rest in one frame (STR-3), and
//! an answer counts once against retention however many pieces it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep::BoxFuture;
use lockstep::agent::{Agent, Message, Run};
use lockstep_model::Bounds;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::hostile::client::message;
use crate::judged::Watched;

/// The number of pieces that a message asks for.
fn asked(message: &Message) -> usize {
    message.text().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// A kind that looks like the members around it.
const REASONING: &str = r#"reasoning,"text":""#;

/// Characters that are escaped, that have two to four bytes, or that are escaped by some.
const CHARACTERS: [char; 9] = [' ', '"', '\\', '\n', '\u{1}', '/', '\u{e9}', '\u{2028}', '\u{1f600}'];

fn piece(number: usize) -> String {
    format!("t{number}{}", CHARACTERS[number % CHARACTERS.len()])
}

fn answer(pieces: usize) -> String {
    (0..pieces).map(piece).collect()
}

/// Emits reasoning, then one piece per permit.
struct Streams(Arc<Semaphore>);

impl Agent for Streams {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        let permits = Arc::clone(&self.0);
        Box::pin(async move {
            run.delta(REASONING, "Let me ").await.expect("a piece");
            run.delta(REASONING, "count.").await.expect("a piece");
            let most = asked(&message);
            for number in 0..most {
                permits.acquire().await.expect("open").forget();
                run.text(&piece(number)).await.expect("a piece");
            }
            run.complete(json!({ "text": answer(most) })).await.expect("an end");
        })
    }
}

/// The text of each part, assembled from frames, by kind.
fn assembled<'a>(frames: impl IntoIterator<Item = &'a Value>) -> BTreeMap<(u64, String), String> {
    let mut parts = BTreeMap::new();
    for frame in frames.into_iter().filter(|frame| frame["type"] == "agent_delta") {
        let data = &frame["data"];
        let part = (data["part"].as_u64().expect("a part"), data["kind"].as_str().expect("a kind").to_owned());
        let text: &mut String = parts.entry(part).or_default();
        text.push_str(data["text"].as_str().expect("a text"));
    }
    parts
}

fn deltas(frames: &[Value]) -> Vec<&Value> {
    frames.iter().filter(|frame| frame["type"] == "agent_delta").collect()
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_two_thousand_tokens_is_caught_up_with_in_few_frames() {
    let manager = Watched::of(Streams(Arc::new(Semaphore::new(10_000))));
    let (mut live, _) = manager.live("ada", json!("latest")).await;
    live.say(&message("m1", "2000").to_string());
    let seen = live.until("agent_completed").await;
    let text = answer(2_000);
    let expected = BTreeMap::from([
        ((1, REASONING.to_owned()), "Let me count.".to_owned()),
        ((2, "text".to_owned()), text.clone()),
    ]);
    assert_eq!(assembled(&seen), expected);
    let (mut late, ready) = manager.live("ada", json!("earliest")).await;
    assert_eq!(ready["offset"], 0, "nothing had to go");
    let caught_up = late.until("agent_completed").await;
    assert_eq!(assembled(&caught_up), expected);
    let frames = deltas(&caught_up);
    let bytes: usize = frames.iter().map(|frame| frame.to_string().len()).sum();
    assert!(frames.len() <= 6, "{} frames", frames.len());
    assert!(bytes * 5 <= text.len() * 6, "{bytes} bytes for a text of {}", text.len());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_resumes_anywhere_inside_an_answer_gets_the_rest_of_it() {
    let permits = Arc::new(Semaphore::new(0));
    let manager = Watched::of(Streams(Arc::clone(&permits)));
    let (mut live, ready) = manager.live("ada", json!("latest")).await;
    live.say(&message("m1", "200").to_string());
    let mut seen = live.until("agent_started").await;
    permits.add_permits(200);
    seen.extend(live.until("agent_completed").await);
    let pieces = deltas(&seen);
    assert_eq!(pieces.len(), 202, "who keeps up gets each piece");
    for place in (0..pieces.len()).step_by(7).chain([1, pieces.len() - 1]) {
        let resume = json!({ "epoch": ready["epoch"], "offset": pieces[place]["offset"] });
        let (mut again, ready) = manager.live("ada", resume).await;
        assert_eq!(ready["resumed"], true);
        let rest = again.until("agent_completed").await;
        let both = pieces[..=place].iter().copied().chain(&rest);
        assert_eq!(assembled(both), assembled(&seen), "behind piece {place}");
        assert!(deltas(&rest).len() <= 2, "behind piece {place}");
    }
}

/// Retention counts answers: thousands of pieces are fewer entries than the bound.
#[tokio::test(start_paused = true)]
async fn an_answer_counts_once_however_many_pieces_it_came_in() {
    const { assert!(10 * 400 > 3 * Bounds::DEFAULT.retained) };
    let manager = Watched::of(Streams(Arc::new(Semaphore::new(100_000))));
    let (mut live, _) = manager.live("ada", json!("latest")).await;
    for number in 0..10 {
        live.say(&message(&format!("m{number}"), "400").to_string());
        live.until("agent_completed").await;
    }
    let (mut late, ready) = manager.live("ada", json!("earliest")).await;
    assert_eq!((&ready["offset"], &ready["resumed"]), (&json!(0), &json!(true)));
    for _ in 0..10 {
        let turn = late.until("agent_completed").await;
        assert_eq!(assembled(&turn)[&(2, "text".to_owned())], answer(400));
    }
}
