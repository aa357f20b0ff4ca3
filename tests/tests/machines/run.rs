//! The run machine: one AI request, with its events, its tools and its end.

mod exact;

use lockstep_model::run::{Input, Kind, Output, Received, Schedule, ToolEnd};
use lockstep_model::{Handled, MessageId, Refusal, Run, ThreadId, Timer, ToolId};

use crate::support::SMALL;

const MESSAGE: MessageId = MessageId(9);
const THREAD: ThreadId = ThreadId(4);
const RECEIVED: Received = Received::immediate(MESSAGE, THREAD);
const QUEUED: Received = Received { message: MESSAGE, thread: THREAD, schedule: Schedule::Queued, replaces: None };
const SILENCE: Output = Output::Arm(Timer::Silence, SMALL.silence);
const EXECUTION: Output = Output::Arm(Timer::Silence, SMALL.execution);
const DEADLINE: Output = Output::Arm(Timer::Deadline, SMALL.deadline);

fn step(run: &mut Run, input: Input) -> (Result<Handled, Refusal>, Vec<Output>) {
    let mut out = Vec::new();
    let handled = run.step(&SMALL, input, &mut out);
    (handled, out)
}

/// The run after these inputs, none of which may be refused or stale.
fn after(inputs: &[Input]) -> Run {
    let mut run = Run::accept(&SMALL, RECEIVED, &mut Vec::new());
    for input in inputs {
        assert_eq!(step(&mut run, *input).0, Ok(Handled::Done), "{input:?} in {run:?}");
    }
    run
}

const fn open(tool: u32) -> Input {
    Input::OpenTool(ToolId(tool))
}

const fn close(tool: u32) -> Input {
    Input::CloseTool(ToolId(tool), ToolEnd::Success)
}

fn emitted(out: &[Output]) -> Vec<Kind> {
    out.iter().filter_map(|output| if let Output::Emit(kind) = output { Some(*kind) } else { None }).collect()
}
