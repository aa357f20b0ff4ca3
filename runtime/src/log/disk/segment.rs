//! Writing segments: groups, the manifest, the mark, and the next segment when one is full or cannot be trusted.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use lockstep_model::{Offset, UserId};

use super::Shared;
use super::entries::{Entries, PACKED_BYTES, Span};
use super::format::{self, HEAD, HEADER, Listed, MARK_BYTES, Manifest, Mark};
use super::index::{Extent, Index, Segment, Tombstone, UNTOLD};
use super::read::{Found, extent_entries};
use super::recover::{MANIFEST, MARK, name};
use super::scrub::{scrub, settle};
use super::storage::{Block, Storage, write_all};
use crate::sync::lock;

/// The size in bytes after which nothing more is added to a group.
pub(super) const GROUP_BYTES: usize = 4 << 20;

/// A manifest that is not in force yet.
const DRAFT: &str = "manifest.new";

/// The most moved entries in one record, and in one extent.
const MOVED: usize = 2_048;
const MOVED_EXTENT: usize = 4_096;

/// The most bytes that are rewritten into one segment, where positions are 32-bit numbers.
const MOST_RESCUED: u64 = 1 << 30;

/// A group under construction.
pub(super) struct Draft {
    /// Space for the head, then the records.
    pub(super) bytes: Vec<u8>,
    /// The position in the segment where it will begin.
    start: u64,
    /// Extents whose entries it repeats.
    pub(super) moved: Vec<(UserId, Vec<Extent>)>,
}

impl Draft {
    fn new(start: u64, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(HEAD, 0);
        Self { bytes, start, moved: Vec::new() }
    }

    /// The position of the next record.
    pub(super) fn place(&self) -> u32 {
        u32::try_from(self.start + self.bytes.len() as u64).expect("a segment is bounded")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == HEAD
    }

    /// Appends these entries, which are in order, as new extents.
    pub(super) fn relocate(&mut self, user: UserId, trimmed: Offset, read: Offset, found: &[Found]) {
        let (mut before, mut filled) = (0, 0);
        let mut rest = found;
        while let Some(first) = rest.first() {
            let follows =
                |pair: &[Found]| pair[0].generation == pair[1].generation && pair[1].previous == pair[0].offset;
            let mut room = PACKED_BYTES.saturating_sub(first.content.len());
            let mut fits = |next: &Found| {
                let fits = room >= next.content.len();
                room = room.saturating_sub(next.content.len());
                fits
            };
            let run = rest.windows(2).take(MOVED - 1).take_while(|pair| follows(pair) && fits(&pair[1])).count() + 1;
            let (taken, behind) = rest.split_at(run);
            let entries = u32::try_from(run).expect("a record is bounded");
            let high = taken.last().map_or(first.offset, |last| last.offset);
            if filled + run > MOVED_EXTENT {
                (before, filled) = (0, 0);
            }
            let place = self.place();
            let like =
                Entries { previous: first.previous, before, ..Entries::of(user, first.generation, trimmed, read) };
            let span = Span { entries, low: first.offset, high };
            like.pack(&mut self.bytes, span, taken.iter().map(|entry| (entry.offset, &*entry.content)));
            (before, filled, rest) = (place, filled + run, behind);
        }
    }
}

/// A segment that no manifest in force names yet.
struct Next {
    number: u32,
    file: Arc<dyn Block>,
    /// The groups that were rewritten into it.
    written: Vec<Draft>,
    manifest: Manifest,
}

/// The files of the log, one of which is active.
pub(super) struct Segments {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) shared: Arc<Shared>,
    /// The manifest as it was last written.
    manifest: Manifest,
    /// The highest segment number that a manifest may name.
    highest: u32,
    mark: Option<Arc<dyn Block>>,
    /// Whether the second copy of the mark is written next.
    second: bool,
    pub(super) active: Active,
    spare: Vec<u8>,
}

/// The active segment, which is written.
pub(super) struct Active {
    pub(super) number: u32,
    file: Option<Arc<dyn Block>>,
    /// Everything acknowledged is before `length`, and everything synced is before `synced`.
    pub(super) length: u64,
    pub(super) synced: u64,
    /// The sequence number of the next group.
    sequence: u64,
    pub(super) begun: Instant,
}

impl Segments {
    /// Begins a segment, and rewrites the untrusted content into it.
    pub(super) fn open(
        storage: Arc<dyn Storage>,
        shared: Arc<Shared>,
        mut manifest: Manifest,
        last: Option<(u32, u64)>,
        damaged: &[u32],
        synced: bool,
    ) -> io::Result<Self> {
        let (number, known) = last.unwrap_or((0, 0));
        let length = lock(&shared.index).segments.get(&number).map_or(0, |segment| segment.length);
        let highest = manifest.segments.last().map_or(0, |listed| listed.number);
        manifest.boot = storage.boot();
        manifest.synced = synced;
        // Group numbers are never reused: this skips as many as fit into a segment.
        let sequence = manifest.segments.last().map_or(1, |listed| listed.first + (u64::from(u32::MAX) >> 4));
        let active = Active { number, file: None, length, synced: known, sequence, begun: Instant::now() };
        let mut segments =
            Self { storage, shared, manifest, highest, mark: None, second: false, active, spare: Vec::new() };
        if highest == 0 {
            // Written first, because a segment without a manifest means that the manifest is lost.
            segments.write_manifest(segments.manifest.clone())?;
        }
        segments.mark = Some(match segments.storage.open(MARK) {
            Ok(mark) => mark,
            Err(_) => segments.storage.create(MARK)?,
        });
        segments.begin(damaged, true)?;
        for number in damaged {
            let _ = segments.storage.rename(&name(*number), &format!("damaged-{}", name(*number)));
        }
        Ok(segments)
    }

    pub(super) fn draft(&mut self) -> Draft {
        Draft::new(self.active.length, core::mem::take(&mut self.spare))
    }

    /// Writes a group, and applies it to the index once it is as durable as required.
    pub(super) fn commit(&mut self, mut draft: Draft, sync: bool) -> io::Result<()> {
        let Some(file) = &self.active.file else { return Err(io::Error::other("no segment is open")) };
        format::seal(&mut draft.bytes, self.manifest.id, self.active.number, self.active.sequence);
        write_all(&**file, self.active.length, &draft.bytes)?;
        if sync {
            file.sync()?;
        }
        if !file.is_there() {
            return Err(io::Error::other(format!("the file {} was removed or replaced", name(self.active.number))));
        }
        let start = usize::try_from(self.active.length).map_err(io::Error::other)? + HEAD;
        self.active.length += draft.bytes.len() as u64;
        self.active.sequence += 1;
        if sync {
            self.active.synced = self.active.length;
        }
        self.note();
        let mut index = lock(&self.shared.index);
        let taken = index.take(self.active.number, start, &draft.bytes[HEAD..]);
        debug_assert!(taken.is_ok(), "what was written can be read");
        for (user, extents) in &draft.moved {
            index.moved(*user, extents);
        }
        if let Some(segment) = index.segments.get_mut(&self.active.number) {
            segment.length = self.active.length;
        }
        drop(index);
        // An unusually large buffer is not kept in memory.
        if draft.bytes.capacity() <= GROUP_BYTES / 4 {
            self.spare = draft.bytes;
        }
        Ok(())
    }

    /// Makes everything that was acknowledged durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.active.synced < self.active.length
            && let Some(file) = &self.active.file
        {
            file.sync()?;
            self.active.synced = self.active.length;
            self.note();
        }
        Ok(())
    }

    /// Records how far the segment is good. If that fails, the next opening knows less, and is as careful as that
    /// requires.
    fn note(&mut self) {
        let Active { number, length, synced, .. } = self.active;
        let mark = Mark { segment: number, answered: length, synced };
        if let Some(file) = &self.mark {
            let place = MARK_BYTES as u64 * u64::from(self.second);
            let _ = write_all(&**file, place, &mark.encode(self.manifest.id));
            self.second = !self.second;
        }
    }

    fn draft_manifest(&self, manifest: &Manifest) -> io::Result<()> {
        let file = self.storage.create(DRAFT)?;
        write_all(&*file, 0, &manifest.encode())?;
        file.sync()
    }

    /// After an error, either the old manifest or the new one may be on disk.
    fn publish_manifest(&mut self, manifest: Manifest) -> io::Result<()> {
        self.storage.rename(DRAFT, MANIFEST)?;
        self.storage.sync_names()?;
        self.manifest = manifest;
        Ok(())
    }

    fn write_manifest(&mut self, manifest: Manifest) -> io::Result<()> {
        self.draft_manifest(&manifest)?;
        self.publish_manifest(manifest)
    }

    /// Begins the next segment. The previous one ends at its last synced byte. Data that was acknowledged after that is
    /// written again, because after a failed sync it may not be on disk.
    pub(super) fn next(&mut self) -> io::Result<()> {
        let removed = self.removed();
        self.begin(&removed, false)
    }

    /// The live bytes of these segments.
    fn live(&self, of: &[u32]) -> u64 {
        let index = lock(&self.shared.index);
        of.iter().filter_map(|number| index.segments.get(number)).map(|segment| segment.live).sum()
    }

    /// The segments whose files were removed or replaced while this process has them open.
    fn removed(&self) -> Vec<u32> {
        // The index is not locked during disk operations.
        let files: Vec<(u32, Arc<dyn Block>)> = {
            let index = lock(&self.shared.index);
            index.segments.iter().map(|(number, segment)| (*number, Arc::clone(&segment.file))).collect()
        };
        files.into_iter().filter(|(_, file)| !file.is_there()).map(|(number, _)| number).collect()
    }

    /// Rewrites the content of files that were removed while this process had them open. Returns true if there was any.
    pub(super) fn restore(&mut self) -> io::Result<bool> {
        let removed = !self.removed().is_empty();
        if removed {
            self.sync()?;
            self.next()?;
        }
        let manifest = self.storage.open(MANIFEST).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if manifest {
            self.write_manifest(self.manifest.clone())?;
        }
        let mark = self.mark.as_ref().is_none_or(|mark| !mark.is_there());
        if mark {
            self.mark = Some(self.storage.create(MARK)?);
            self.note();
        }
        Ok(removed || manifest || mark)
    }

    /// Begins a segment in place of these, with their live content; with `partly`, as much of it as can be read.
    fn begin(&mut self, left_out: &[u32], partly: bool) -> io::Result<()> {
        let number = self.highest + 1;
        let prepared = self.prepare(number, left_out, partly);
        let Next { number, file, written, manifest } = prepared.inspect_err(|_| {
            let _ = self.storage.remove(&name(number));
        })?;
        // Another attempt must not touch a file that the manifest on disk may name.
        self.highest = number;
        self.publish_manifest(manifest)?;
        self.enter(number, file, written, left_out)
    }

    /// Writes the next segment, and a manifest that is not in force yet.
    fn prepare(&self, number: u32, left_out: &[u32], partly: bool) -> io::Result<Next> {
        if self.live(left_out) > MOST_RESCUED {
            return Err(io::Error::other(
                "more was removed than can be rewritten: stop the gateway, and restore the log from a backup",
            ));
        }
        let file = self.storage.create(&name(number))?;
        let id = self.manifest.id;
        let head = format::header(id, number);
        let mut at = head.len() as u64;
        write_all(&*file, 0, &head)?;
        let (mut written, mut sequence) = (Vec::new(), self.active.sequence);
        let mut rest = self.untrusted(left_out);
        while !rest.is_empty() {
            let mut draft = Draft::new(at, Vec::new());
            self.rescue(&mut draft, &mut rest, partly)?;
            format::seal(&mut draft.bytes, id, number, sequence);
            write_all(&*file, at, &draft.bytes)?;
            at += draft.bytes.len() as u64;
            sequence += 1;
            written.push(draft);
        }
        file.sync()?;
        let mut manifest = self.manifest.clone();
        if let Some(last) = manifest.segments.iter_mut().find(|listed| listed.number == self.active.number) {
            last.length = self.active.synced;
        }
        manifest.segments.retain(|listed| !left_out.contains(&listed.number));
        manifest.segments.push(Listed { number, length: 0, first: self.active.sequence });
        (manifest.closed, manifest.users) = (false, lock(&self.shared.index).numbers);
        self.draft_manifest(&manifest)?;
        Ok(Next { number, file, written, manifest })
    }

    /// Continues in the segment that was begun.
    fn enter(&mut self, number: u32, file: Arc<dyn Block>, written: Vec<Draft>, left_out: &[u32]) -> io::Result<()> {
        let mut index = lock(&self.shared.index);
        if let Some(last) = index.segments.get_mut(&self.active.number) {
            last.length = self.active.synced;
        }
        index.segments.retain(|number, _| !left_out.contains(number));
        let length = written.last().map_or(HEADER as u64, |draft| draft.start + draft.bytes.len() as u64);
        let sequence = self.active.sequence + written.len() as u64;
        let segment = Segment {
            file: Arc::clone(&file),
            length,
            live: 0,
            loose: 0,
            left: HashSet::new(),
            scrub: false,
            damaged: false,
        };
        index.segments.insert(number, segment);
        for draft in written {
            for (user, extents) in &draft.moved {
                index.moved(*user, extents);
            }
            let start = usize::try_from(draft.start).map_err(io::Error::other)? + HEAD;
            let taken = index.take(number, start, &draft.bytes[HEAD..]);
            debug_assert!(taken.is_ok(), "what was written can be read");
        }
        drop(index);
        self.active = Active { number, file: Some(file), length, synced: length, sequence, begun: Instant::now() };
        self.note();
        Ok(())
    }

    /// The users with content only in places that cannot be trusted, each with its extents there.
    fn untrusted(&self, left_out: &[u32]) -> Vec<(UserId, Vec<Extent>)> {
        let Active { number, length, synced, .. } = self.active;
        let doubtful = |segment: u32, place: u32| {
            left_out.contains(&segment) || (segment == number && u64::from(place) >= synced && synced < length)
        };
        let untold = |tombstone: &Tombstone| tombstone.segment == UNTOLD || doubtful(tombstone.segment, u32::MAX);
        let index = lock(&self.shared.index);
        let tombstones = index.erased.iter().filter(|(_, tombstone)| untold(tombstone));
        let deletions = index.deleted.iter().filter(|(_, deletion)| doubtful(deletion.segment, u32::MAX));
        let tombstones = tombstones.map(|(id, _)| *id).chain(deletions.map(|(id, _)| *id));
        let tombstones: Vec<_> = tombstones.map(|id| (id, Vec::new())).collect();
        if synced >= length && left_out.is_empty() {
            return tombstones;
        }
        let users = index.users.iter().filter_map(|(id, user)| {
            let extents = user.extents.iter().filter(|extent| doubtful(extent.segment, extent.last));
            let extents: Vec<Extent> = extents.copied().collect();
            // If all of a user's entries are trimmed, this segment may be the only record of that, or of the user's
            // head.
            let untold = index.untold.contains(id);
            (untold || !extents.is_empty() || doubtful(user.state.0, user.state.1)).then_some((*id, extents))
        });
        let mut users: Vec<_> = users.collect();
        users.extend(tombstones);
        users
    }

    fn rescue(&self, draft: &mut Draft, rest: &mut Vec<(UserId, Vec<Extent>)>, partly: bool) -> io::Result<()> {
        while draft.bytes.len() < GROUP_BYTES
            && let Some((id, extents)) = rest.pop()
        {
            self.move_user(draft, id, extents, partly).map_err(io::Error::other)?;
            if let Some(deletion) = lock(&self.shared.index).deleted.get(&id) {
                format::put_deleted(&mut draft.bytes, id, deletion.through, deletion.at);
            }
        }
        Ok(())
    }

    /// Rewrites a user's state and these extents; with `partly`, as much of them as can be read.
    pub(super) fn move_user(
        &self,
        draft: &mut Draft,
        id: UserId,
        extents: Vec<Extent>,
        partly: bool,
    ) -> Result<(), String> {
        let (mut found, mut failed) = (Vec::new(), None);
        for extent in &extents {
            let file = lock(&self.shared.index).segments.get(&extent.segment).map(|segment| Arc::clone(&segment.file));
            if let Some(file) = file
                && let Err(error) = extent_entries(&*file, extent, &mut found)
            {
                failed = Some(error);
            }
        }
        if let Some(error) = failed.filter(|_| !partly) {
            return Err(error);
        }
        let deletions = self.deletions(id, partly)?;
        let index = lock(&self.shared.index);
        if let Some(tombstone) = index.erased.get(&id) {
            format::put_erased(&mut draft.bytes, id, tombstone.at);
            return Ok(());
        }
        let Some(user) = index.users.get(&id) else { return Ok(()) };
        format::put_state(&mut draft.bytes, &Index::state_of(id, user));
        found.retain(|entry| entry.offset > user.trimmed);
        settle(&mut found);
        scrub(&mut found, &deletions, user.generation);
        draft.relocate(id, user.trimmed, user.read, &found);
        draft.moved.push((id, extents));
        Ok(())
    }

    /// Drops a segment that is no longer needed. Its replacement is synced first.
    pub(super) fn drop_segment(&mut self, number: u32) -> io::Result<()> {
        self.sync()?;
        let mut manifest = self.manifest.clone();
        manifest.segments.retain(|listed| listed.number != number);
        manifest.users = lock(&self.shared.index).numbers;
        self.write_manifest(manifest)?;
        lock(&self.shared.index).segments.remove(&number);
        // A file that stays is removed when the log is next opened.
        let _ = self.storage.remove(&name(number));
        Ok(())
    }

    /// Records that everything that was acknowledged is on disk.
    pub(super) fn close(&mut self) -> io::Result<()> {
        self.sync()?;
        let mut manifest = self.manifest.clone();
        if let Some(last) = manifest.segments.last_mut() {
            last.length = self.active.length;
        }
        (manifest.closed, manifest.users) = (true, lock(&self.shared.index).numbers);
        self.write_manifest(manifest)
    }
}

const _: () = assert!(HEADER == 32, "a place of zero is none: records begin behind the header");
