//! Verdicts, expiry, revocation, refresh.

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "A16",
            "degraded means open",
            "whoever cannot be verified, or is rejected, is let in while the verifier has trouble",
            ["AUTH-1", "AUTH-3"],
            Setup { mistake: Some(Mistake::feeding(let_in)), ..verified("a verifier in trouble") }
        ),
        in_world!(
            "A17",
            "a verdict for the wrong token",
            "verdicts are kept by where the gateway runs and not by token, so the second socket has the first one's user",
            ["AUTH-2", "AUTH-3"],
            Setup {
                clients: vec![client(0, 0, 1), client(1, 0, 1)],
                mistake: Some(Mistake::feeding(reuse_the_verdict)),
                ..Setup::calm("isolation", "two users connect")
            }
        ),
        in_world!(
            "A18",
            "ended, but not closed",
            "a credential that is over is taken off a list, and the socket stays open",
            ["AUTH-1", "LIVE-4"],
            Setup {
                clients: vec![client(0, 1, 1)],
                expiries: 1,
                mistake: Some(Mistake::feeding(overlook_expiry)),
                ..Setup::calm("session", "a credential expires")
            }
        ),
        in_world!(
            "A19",
            "it outlives its token",
            "a credential cannot be renewed in band, and when it is over nothing is sent and nothing is closed",
            ["LIVE-4", "STR-1"],
            Setup {
                clients: vec![client(0, 1, 1)],
                expiries: 1,
                mistake: Some(Mistake { feed: overlook_expiry, tamper: fall_silent }),
                ..Setup::calm("session", "a credential expires")
            }
        ),
        in_world!(
            "B5",
            "expired, hence eternal",
            "a refresh with a credential that has expired is accepted, and takes the deadline of the old one away",
            ["AUTH-1", "LIVE-4"],
            Setup {
                clients: vec![client(0, 0, 1)],
                expiries: 1,
                rejections: 1,
                mistake: Some(Mistake { feed: renew, tamper: no_deadline }),
                ..Setup::calm("session", "a refresh is rejected")
            }
        ),
        in_world!(
            "B7",
            "back as nobody",
            "a client whose credential is no longer good is let in as another, anonymous user",
            ["AUTH-2"],
            Setup {
                clients: vec![client(1, 0, 1)],
                mistake: Some(Mistake::feeding(make_anonymous)),
                ..verified("a credential is rejected")
            }
        ),
        in_world!(
            "X20",
            "told to be who it is not",
            "the user that a connection is told to be is that of its first credential, whichever the newest one names",
            ["AUTH-2"],
            Setup {
                clients: vec![client(0, 0, 1), client(1, 0, 1)],
                eager: 1,
                strangers: true,
                rejections: 1,
                mistake: Some(Mistake::ordering(tell_the_first)),
                ..Setup::calm("isolation", "two credentials back to back")
            }
        ),
        in_world!(
            "X21",
            "a fence that falls by time",
            "revocations are forgotten when a deadline has passed, by which every verification should have been over",
            ["AUTH-1", "AUTH-3"],
            Setup { mistake: Some(Mistake::feeding(forget_in_time)), ..revoked() }
        ),
        in_world!(
            "X22",
            "answered, hence over",
            "revocations are forgotten when the verifier has answered, and what it answered has yet to take effect",
            ["AUTH-1", "AUTH-3"],
            Setup { mistake: Some(Mistake::feeding(forget_too_soon)), ..revoked() }
        ),
    ]
}

fn tell_the_first(world: &World, outputs: &mut Vec<Output>) {
    for output in outputs {
        if let Output::Send { connection, frame: Frame::Control(Control::Ready { user, .. }) } = output {
            *user = world.user_of_token(world.peers[peer(*connection)].token);
        }
    }
}

fn revoked() -> Setup {
    Setup {
        clients: vec![client(0, 0, 1)],
        revocations: 1,
        lingers: 1,
        ..Setup::calm("session", "a credential is revoked while it is verified")
    }
}

/// The session of user 0 forgets what was revoked.
fn forget(world: &World, fed: &mut Vec<Input>) {
    let slot = world.gateway.slots().get(&UserId(0));
    fed.extend(slot.map(|slot| Input::Session {
        user: UserId(0),
        generation: slot.generation,
        input: S::Verified(RevocationGeneration(u32::MAX)),
    }));
}

fn forget_in_time(world: &World, input: Input, fed: &mut Vec<Input>) {
    if matches!(input, Input::Session { input: S::Expired(..), .. }) {
        forget(world, fed);
    }
    fed.push(input);
}

fn forget_too_soon(world: &World, input: Input, fed: &mut Vec<Input>) {
    if matches!(input, Input::Connection { input: C::Verdict { .. }, .. }) {
        forget(world, fed);
    }
    fed.push(input);
}

fn verified(about: &'static str) -> Setup {
    Setup { clients: vec![client(0, 0, 1)], rejections: 1, ..Setup::calm("session", about) }
}

fn let_in(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { connection, input: C::Verdict { verdict, .. } } = &mut input
        && matches!(verdict, Verdict::Rejected | Verdict::Unavailable)
    {
        *verdict = welcome(world.user_of_token(world.peers[peer(*connection)].token));
    }
    fed.push(input);
}

/// A connection that has a good credential gets away with a bad one.
fn renew(world: &World, input: Input, fed: &mut Vec<Input>) {
    let refreshes = match &input {
        Input::Connection { connection, input: C::Verdict { .. } } => {
            world.gateway.connection(*connection).is_some_and(|connection| connection.auth().grant().is_some())
        }
        _ => false,
    };
    if refreshes {
        let_in(world, input, fed);
    } else {
        fed.push(input);
    }
}

fn reuse_the_verdict(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { input: C::Verdict { verdict, .. }, .. } = &mut input
        && let Some(first) = world.gateway.slots().keys().next()
    {
        *verdict = welcome(*first);
    }
    fed.push(input);
}

fn overlook_expiry(_: &World, input: Input, fed: &mut Vec<Input>) {
    if !matches!(input, Input::Connection { input: C::Expired(Timer::Credential), .. }) {
        fed.push(input);
    }
}

fn fall_silent(world: &World, outputs: &mut Vec<Output>) {
    outputs.retain(|output| match output {
        Output::Send { connection, frame } => {
            let valid = world.sockets.get(connection).is_some_and(|socket| socket.observed.valid.is_some());
            valid && !matches!(frame, Frame::Control(Control::AuthExpiring))
        }
        _ => true,
    });
}

fn no_deadline(world: &World, outputs: &mut Vec<Output>) {
    for output in outputs {
        if let Output::Arm(place, timer @ Timer::Credential, _) = *output
            && world.timers.contains(&(place, timer))
        {
            *output = Output::Disarm(place, timer);
        }
    }
}

fn make_anonymous(_: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Connection { input: C::Verdict { verdict: verdict @ Verdict::Rejected, .. }, .. } = &mut input {
        *verdict = welcome(UserId(0));
    }
    fed.push(input);
}
