//! The stored form of the part of a run that was copied at a time: its entries, compressed together, and the piece
//! boundaries.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use lockstep_model::Offset;
use lockstep_model::run::Kind;

use super::super::Written;
use super::super::conversations::Joined;
use super::super::disk::entries::{iter, put_rest};
use super::super::disk::format::{self, put, take};
use super::super::pages::{Joints, Stored};

/// Compresses entries of one run together, because an answer is both in its pieces and in its end.
pub(super) fn packed(entries: &[Joined]) -> Option<Vec<u8>> {
    let content = |Joined { offset, entry, .. }: &Joined| Some((*offset, format::content(entry).ok()?));
    let contents: Vec<(Offset, Vec<u8>)> = entries.iter().map(content).collect::<Option<_>>()?;
    let mut bytes = Vec::new();
    put_rest(&mut bytes, Offset(0), contents.iter().map(|(offset, content)| (*offset, &**content)));
    deflated(&bytes)
}

/// Encodes the piece boundaries by columns: the number in each entry, each one's distance from the one before, and each
/// one's bytes. Empty if there are none. Compressed separately from the text, with which it has little in common.
pub(super) fn packed_joints(entries: &[Joined]) -> Option<Vec<u8>> {
    if entries.iter().all(|entry| entry.joints.is_empty()) {
        return Some(Vec::new());
    }
    let (mut bytes, mut last) = (Vec::new(), Offset(0));
    for entry in entries {
        put(&mut bytes, entry.joints.len() as u64);
    }
    for entry in entries {
        for (offset, _) in &entry.joints {
            put(&mut bytes, offset.0 - last.0);
            last = *offset;
        }
        last = entry.offset;
    }
    for (_, size) in entries.iter().flat_map(|entry| &entry.joints) {
        put(&mut bytes, *size as u64);
    }
    deflated(&bytes)
}

/// Decodes the entries; `None` if they are damaged.
pub(super) fn unpacked(content: &[u8]) -> Option<Vec<(Offset, Written)>> {
    let bytes = inflated(content)?;
    iter(Offset(0), &bytes).map(|(offset, content)| Some((offset, format::written(content)?))).collect()
}

/// Decodes the entries, of which the first begins at `first`, with the piece boundaries if they are stored.
pub(super) fn unpacked_with(first: Offset, content: &[u8], joints: Option<&[u8]>) -> Option<Vec<Stored>> {
    let entries = unpacked(content)?;
    let Some(joints) = joints else {
        let mut last = Offset(first.0.saturating_sub(1));
        let stored = entries.into_iter().map(|(offset, entry)| {
            let before = core::mem::replace(&mut last, offset);
            let is_piece = matches!(entry.kind, Kind::Delta(_));
            let joints = if is_piece { Joints::Behind(before) } else { Joints::Known(Vec::new()) };
            Stored { offset, entry, joints }
        });
        return Some(stored.collect());
    };
    if joints.is_empty() {
        return Some(entries.into_iter().map(|(offset, entry)| Stored::whole(offset, entry)).collect());
    }
    let bytes = inflated(joints)?;
    let mut rest = &*bytes;
    let counts: Vec<u64> = entries.iter().map(|_| take(&mut rest)).collect::<Option<_>>()?;
    let (mut joints, mut last) = (Vec::with_capacity(entries.len()), Offset(0));
    for ((offset, _), count) in entries.iter().zip(counts) {
        let mut joint = || {
            last = Offset(last.0.checked_add(take(&mut rest)?)?);
            Some((last, 0))
        };
        joints.push((0..count).map(|_| joint()).collect::<Option<Vec<(Offset, usize)>>>()?);
        last = *offset;
    }
    for (_, size) in joints.iter_mut().flatten() {
        *size = usize::try_from(take(&mut rest)?).ok()?;
    }
    let entries = entries.into_iter().zip(joints);
    entries.map(|((offset, entry), joints)| Stored::joined(offset, entry, joints)).collect()
}

fn deflated(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

fn inflated(packed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    DeflateDecoder::new(packed).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
