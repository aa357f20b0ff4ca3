//! Runs that wait for a reply of the user.

use lockstep_model::session::Begin;

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "X130",
            "answered twice",
            "two tabs reply to one question, and each reply starts an agent",
            ["RUN-5"],
            Setup { mistake: Some(Mistake::tampering(launch_twice)), ..paused(1, 1) }
        ),
        in_world!(
            "X131",
            "an old reply to a new question",
            "a reply that was sent again after a reconnect is taken for the reply to the next question",
            ["RUN-5"],
            Setup { mistake: Some(Mistake::feeding(any_pause)), ..paused(2, 2) }
        ),
        in_world!(
            "X132",
            "answered after cancel",
            "the user cancels while the reply is being written, and the agent goes on all the same",
            ["RUN-5"],
            Setup { mistake: Some(Mistake::tampering(launch_ended)), ..paused(1, 1) }
        ),
        in_world!(
            "X133",
            "timer and reply race",
            "the timer that ends an unanswered run is not cancelled by the reply, and ends the run that has resumed",
            ["LIVE-2"],
            Setup { mistake: Some(Mistake::tampering(forget_timer)), ..paused(1, 1) }
        ),
        in_world!(
            "X134",
            "resumed too soon",
            "the agent goes on with a reply that the log does not have, and that a crash takes back",
            ["RUN-5"],
            Setup { mistake: Some(Mistake::tampering(launch_unwritten)), ..paused(1, 1) }
        ),
        in_world!(
            "X135",
            "a restart ends what waits",
            "after a restart, a run that waits for its user is ended as one whose agent was lost",
            ["RUN-5"],
            Setup { crashes: 1, mistake: Some(Mistake::feeding(interrupt_paused)), ..paused(1, 1) }
        ),
        in_world!(
            "X136",
            "a restart waits forever",
            "after a restart, no timer ends a run whose user does not reply",
            ["LIVE-2"],
            Setup { crashes: 1, mistake: Some(Mistake::tampering(recover_untimed)), ..paused(1, 0) }
        ),
        in_world!(
            "X137",
            "resumed while leaving",
            "a node that is about to leave takes a reply, and so has another run to wait for",
            ["NODE-2", "RUN-5"],
            Setup { handovers: 1, mistake: Some(Mistake::feeding(resume_while_leaving)), ..paused(1, 1) }
        ),
    ]
}

/// One user with one message, whose run pauses.
fn paused(pauses: u8, replies: u8) -> Setup {
    Setup {
        clients: vec![ClientSetup { fast: true, ..client(0, 1, 2) }],
        pauses,
        replies,
        cancels: 1,
        pull: 8,
        bounds: Bounds { retained: 12, pending: 6, runs: 1, ..setup::small() },
        ..Setup::calm("pause", "a run that waits for a reply")
    }
}

fn launch_twice(_: &World, outputs: &mut Vec<Output>) {
    let resumes = |output: &&Output| {
        matches!(output, Output::Session { output: SessionOutput::Launch { begin: Begin::Resumed, .. }, .. })
    };
    let again = outputs.iter().find(resumes).cloned();
    outputs.extend(again);
}

fn any_pause(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { connection, input: C::Received(Request::Reply { run, pause, .. }) } = &mut input
        && let Some(user) = world.gateway.user_of(*connection)
        && let Some(present) = session_of(world, user).and_then(|session| session.runs().get(run)?.paused())
    {
        *pause = present;
    }
    fed.push(input);
}

/// Gives the reply at this offset of the log to an agent.
fn launch_with(world: &World, user: UserId, offset: Offset) -> Option<SessionOutput<Payload>> {
    let event = log_of(world, user)?.at(offset.0).filter(|event| matches!(event.kind, Kind::Resumed(_)))?;
    Some(SessionOutput::Launch { run: event.run, payload: event.payload, begin: Begin::Resumed })
}

fn launch_ended(world: &World, outputs: &mut Vec<Output>) {
    for output in outputs {
        if let Output::Session { user, output, .. } = output
            && let SessionOutput::Durable { offset, .. } = *output
            && let Some(launch) = launch_with(world, *user, offset)
        {
            *output = launch;
        }
    }
}

fn forget_timer(_: &World, outputs: &mut Vec<Output>) {
    let resumes = |output: &Output| match output {
        Output::Session { output: SessionOutput::Write { event, .. }, .. } => matches!(event.kind, Kind::Resumed(_)),
        _ => false,
    };
    if outputs.iter().any(resumes) {
        outputs.retain(|output| !matches!(output, Output::Disarm(Place::Run(..), Timer::Pause)));
    }
}

fn launch_unwritten(_: &World, outputs: &mut Vec<Output>) {
    let launch = outputs.iter().find_map(|output| match output {
        Output::Session { user, generation, output: SessionOutput::Write { event, .. } }
            if matches!(event.kind, Kind::Resumed(_)) =>
        {
            let output = SessionOutput::Launch { run: event.run, payload: event.payload, begin: Begin::Resumed };
            Some(Output::Session { user: *user, generation: *generation, output })
        }
        _ => None,
    });
    outputs.extend(launch);
}

fn interrupt_paused(world: &World, input: Input, fed: &mut Vec<Input>) {
    let paused = match &input {
        Input::Session { user, generation, input: S::Restored { .. } } => {
            let runs = log_of(world, *user).into_iter().flat_map(Log::under_way);
            runs.map(|run| (*user, *generation, run)).collect()
        }
        _ => Vec::new(),
    };
    fed.push(input);
    fed.extend(paused.into_iter().map(|(user, generation, run)| Input::Session {
        user,
        generation,
        input: S::Run { run, input: run::Input::Interrupt, payload: None },
    }));
}

fn recover_untimed(_: &World, outputs: &mut Vec<Output>) {
    let writes = |output: &Output| matches!(output, Output::Session { output: SessionOutput::Write { .. }, .. });
    let pauses = |output: &Output| matches!(output, Output::Disarm(Place::Run(..), Timer::Silence));
    if !outputs.iter().any(|output| writes(output) || pauses(output)) {
        outputs.retain(|output| !matches!(output, Output::Arm(Place::Run(..), Timer::Pause, _)));
    }
}

fn resume_while_leaving(world: &World, input: Input, fed: &mut Vec<Input>) {
    let resumed = match &input {
        Input::Connection { connection, input: C::Received(Request::Reply { run, pause, payload }) }
            if !world.is_serving() =>
        {
            world.gateway.user_of(*connection).and_then(|user| {
                let generation = world.gateway.slots().get(&user)?.generation;
                let input = S::Run { run: *run, input: run::Input::Resume(*pause), payload: Some(*payload) };
                Some(Input::Session { user, generation, input })
            })
        }
        _ => None,
    };
    fed.push(resumed.unwrap_or(input));
}
