//! Verdicts, expiry, revocation, refresh.

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "A16",
            "unavailable verifier admits",
            "credentials that are rejected or cannot be verified are accepted while the verifier is in trouble",
            ["AUTH-1", "AUTH-3"],
            Setup { mistake: Some(Mistake::feeding(let_in)), ..verified("a verifier in trouble") }
        ),
        in_world!(
            "A17",
            "verdict for another token",
            "verdicts are cached per host and not per token, so the second socket gets the first one's user",
            ["AUTH-2", "AUTH-3"],
            Setup {
                clients: vec![client(0, 0, 1), client(1, 0, 1)],
                mistake: Some(Mistake::feeding(reuse_the_verdict)),
                ..Setup::calm("isolation", "two users connect")
            }
        ),
        in_world!(
            "A18",
            "ended but not closed",
            "an expired credential is removed from a list, and its socket stays open",
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
            "socket outlives its token",
            "a credential cannot be renewed in band, and when it expires nothing is sent and nothing is closed",
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
            "no deadline after a late refresh",
            "a refresh with an expired credential is accepted, and removes the old credential's deadline",
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
            "rejected user becomes anonymous",
            "a client whose credential is no longer valid is admitted as an anonymous user",
            ["AUTH-2"],
            Setup {
                clients: vec![client(1, 0, 1)],
                mistake: Some(Mistake::feeding(make_anonymous)),
                ..verified("a credential is rejected")
            }
        ),
        in_world!(
            "X20",
            "told the wrong user",
            "a connection is told the user of its first credential, whatever the newest one says",
            ["AUTH-2"],
            Setup {
                clients: vec![client(0, 0, 1), client(1, 0, 1)],
                eager: 1,
                strangers: true,
                rejections: 1,
                mistake: Some(Mistake::tampering(tell_the_first)),
                ..Setup::calm("isolation", "two credentials back to back")
            }
        ),
        in_world!(
            "X21",
            "fence lowered by time",
            "revocations are forgotten after a deadline by which every verification should have ended",
            ["AUTH-1", "AUTH-3"],
            Setup { mistake: Some(Mistake::feeding(forget_in_time)), ..revoked() }
        ),
        in_world!(
            "X22",
            "fence lowered too early",
            "revocations are forgotten when the verifier has answered, before its verdict has taken effect",
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

/// The session of user 0 forgets its revocations.
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

/// A connection with a valid credential gets away with an invalid one.
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
