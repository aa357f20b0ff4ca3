//! The model adapter's timeouts: it waits as long as the settings say while the run lives. Time is virtual.

use core::time::Duration;

use lockstep::BoxFuture;
use lockstep::agent::Agent;
use lockstep::agent::openai::OpenAi;
use lockstep::agent::testing::{Event, Recorder};
use lockstep::agent::tools::{CallError, Invocation, Tool, Tools};
use lockstep_model::Bounds;
use lockstep_model::run::{Kind, Reason};
use serde_json::{Value, json};

use super::server::{Script, Server, Step, call, delta, event, finish};
use super::{completed, failed, pause, tools};

const SECOND: Duration = Duration::from_secs(1);

async fn watched(agent: &OpenAi) -> Vec<Event> {
    let recorder = Recorder::watched(Bounds::DEFAULT);
    let answering = agent.answer(Recorder::message("hello"), recorder.run());
    tokio::time::timeout(SECOND * 7_200, answering).await.expect("an agent that ends its run");
    recorder.events()
}

/// Comments keep the connection and the run alive.
#[tokio::test(start_paused = true)]
async fn a_server_that_only_keeps_the_connection_awake_is_alive() {
    let comments = (0..40).flat_map(|_| [Step::Pause(SECOND * 10), Step::Chunk(b": alive\n\n".to_vec())]);
    let end = [event(&delta(json!({ "content": "at last" }))), event(&finish("stop")), Step::End];
    let server = Server::start(vec![Script::stream(comments.chain(end))]).await;
    let agent = OpenAi::new(server.config(), Tools::none()).expect("a configuration");
    assert_eq!(completed(&watched(&agent).await), "at last");
}

/// A server may take as long as the settings allow to begin, and between two pieces, but no longer.
#[tokio::test(start_paused = true)]
async fn a_slow_server_is_waited_for_as_long_as_the_settings_say() {
    for (pause, answered) in [(65, true), (299, true), (301, false)] {
        let end = || [event(&delta(json!({ "content": "at last" }))), event(&finish("stop")), Step::End];
        let late = Script::late(SECOND * pause, end());
        let silent = Script::stream([Step::Pause(SECOND * pause)].into_iter().chain(end()));
        for script in [late, silent] {
            let server = Server::start(vec![script]).await;
            let agent = OpenAi::new(server.config(), Tools::none()).expect("a configuration");
            let events = watched(&agent).await;
            if answered {
                assert_eq!(completed(&events), "at last", "{pause}");
            } else {
                assert_eq!(failed(&events), "the model's server took too long to answer");
                assert_eq!(events.last().expect("an end").data["code"], "timeout");
            }
        }
    }
}

/// A slow tool.
struct Slow;

impl Tool for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn description(&self) -> &'static str {
        "Takes its time."
    }

    fn parameters(&self) -> Value {
        json!({ "type": "object" })
    }

    fn call(&self, _: Invocation) -> BoxFuture<'_, Result<Value, CallError>> {
        Box::pin(async {
            pause(SECOND * 300).await;
            Ok(json!("done"))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_executes_is_no_silence_and_has_a_time_out_of_its_own() {
    let asks = || Script::events(&[call(0, Some("a"), Some("slow"), "{}"), finish("tool_calls")]);
    let server = Server::start(vec![asks(), Script::text("done")]).await;
    let agent = OpenAi::new(server.config(), Tools::none().with(Slow)).expect("a configuration");
    assert_eq!(completed(&watched(&agent).await), "done");
    let server = Server::start(vec![asks(), Script::text("too slow")]).await;
    let mut config = server.config();
    config.tool_timeout = SECOND * 200;
    let agent = OpenAi::new(config, Tools::none().with(Slow)).expect("a configuration");
    let events = watched(&agent).await;
    assert_eq!(
        (tools(&events)[0].2["error"].as_str(), completed(&events)),
        (Some("the tool took too long"), "too slow".into())
    );
}

/// The same for an agent that does not report being alive: the machine knows that a tool executes.
#[tokio::test(start_paused = true)]
async fn a_tool_of_any_agent_may_execute_longer_than_an_agent_may_be_silent() {
    for (seconds, ending) in [(300, Kind::Completed), (1_000, Kind::Error(Reason::Silent))] {
        let recorder = Recorder::watched(Bounds::DEFAULT);
        let run = recorder.run();
        let working = tokio::spawn(async move {
            let slow = async {
                pause(SECOND * seconds).await;
                Ok::<_, String>("done")
            };
            run.tool("slow", &json!({}), slow).await.map_err(|error| error.to_string())?;
            run.complete(json!({ "text": "done" })).await.map_err(|error| error.to_string())
        });
        recorder.until(|events| events.iter().any(|event| event.kind.is_terminal())).await;
        assert_eq!(recorder.events().last().map(|event| event.kind), Some(ending), "{seconds}");
        working.abort();
    }
}

/// LIVE-2: an agent that reports being alive forever ends at the run's deadline.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_alive_for_ever_does_not_keep_a_run_for_ever() {
    let comments = (0..1_000).flat_map(|_| [Step::Pause(SECOND * 10), Step::Chunk(b": alive\n\n".to_vec())]);
    let server = Server::start(vec![Script::stream(comments)]).await;
    let recorder = Recorder::watched(Bounds::DEFAULT);
    let agent = OpenAi::new(server.config(), Tools::none()).expect("a configuration");
    let working = tokio::spawn(agent.answer(Recorder::message("hello"), recorder.run()));
    recorder.until(|events| events.iter().any(|event| event.kind.is_terminal())).await;
    assert_eq!(recorder.events().last().map(|event| event.kind), Some(Kind::Error(Reason::TimedOut)));
    working.abort();
}
