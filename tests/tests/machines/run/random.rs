use lockstep_model::run::{Input, Output, Reason, State, ToolEnd};
use lockstep_model::{Handled, PartId, Refusal, Run, Timer, ToolId};
use proptest::prelude::*;

use super::{RECEIVED, emitted};
use crate::properties::run::Grammar;
use crate::support::{SMALL, cases, lawful, survives_json};

fn inputs() -> impl Strategy<Value = Input> {
    let tool = || (0..4u32).prop_map(ToolId);
    let end = prop_oneof![Just(ToolEnd::Success), Just(ToolEnd::Failure)];
    prop_oneof![
        4 => Just(Input::Start),
        6 => Just(Input::Think),
        6 => (0..2_u32).prop_map(|part| Input::Say(PartId(part))),
        3 => Just(Input::Alive),
        6 => tool().prop_map(Input::OpenTool),
        6 => (tool(), end).prop_map(|(tool, end)| Input::CloseTool(tool, end)),
        1 => Just(Input::Dequeue),
        3 => prop::sample::select(vec![Timer::Idle, Timer::Retry]).prop_map(Input::Expired),
    ]
}

fn ends() -> impl Strategy<Value = Input> {
    prop::sample::select(vec![
        Input::Complete,
        Input::Fail,
        Input::Abandon,
        Input::Cancel,
        Input::Interrupt,
        Input::Expired(Timer::Silence),
        Input::Expired(Timer::Deadline),
    ])
}

/// A random run: agent inputs, an end, and more agent inputs.
fn lives() -> impl Strategy<Value = Vec<Input>> {
    let anything = || prop::collection::vec(prop_oneof![12 => inputs(), 1 => ends()], 0..30);
    (anything(), ends(), anything()).prop_map(|(mut life, end, after)| {
        // A completion may be refused, so the handle is dropped after it.
        life.extend([end, Input::Abandon]);
        life.extend(after);
        life
    })
}

fn is_agents(input: Input) -> bool {
    match input {
        Input::Start
        | Input::Think
        | Input::Say(_)
        | Input::Alive
        | Input::OpenTool(_)
        | Input::CloseTool(..)
        | Input::Complete
        | Input::Fail => true,
        Input::Dequeue | Input::Abandon | Input::Cancel | Input::Interrupt | Input::Expired(_) => false,
    }
}

proptest! {
    #![proptest_config(cases())]

    /// RUN-1, RUN-3, LIM-1: under any inputs, the emitted events are a sentence of the grammar. A refusal emits
    /// nothing, only agents are refused, and an accepted input emits at least one event or renews the timers.
    #[test]
    fn events_follow_the_grammar_whatever_is_tried(life in lives()) {
        let (mut grammar, mut out) = (Grammar::default(), Vec::new());
        let mut run = Run::accept(&SMALL, RECEIVED, &mut out);
        let mut counted = 0;
        for kind in emitted(&out) {
            prop_assert_eq!(grammar.take(kind.into()), Ok(()));
        }
        let (mut watched, mut timed) = (true, true);
        for input in life {
            out.clear();
            let before = run.clone();
            let handled = run.step(&SMALL, input, &mut out);
            lawful(&before, &run, handled, &out);
            prop_assert!(handled.is_ok() || is_agents(input));
            let kinds = emitted(&out);
            prop_assert_eq!(kinds.is_empty(), handled != Ok(Handled::Done) || input == Input::Alive);
            for kind in &kinds {
                prop_assert_eq!(grammar.take((*kind).into()), Ok(()), "{:?} in {:?}", input, before);
            }
            prop_assert_eq!(run.is_open(), !grammar.has_ended());
            prop_assert_eq!(run.reserve(), if grammar.has_ended() { 0 } else { grammar.tools().len() + 1 });
            if matches!(input, Input::Think | Input::Say(_) | Input::OpenTool(_)) {
                counted += kinds.len();
            }
            prop_assert!(grammar.tools().len() <= SMALL.tools && counted < SMALL.events as usize, "LIM-1");

            for output in &out {
                match output {
                    Output::Arm(Timer::Silence, _) => watched = true,
                    Output::Disarm(Timer::Silence) => watched = false,
                    Output::Disarm(Timer::Deadline) => timed = false,
                    Output::Arm(..) | Output::Disarm(_) => prop_assert!(false, "{:?} is no timer of a run", output),
                    Output::Stop => prop_assert!(grammar.has_ended()),
                    Output::Emit(_) => {}
                }
            }
            prop_assert_eq!((watched, timed), (run.is_open(), run.is_open()), "LIVE-2: an open run is watched");
            prop_assert_eq!(run.check(&SMALL), Ok(()));
            survives_json(&run);
            survives_json(&input);
            survives_json(&out);
        }
        prop_assert!(grammar.has_ended() && !run.is_open());
    }

    /// A run that is restored from any prefix of its events and interrupted completes a sentence of the grammar with
    /// one end that says so; an ended one adds nothing.
    #[test]
    fn any_durable_prefix_can_be_brought_to_its_end(life in lives(), cut in any::<prop::sample::Index>()) {
        let mut out = Vec::new();
        let mut run = Run::accept(&SMALL, RECEIVED, &mut out);
        for input in life {
            let _ = run.step(&SMALL, input, &mut out);
        }
        let kinds = emitted(&out);
        let durable = &kinds[..=cut.index(kinds.len())];

        let (mut grammar, mut recalled) = (Grammar::default(), Run::recall(RECEIVED));
        for kind in durable {
            prop_assert_eq!(grammar.take((*kind).into()), Ok(()));
            recalled.replay(*kind);
        }
        prop_assert_eq!(recalled.is_open(), !grammar.has_ended());
        let mut out = Vec::new();
        let handled = recalled.step(&SMALL, Input::Interrupt, &mut out);
        if grammar.has_ended() {
            prop_assert_eq!((handled, out.len()), (Ok(Handled::Ignored), 0));
        } else {
            for kind in emitted(&out) {
                prop_assert_eq!(grammar.take(kind.into()), Ok(()));
            }
            let last = emitted(&out).last().copied();
            prop_assert_eq!(last, Some(lockstep_model::run::Kind::Error(Reason::Interrupted)));
            prop_assert_eq!(recalled.state(), &State::Interrupted);
        }
        prop_assert!(grammar.has_ended());
        prop_assert_eq!(recalled.step(&SMALL, Input::Think, &mut Vec::new()), Err(Refusal::RunEnded));
    }
}
