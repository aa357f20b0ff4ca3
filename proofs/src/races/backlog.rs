//! Readers that have fallen out of the window: what is lost, doubled or read too late where the log and the window meet.

use lockstep_model::session::Found;
use lockstep_model::stream::{Entry, Page};

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "X93",
            "lost at the window's edge",
            "a page ends before the entry at which the window begins, and says that it went up to there",
            ["STR-1", "STR-3"],
            Setup { mistake: Some(Mistake::feeding(lose_the_last)), ..behind() }
        ),
        in_world!(
            "X94",
            "once more from the page",
            "a page begins at the reader's place and not behind it",
            ["STR-1", "STR-3"],
            Setup { mistake: Some(Mistake::feeding(from_the_place)), ..behind() }
        ),
        in_world!(
            "X95",
            "the whole part again",
            "the log has joined the pieces of a part, and gives a reader who has read some of them the whole",
            ["STR-3"],
            Setup { pieces: 3, mistake: Some(Mistake::feeding(whole_parts)), ..behind() }
        ),
        in_world!(
            "X96",
            "the rest is nothing",
            "a page with less than there is says that it is all",
            ["STR-1", "STR-3"],
            Setup { mistake: Some(Mistake::feeding(half_is_all)), ..behind() }
        ),
        in_world!(
            "X97",
            "evicted, not kept",
            "a window that may trim what a reader has not read tells that reader a gap, although the log has it",
            ["STR-3"],
            Setup { mistake: Some(Mistake::feeding(keep_nothing)), ..behind() }
        ),
        in_world!(
            "X98",
            "looked up before it was deleted",
            "a page that was looked up before a deletion is taken for what is asked for after it",
            ["RET-1"],
            Setup { deletions: 1, mistake: Some(Mistake::feeding(renumber)), ..behind() }
        ),
        in_world!(
            "X99",
            "never looked up",
            "what a reader has missed is asked for once, and lost with the first error",
            ["STR-3", "LIVE-3"],
            Setup { lookup_failures: 1, mistake: Some(Mistake::feeding(swallow)), ..behind() }
        ),
        in_world!(
            "X100",
            "answered twice",
            "a query that is sent again to the log has two answers",
            ["CONN-2"],
            Setup {
                queries: 1,
                keeps: true,
                mistake: Some(Mistake::ordering(answer_twice)),
                ..Setup::calm("backlog", "a query")
            }
        ),
        in_world!(
            "X101",
            "a deadline for another",
            "the deadline of a lookup is told to the connection, which does not know what it is for, and its reader waits for ever",
            ["LIVE-4"],
            Setup { unanswered: 1, mistake: Some(Mistake::feeding(unheard)), ..behind() }
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
        ..Setup::calm("backlog", "a reader that has fallen out of the window")
    }
}

/// Changes each page that the log gives.
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

fn whole_parts(world: &World, input: Input, fed: &mut Vec<Input>) {
    pages(world, input, fed, |_, _, page| {
        if let Some(first) = page.entries.front_mut()
            && let Some(range) = first.event.payload.and_then(lockstep_model::piece::range)
            && matches!(first.event.kind, Kind::Delta(_))
        {
            first.event.payload = Some(lockstep_model::piece::pieces(0, range.end) | 0x80);
        }
    });
}

fn half_is_all(world: &World, input: Input, fed: &mut Vec<Input>) {
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

/// The answer to an earlier lookup counts for the one that took its place.
fn renumber(world: &World, mut input: Input, fed: &mut Vec<Input>) {
    if let Input::Session { user, input: S::Found { connection, attempt, .. }, .. } = &mut input {
        let slot = world.gateway.slots().get(user);
        let open = slot.and_then(|slot| slot.session.members().get(connection)).and_then(|m| m.lookups.open().front());
        *attempt = open.map_or(*attempt, |(newest, _)| *newest);
    }
    fed.push(input);
}

fn swallow(_: &World, input: Input, fed: &mut Vec<Input>) {
    if !matches!(input, Input::Session { input: S::NotFound { .. }, .. }) {
        fed.push(input);
    }
}

fn unheard(_: &World, input: Input, fed: &mut Vec<Input>) {
    if !matches!(input, Input::Connection { input: C::Expired(Timer::Lookup), .. }) {
        fed.push(input);
    }
}

fn answer_twice(_: &World, outputs: &mut Vec<Output>) {
    let answer = |output: &&Output| matches!(output, Output::Send { frame: Frame::Control(Control::Answer(_)), .. });
    let again = outputs.iter().find(answer).cloned();
    outputs.extend(again);
}
