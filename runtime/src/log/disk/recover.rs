//! Opens a log: decides which of the files' content was acknowledged, and whether any of it is gone.
//!
//! Segments before the last were synced when they were left, so they are either whole or damaged. The last one may end
//! with a write that a crash cut off. [`decide`] decides by the known facts about its end; see the header of [`super`].

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use lockstep_model::UserId;

use super::Damage;
use super::format::{self, HEAD, HEADER, Listed, Manifest, Mark, VERSION};
use super::index::{Index, Segment, Tombstone, UNTOLD};
use super::read::Places;
use super::storage::{Block, Storage, read_all};
use crate::payload::now_ms;

/// The advice for a damaged log.
const ADVICE: &str =
    "Restore it from a backup, or start once with `log.repair = true`, which keeps what can be read in a new epoch";

pub(super) const MANIFEST: &str = "manifest";
pub(super) const MARK: &str = "mark";

/// The name of a segment's file.
pub(super) fn name(number: u32) -> String {
    format!("{number:08}.log")
}

fn number(name: &str) -> Option<u32> {
    name.strip_suffix(".log")?.parse().ok()
}

/// The result of reading a log.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) index: Index,
    /// The manifest to write with the next segment.
    pub(super) manifest: Manifest,
    /// The segment that was written last, and how much of it was certainly synced.
    pub(super) last: Option<(u32, u64)>,
    /// Segments whose live records move to the next one, and which are then dropped.
    pub(super) damaged: Vec<u32>,
}

/// The known facts about the end of the last segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// The segment's length when the log was closed, if it was.
    pub(super) closed: Option<u64>,
    /// The machine was not restarted since: the operating system kept everything written.
    pub(super) same_boot: bool,
    /// Each answer was given after a sync.
    pub(super) synced: bool,
    pub(super) mark: Option<Mark>,
    /// The length up to which all groups are good, and the total length, in bytes.
    pub(super) valid: u64,
    pub(super) length: u64,
    /// Another group follows the first bad byte.
    pub(super) more: bool,
}

/// What happens to a log whose last segment ends like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// Everything that was acknowledged is there.
    Keep,
    /// Acknowledged content is gone, or may be: a new epoch begins.
    NewEpoch(&'static str),
    /// Damage is followed by content that was acknowledged later.
    Refuse,
}

pub(super) fn decide(end: &End) -> Recovery {
    let End { closed, same_boot, synced, mark, valid, length, more } = *end;
    let kept = closed.is_some() || same_boot || synced;
    if more && kept {
        return Recovery::Refuse;
    }
    let answered = match (closed, mark) {
        (Some(closed), _) => closed,
        (None, Some(mark)) if same_boot => mark.answered,
        (None, Some(mark)) => mark.synced,
        (None, None) => 0,
    };
    if valid < answered {
        return Recovery::NewEpoch("its end is missing, although it was confirmed");
    }
    match (closed, same_boot, synced) {
        (Some(_), _, _) => Recovery::Keep,
        (None, true, _) if mark.is_some() => Recovery::Keep,
        (None, true, _) => {
            Recovery::NewEpoch("it is unknown how much was confirmed: the file `mark` is missing or damaged")
        }
        (None, false, true) if valid == length => Recovery::Keep,
        (None, false, true) => Recovery::NewEpoch("its last group is incomplete after a restart of the machine"),
        (None, false, false) => Recovery::NewEpoch("the machine was restarted, and not everything was synced"),
    }
}

/// Reads the whole log.
pub(super) fn recover(storage: &dyn Storage, damage: Damage) -> Result<Found, String> {
    let names = storage.list().map_err(|error| error.to_string())?;
    let manifest = match storage.open(MANIFEST) {
        Ok(file) => read_all(&*file).map_err(|error| error.to_string()).and_then(|bytes| Manifest::decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !names.iter().any(|name| number(name).is_some()) {
                return Ok(fresh());
            }
            Err("the file `manifest` is missing".to_owned())
        }
        Err(error) => Err(error.to_string()),
    };
    let (manifest, rebuilt) = match manifest {
        Ok(Ok(manifest)) => (manifest, false),
        Ok(Err(later)) => return Err(later),
        Err(error) if damage == Damage::Repair => (rebuild(storage, &names).ok_or(error)?, true),
        Err(error) => return Err(format!("{error}. {ADVICE}")),
    };
    // Leftovers of a crash: segments that were not used yet, or are no longer used.
    for name in &names {
        if number(name).is_some_and(|number| manifest.segments.iter().all(|listed| listed.number != number)) {
            let _ = storage.remove(name);
        }
    }
    Replay { storage, damage, rebuilt, index: Index::default(), damaged: Vec::new(), new_epoch: rebuilt }.run(manifest)
}

fn fresh() -> Found {
    let epoch = now_ms();
    let mut id = [0; 8];
    // The id only distinguishes this log's bytes from those of another.
    let id = getrandom::fill(&mut id).map_or(epoch, |()| u64::from_le_bytes(id));
    let manifest = Manifest {
        version: VERSION,
        id,
        epoch,
        users: 0,
        boot: None,
        synced: true,
        closed: true,
        segments: Vec::new(),
    };
    Found { index: Index::default(), manifest, last: None, damaged: Vec::new() }
}

/// Builds a manifest from the existing segments.
fn rebuild(storage: &dyn Storage, names: &[String]) -> Option<Manifest> {
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    let segments = numbers.iter().map(|number| Listed { number: *number, length: 0, first: 0 }).collect();
    let id = numbers.iter().find_map(|number| {
        let head = read_all(&*storage.open(&name(*number)).ok()?).ok()?;
        let id = u64::from_le_bytes(head.get(16..24)?.try_into().ok()?);
        format::is_header(&head, id, *number).then_some(id)
    })?;
    let epoch = now_ms();
    Some(Manifest { version: VERSION, id, epoch, users: 0, boot: None, synced: true, closed: false, segments })
}

struct Replay<'a> {
    storage: &'a dyn Storage,
    damage: Damage,
    /// The manifest was rebuilt from the segments: it has no lengths.
    rebuilt: bool,
    index: Index,
    damaged: Vec<u32>,
    new_epoch: bool,
}

impl Replay<'_> {
    fn run(mut self, mut manifest: Manifest) -> Result<Found, String> {
        let mark = self.storage.open(MARK).and_then(|file| read_all(&*file)).ok();
        let mark = mark.and_then(|bytes| Mark::newest(&bytes, manifest.id));
        let mut last = None;
        for (place, listed) in manifest.segments.iter().enumerate() {
            let file = match self.storage.open(&name(listed.number)) {
                Ok(file) => file,
                Err(error) => {
                    self.damage(&format!("the file {} cannot be opened: {error}", name(listed.number)))?;
                    // The next manifest must not name it, or the next opening would miss it again.
                    self.damaged.push(listed.number);
                    continue;
                }
            };
            let bytes = read_all(&*file).map_err(|error| format!("{}: {error}", name(listed.number)))?;
            if self.rebuilt {
                self.enter(listed, file, bytes.len() as u64);
                self.salvage(manifest.id, listed, &bytes);
                continue;
            }
            let is_last = place + 1 == manifest.segments.len();
            if is_last {
                last = Some(self.last(&manifest, listed, file, &bytes, mark)?);
            } else {
                self.sealed(&manifest, listed, file, &bytes)?;
            }
        }
        self.index.numbers = self.index.numbers.max(manifest.users);
        self.settle()?;
        if self.new_epoch {
            manifest.epoch = now_ms().max(manifest.epoch + 1);
        }
        let Self { index, damaged, .. } = self;
        Ok(Found { index, manifest, last: last.filter(|(number, _)| !damaged.contains(number)), damaged })
    }

    /// Reports damage: an error, unless the log is being repaired.
    fn damage(&mut self, what: &str) -> Result<(), String> {
        if self.damage == Damage::Refuse {
            return Err(format!("{what}. {ADVICE}"));
        }
        tracing::error!("repairing the log: {what}");
        self.new_epoch = true;
        Ok(())
    }

    fn enter(&mut self, listed: &Listed, file: Arc<dyn Block>, length: u64) {
        let segment = Segment { file, length, live: 0, loose: 0, left: HashSet::new(), scrub: false, damaged: false };
        self.index.segments.insert(listed.number, segment);
    }

    /// Applies the groups from `at` on, and returns where they end.
    fn groups(&mut self, id: u64, listed: &Listed, bytes: &[u8], (mut at, mut next): (usize, u64)) -> usize {
        while let Some(group) = bytes.get(at..).and_then(|rest| format::group(rest, id, listed.number)) {
            let Some(records) = group.records.filter(|_| group.sequence == next) else { break };
            if self.index.take(listed.number, at + HEAD, records).is_err() {
                break;
            }
            (at, next) = (at + HEAD + records.len(), next + 1);
        }
        at
    }

    /// Applies every group that can be read, whatever is between them.
    fn salvage(&mut self, id: u64, listed: &Listed, bytes: &[u8]) {
        self.damaged.push(listed.number);
        let mut at = 0;
        while at < bytes.len() {
            match format::group(&bytes[at..], id, listed.number) {
                Some(format::Group { records: Some(records), .. }) => {
                    let _ = self.index.take(listed.number, at + HEAD, records);
                    at += HEAD + records.len();
                }
                Some(_) | None => at += 1,
            }
        }
    }

    fn sealed(
        &mut self,
        manifest: &Manifest,
        listed: &Listed,
        file: Arc<dyn Block>,
        bytes: &[u8],
    ) -> Result<(), String> {
        self.enter(listed, file, listed.length);
        let length = usize::try_from(listed.length).unwrap_or(usize::MAX);
        let whole = bytes.get(..length).unwrap_or(bytes);
        let good = if format::is_header(whole, manifest.id, listed.number) && listed.length > 0 {
            self.groups(manifest.id, listed, whole, (HEADER, listed.first))
        } else {
            0
        };
        if good as u64 != listed.length || good == 0 {
            self.damage(&damaged_at(listed.number, good, listed.length))?;
            self.salvage(manifest.id, listed, bytes);
        }
        Ok(())
    }

    /// Reads the segment that was written last. Returns its number, and how much of it is certainly on disk.
    fn last(
        &mut self,
        manifest: &Manifest,
        listed: &Listed,
        file: Arc<dyn Block>,
        bytes: &[u8],
        mark: Option<Mark>,
    ) -> Result<(u32, u64), String> {
        self.enter(listed, file, 0);
        // A mark is written before an answer, so a mark of an earlier segment means that nothing of this one was
        // acknowledged.
        let mark = mark.filter(|mark| mark.segment <= listed.number).map(|mark| {
            let nothing = Mark { segment: listed.number, answered: HEADER as u64, synced: HEADER as u64 };
            if mark.segment == listed.number { mark } else { nothing }
        });
        // The header was synced before the manifest named the segment.
        let good = if format::is_header(bytes, manifest.id, listed.number) {
            self.groups(manifest.id, listed, bytes, (HEADER, listed.first))
        } else {
            0
        };
        let boot = self.storage.boot();
        let end = End {
            closed: manifest.closed.then_some(listed.length),
            same_boot: boot.is_some() && boot == manifest.boot,
            synced: manifest.synced,
            mark,
            valid: good as u64,
            length: bytes.len() as u64,
            more: bytes.get(good + 1..).is_some_and(|rest| format::any_group(rest, manifest.id, listed.number)),
        };
        let verdict = if good == 0 { Recovery::Refuse } else { decide(&end) };
        match verdict {
            Recovery::Keep => {}
            Recovery::NewEpoch(why) => {
                let (file, after) = (name(listed.number), manifest.epoch);
                tracing::error!(
                    "the log begins a new epoch after {after}: {file}: {why}; clients restart their streams"
                );
                self.new_epoch = true;
            }
            Recovery::Refuse => {
                self.damage(&damaged_at(listed.number, good, end.length))?;
                self.salvage(manifest.id, listed, bytes);
            }
        }
        if let Some(segment) = self.index.segments.get_mut(&listed.number) {
            segment.length = end.valid;
        }
        let synced = match (end.closed, mark) {
            (Some(_), _) => end.valid,
            (None, Some(mark)) => mark.synced.clamp(HEADER as u64, end.valid.max(HEADER as u64)),
            (None, None) => HEADER as u64,
        };
        Ok((listed.number, synced))
    }

    /// Ensures that each user has a subject. In a repair, keeps only the entries after the last gap.
    fn settle(&mut self) -> Result<(), String> {
        let nameless = self.index.users.iter().filter(|(_, user)| user.is_nameless());
        let nameless: Vec<UserId> = nameless.map(|(id, _)| *id).collect();
        for id in nameless {
            self.damage(&format!("the name of user {} is missing", id.0))?;
            // No request can name this user. Its remaining data is erased, and the next segment records that.
            let at = self.index.segments.keys().next_back().copied().unwrap_or_default();
            self.index.erase(id, Tombstone { at, segment: UNTOLD });
        }
        self.index.settle_deletions();
        if self.new_epoch && self.damage == Damage::Repair {
            let users: Vec<UserId> = self.index.users.keys().copied().collect();
            for id in users {
                let behind = Places::of(&self.index, &self.index.users[&id]).whole_behind();
                self.index.trim(id, behind);
            }
        }
        Ok(())
    }
}

fn damaged_at(number: u32, good: usize, length: u64) -> String {
    format!("the file {} is damaged at byte {good} of {length}", name(number))
}
