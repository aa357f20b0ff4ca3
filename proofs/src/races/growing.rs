//! Answers that grow: pieces that are doubled, lost or mislabelled where frames are cut and joined.

#![expect(clippy::ptr_arg, reason = "a mistake may also drop outputs")]

use core::ops::Range;

use lockstep_model::piece;
use lockstep_model::stream::Entry;

use super::hooks::*;

pub(super) fn rows() -> Vec<Row> {
    vec![
        in_world!(
            "X70",
            "repeated at the joint",
            "a client that resumes inside a part gets the piece before its position again, as frames begin at pieces",
            ["STR-3"],
            Setup { mistake: Some(Mistake::tampering(twice)), ..inside() }
        ),
        in_world!(
            "X71",
            "lost at the joint",
            "the last of several joined pieces is left out, but the frame has its offset",
            ["STR-3"],
            Setup { mistake: Some(Mistake::tampering(drop_last_piece)), ..inside() }
        ),
        in_world!(
            "X72",
            "offset of the first piece",
            "a frame of several pieces has the offset of the first, so a client that comes back gets the others again",
            ["STR-3"],
            Setup { mistake: Some(Mistake::tampering(use_first_offset)), ..inside() }
        ),
    ]
}

fn inside() -> Setup {
    Setup {
        clients: vec![client(0, 1, 2)],
        pieces: 3,
        cuts: 1,
        ..Setup::calm("parts", "a client comes back inside an answer")
    }
}

/// Returns each outgoing frame of a part, with the pieces that it contains.
fn parts(outputs: &mut [Output]) -> impl Iterator<Item = (ConnectionId, &mut Entry<Payload>, Range<u8>)> {
    outputs.iter_mut().filter_map(|output| {
        let Output::Send { connection, frame: Frame::Event(entry) } = output else { return None };
        let range = piece::range(entry.event.payload?).filter(|_| matches!(entry.event.kind, Kind::Delta(_)))?;
        Some((*connection, entry, range))
    })
}

/// Marks a payload as the log does.
const fn kept(from: u8, to: u8) -> Option<Payload> {
    Some(piece::pieces(from, to) | 0x80)
}

fn twice(world: &World, outputs: &mut Vec<Output>) {
    for (id, entry, range) in parts(outputs) {
        let began = world.sockets.get(&id).and_then(|socket| socket.observed.began);
        if range.start > 0 && began == Some(entry.previous) {
            entry.event.payload = kept(range.start - 1, range.end);
        }
    }
}

fn drop_last_piece(_: &World, outputs: &mut Vec<Output>) {
    for (_, entry, range) in parts(outputs).filter(|(_, _, range)| range.len() > 1) {
        entry.event.payload = kept(range.start, range.end - 1);
    }
}

fn use_first_offset(_: &World, outputs: &mut Vec<Output>) {
    for (_, entry, _) in parts(outputs).filter(|(_, _, range)| range.len() > 1) {
        entry.offset = Offset(entry.previous.0 + 1);
    }
}
