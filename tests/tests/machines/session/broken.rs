//! States that no input reaches, and what `check` finds in them.

use lockstep_model::connection;
use lockstep_model::frame::ReadFrom;
use lockstep_model::run;
use lockstep_model::session::State;
use lockstep_model::stream::Cursor;
use lockstep_model::{CredentialId, Fence, Mode, RevocationGeneration, Scope};

use super::*;
use crate::support::{tampered, violates};

const NONE: Option<()> = None;

fn says(session: &Session<Tag>, place: &str, part: &impl serde::Serialize, property: &'static str) {
    assert_eq!(session.check(&SMALL), Ok(()));
    assert_eq!(tampered(session, place, part).check(&SMALL), violates(property), "{place} of {session:?}");
}

fn restoring() -> Session<Tag> {
    then(opened(), join(1, ReadFrom::Latest))
}

#[test]
fn what_is_kept_is_bounded() {
    let session = then(
        working(then(occupied(), join(2, ReadFrom::Latest)), 5),
        Input::Revoke(Scope::One(CredentialId(9), RevocationGeneration(1))),
    );
    assert_eq!(session.check(&Bounds { connections: 2, runs: 1, revoked: 1, ..SMALL }), Ok(()));
    for bounds in [
        Bounds { connections: 1, ..SMALL },
        Bounds { runs: 0, ..SMALL },
        Bounds { revoked: 0, ..SMALL },
        Bounds { retained: 1, ..SMALL },
    ] {
        assert_eq!(session.check(&bounds), violates("LIM-1"));
    }
    let tool = then(session, emit(5, run::Input::OpenTool(lockstep_model::ToolId(1))));
    assert_eq!(tool.check(&Bounds { tools: 0, ..SMALL }), violates("LIM-1"));
}

/// RUN-3: one event is pending, and one is reserved for the end of the run.
#[test]
fn there_is_room_for_every_end() {
    let session = then(occupied(), message(1, 5));
    assert_eq!(session.check(&Bounds { pending: 2, ..SMALL }), Ok(()));
    assert_eq!(session.check(&Bounds { pending: 1, ..SMALL }), violates("RUN-3"));
    assert_eq!(session.check(&Bounds { pending: 0, ..SMALL }), violates("LIM-1"));
}

#[test]
fn a_member_is_a_sound_connection_of_its_id_that_does_not_close() {
    let told = then(occupied(), on(1, connection::Input::Tell(Control::Pong)));
    assert_eq!(told.check(&Bounds { outbox: 0, ..SMALL }), violates("LIM-1"), "what the connection says");
    says(&occupied(), "/members/1/connection/id", &9, "CONN-1");
    let mut closing = *attaching(1, ReadFrom::Latest, None, grant(7, 1, 0));
    assert_eq!(closing.step(&SMALL, connection::Input::Close(Cause::Fault), &mut Vec::new()), Handled::Done);
    says(&occupied(), "/members/1/connection", &closing, "SES-1");
}

#[test]
fn a_member_reads_exactly_when_it_is_ready() {
    says(&occupied(), "/members/1/cursor", &NONE, "CONN-2");
    let (cursor, _): (Cursor, _) = vacant().stream().unwrap().seek(ReadFrom::Latest, Offset(0));
    says(&restoring(), "/members/1/cursor", &cursor, "CONN-2");
}

#[test]
fn a_member_is_of_this_user_and_not_revoked() {
    says(&occupied(), "/user", &8, "AUTH-2");
    let mut fence = Fence::default();
    fence.raise(&SMALL, Scope::One(CredentialId(2), RevocationGeneration(1)));
    assert_eq!(tampered(&occupied(), "/fence", &fence).check(&SMALL), Ok(()));
    fence.raise(&SMALL, Scope::One(CredentialId(1), RevocationGeneration(1)));
    says(&occupied(), "/fence", &fence, "AUTH-1");
}

/// STR-1: a parked connection has nothing to pull, neither a frame nor an entry.
#[test]
fn a_parked_writer_has_nothing_to_pull() {
    let told = then(occupied(), on(1, connection::Input::Tell(Control::Pong)));
    says(&told, "/members/1/parked", &true, "STR-1");
    let behind = settled(then(occupied(), message(1, 5)));
    assert!(!behind.members().get(&ConnectionId(1)).unwrap().connection.has_frame());
    says(&behind, "/members/1/parked", &true, "STR-1");
    assert_eq!(tampered(&occupied(), "/members/1/parked", &false).check(&SMALL), Ok(()), "who is not may have none");
}

#[test]
fn a_run_is_open_and_its_message_is_remembered() {
    let session = working(occupied(), 5);
    says(&session, "/runs/5/state", &run::State::Completed, "RUN-1");
    assert_eq!(session.known().len(), 1);
    says(&session, "/known", &serde_json::json!({}), "RUN-2");
}

#[test]
fn the_stream_is_sound() {
    says(&working(occupied(), 5), "/stream/tail", &5, "STR-1");
}

/// SES-1: the state matches the members.
#[test]
fn a_state_that_contradicts_its_members_violates_ses_1() {
    let asked = State::Restoring;
    says(&vacant(), "/state", &asked, "SES-1");
    says(&vacant(), "/state", &State::Occupied, "SES-1");
    says(&vacant(), "/stream", &NONE, "SES-1");
    says(&occupied(), "/state", &State::Vacant, "SES-1");
    says(&occupied(), "/state", &State::Retired, "SES-1");
    says(&restoring(), "/state", &State::Occupied, "SES-1");
    says(&vacant(), "/ownership", restoring().ownership(), "OWN-1");

    let alone = then(working(occupied(), 5), on(1, connection::Input::Close(Cause::Superseded)));
    says(&alone, "/state", &State::Vacant, "SES-1");
    says(&alone, "/state", &State::Retired, "SES-1");
    says(&tampered(&alone, "/mode", &Mode::Degraded), "/stream", &NONE, "SES-1");
    let lost: Session<Tag> = tampered(&alone, "/stream", &NONE);
    assert_eq!(tampered(&lost, "/state", &asked).check(&SMALL), violates("SES-1"), "runs without a stream");

    let writing = then(alone, emit(5, run::Input::Complete));
    assert_eq!(writing.stream().map(|stream| stream.pending().len()), Some(1));
    says(&writing, "/state", &State::Retired, "SES-1");
    assert_eq!(tampered(&settled(writing), "/state", &State::Retired).check(&SMALL), Ok(()));
}
