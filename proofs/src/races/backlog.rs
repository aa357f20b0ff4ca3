//! Readers that have fallen out of the window: entries are lost, doubled or read too late at the border between log and
//! window.

use lockstep_model::session::Found;
use lockstep_model::stream::{Entry, Page};

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "X93",
            "gap at the window's start",
            "a page ends before the first entry of the window, but claims to reach up to it",
            ["STR-1", "STR-3"],
            Setup { mistake: Some(Mistake::feeding(lose_the_last)), ..behind() }
        ),
        in_world!(
            "X94",
            "page overlaps the cursor",
            "a page begins at the reader's position and not after it",
            ["STR-1", "STR-3"],
            Setup { mistake: Some(Mistake::feeding(from_the_place)), ..behind() }
        ),
        in_world!(
            "X95",
            "part repeated from its start",
            "the log has joined a part's pieces, and returns the whole part to a reader that has read some of them",
            ["STR-3"],
            Setup { pieces: 3, mistake: Some(Mistake::feeding(return_whole_parts)), ..behind() }
        ),
        in_world!(
            "X96",
            "an incomplete page claims to be complete",
            "a page with fewer entries than there are claims to be complete",
            ["STR-1", "STR-3"],
            Setup { mistake: Some(Mistake::feeding(claim_complete)), ..behind() }
        ),
        in_world!(
            "X97",
            "trimmed entries are not looked up",
            "a reader is told of a gap when entries leave the window, although the log still has them",
            ["STR-3"],
            Setup { mistake: Some(Mistake::feeding(keep_nothing)), ..behind() }
        ),
        in_world!(
            "X98",
            "page read before the deletion",
            "a page that was read before a deletion is used as the answer to a lookup made after it",
            ["RET-1"],
            Setup { deletions: 1, mistake: Some(Mistake::feeding(renumber)), ..behind() }
        ),
        in_world!(
            "X99",
            "lookup not retried",
            "entries that a reader has missed are looked up once, and lost with the first error",
            ["STR-3", "LIVE-3"],
            Setup { lookup_failures: 1, mistake: Some(Mistake::feeding(drop_not_found)), ..behind() }
        ),
        in_world!(
            "X100",
            "answered twice",
            "a query that is resent to the log is answered twice",
            ["CONN-2"],
            Setup {
                queries: 1,
                keeps: true,
                mistake: Some(Mistake::tampering(answer_twice)),
                ..Setup::calm("backlog", "a query")
            }
        ),
        in_world!(
            "X101",
            "expiry sent to the wrong machine",
            "a lookup's deadline is passed to the connection, which does not know it, and its reader waits forever",
            ["LIVE-4"],
            Setup { unanswered: 1, mistake: Some(Mistake::feeding(drop_lookup_expiry)), ..behind() }
        ),
    ]
}

/// One user whose window has one entry.
fn behind() -> Setup {
    Setup {
        clients: vec![ClientSetup { earliest: true, ..client(0, 1, 2) }],
        keeps: true,
        pieces: 1,
        cuts: 1,
        pull: 1,
        bounds: Bounds { retained: 1, runs: 1, pending: 4, ..setup::small() },
        ..Setup::calm("backlog", "a reader that falls out of the window")
    }
}

/// Changes each page that the log returns.
fn pages(
    world: &World,
    mut input: Input,
    fed: &mut Vec<Input>,
    change: impl FnOnce(&World, UserId, &mut Page<Payload>),
) {
    if let Input::Session { user, input: S::Found { found: Found::Page(page), .. }, .. } = &mut input {
        change(world, *user, page);
    }
    fed.push(input);
}

fn lose_the_last(world: &World, input: Input, fed: &mut Vec<Input>) {
    pages(world, input, fed, |_, _, page| page.entries.truncate(page.entries.len().saturating_sub(1)));
}

fn from_the_place(world: &World, input: Input, fed: &mut Vec<Input>) {
    pages(world, input, fed, |world, user, page| {
        let at = page.trimmed;
        let event = log_of(world, user).and_then(|log| log.at(at.0)).cloned();
        page.entries.extend(event.map(|event| Entry { offset: at, previous: Offset(0), event }));
        page.entries.rotate_right(1);
    });
}

fn return_whole_parts(world: &World, input: Input, fed: &mut Vec<Input>) {
    pages(world, input, fed, |_, _, page| {
        if let Some(first) = page.entries.front_mut()
            && let Some(range) = first.event.payload.and_then(lockstep_model::piece::range)
            && matches!(first.event.kind, Kind::Delta(_))
        {
            first.event.payload = Some(lockstep_model::piece::pieces(0, range.end) | 0x80);
        }
    });
}

fn claim_complete(world: &World, input: Input, fed: &mut Vec<Input>) {
    let tail = |user: UserId| {
        let session = &world.gateway.slots().get(&user)?.session;
        Some(session.stream()?.tail())
    };
    pages(world, input, fed, |_, user, page| page.through = tail(user).unwrap_or(page.through));
}

fn keep_nothing(_: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Session { input: S::Restored { snapshot, .. }, .. } = &mut input {
        snapshot.keeps = false;
    }
    fed.push(input);
}

/// Treats the answer to an earlier lookup as the answer to the lookup that replaced it.
fn renumber(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Session { user, input: S::Found { connection, attempt, .. }, .. } = &mut input {
        let slot = world.gateway.slots().get(user);
        let open = slot.and_then(|slot| slot.session.members().get(connection)).and_then(|m| m.lookups.open().front());
        *attempt = open.map_or(*attempt, |(newest, _)| *newest);
    }
    fed.push(input);
}

fn drop_not_found(_: &World, input: Input, fed: &mut Vec<Input>) {
    if !matches!(input, Input::Session { input: S::NotFound { .. }, .. }) {
        fed.push(input);
    }
}

fn drop_lookup_expiry(_: &World, input: Input, fed: &mut Vec<Input>) {
    if !matches!(input, Input::Connection { input: C::Expired(Timer::Lookup), .. }) {
        fed.push(input);
    }
}

fn answer_twice(_: &World, outputs: &mut Vec<Output>) {
    let answer = |output: &&Output| matches!(output, Output::Send { frame: Frame::Control(Control::Answer(_)), .. });
    let again = outputs.iter().find(answer).cloned();
    outputs.extend(again);
}
