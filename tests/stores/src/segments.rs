//! An append-only log in segments, with a checksum a group and one `fdatasync` a commit: with the index in memory, and
//! in front of redb.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use redb::Durability;

use crate::redb_store::{Rows, each, encode};
use crate::{Event, Store};

/// Bytes of a segment.
const SEGMENT: u64 = 16 << 20;

pub struct Segments {
    path: PathBuf,
    file: File,
    number: u64,
    length: u64,
    buffer: Vec<u8>,
    /// Of a user: offset, segment, position and length of its bytes.
    index: HashMap<u64, BTreeMap<u64, (u64, u64, u32)>>,
    /// Events that are left of a segment.
    live: BTreeMap<u64, u64>,
}

fn name(path: &Path, number: u64) -> PathBuf {
    path.join(format!("{number:08}.segment"))
}

impl Segments {
    pub fn open(path: &Path) -> Self {
        let mut numbers: Vec<u64> = std::fs::read_dir(path)
            .expect("a directory")
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".segment")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        let number = numbers.last().map_or(1, |last| last + 1);
        let file = File::create(name(path, number)).expect("a file");
        let mut opened = Self {
            path: path.to_owned(),
            file,
            number,
            length: 0,
            buffer: Vec::new(),
            index: HashMap::new(),
            live: BTreeMap::new(),
        };
        for number in numbers {
            let bytes = std::fs::read(name(path, number)).expect("a segment");
            let mut at = 0;
            while at + 8 <= bytes.len() {
                let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
                let (length, sum) = (word(at) as usize, word(at + 4));
                let Some(group) = bytes.get(at + 8..at + 8 + length) else { break };
                if crc32fast::hash(group) != sum {
                    break;
                }
                opened.enter(number, at as u64 + 8, group);
                at += 8 + length;
            }
        }
        opened
    }

    fn enter(&mut self, number: u64, start: u64, group: &[u8]) {
        let mut at = start;
        each(group, |user, offset, data| {
            self.index.entry(user).or_default().insert(offset, (number, at + 20, data.len() as u32));
            *self.live.entry(number).or_default() += 1;
            at += 20 + data.len() as u64;
        });
    }

    fn write(&mut self) {
        let length = self.buffer.len() as u32 - 8;
        let sum = crc32fast::hash(&self.buffer[8..]);
        self.buffer[..4].copy_from_slice(&length.to_le_bytes());
        self.buffer[4..8].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all(&self.buffer).expect("a write");
        self.file.sync_data().expect("a sync");
    }

    fn next(&mut self) {
        self.number += 1;
        self.length = 0;
        self.file = File::create(name(&self.path, self.number)).expect("a file");
    }
}

impl Store for Segments {
    fn commit(&mut self, group: &[Event<'_>]) {
        if self.length > SEGMENT {
            self.next();
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; 8]);
        encode(group, &mut self.buffer);
        self.write();
        let buffer = core::mem::take(&mut self.buffer);
        self.enter(self.number, self.length + 8, &buffer[8..]);
        self.length += buffer.len() as u64;
        self.buffer = buffer;
    }

    fn trim(&mut self, user: u64, through: u64) {
        let Some(index) = self.index.get_mut(&user) else { return };
        let kept = index.split_off(&through.saturating_add(1));
        for (number, ..) in core::mem::replace(index, kept).into_values() {
            let live = self.live.get_mut(&number).expect("a segment");
            *live -= 1;
            if *live == 0 && number != self.number {
                self.live.remove(&number);
                std::fs::remove_file(name(&self.path, number)).expect("a removal");
            }
        }
    }

    fn read(&mut self, user: u64) -> usize {
        let Some(index) = self.index.get(&user) else { return 0 };
        let mut files: HashMap<u64, File> = HashMap::new();
        let mut bytes = Vec::new();
        for (number, at, length) in index.values() {
            let file =
                files.entry(*number).or_insert_with(|| File::open(name(&self.path, *number)).expect("a segment"));
            bytes.resize(*length as usize, 0);
            file.read_exact_at(&mut bytes, *at).expect("a read");
        }
        index.len()
    }

    fn delete(&mut self, user: u64) {
        // A user that is deleted: one more record.
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; 8]);
        encode(&[Event { user, offset: u64::MAX, data: &[] }], &mut self.buffer);
        self.write();
        self.length += self.buffer.len() as u64;
        self.trim(user, u64::MAX - 1);
    }
}

/// Bytes of the log after which what is left of them goes to redb.
const CHECKPOINT: usize = 32 << 20;

/// The segments hold what redb does not have yet.
pub struct Indexed {
    log: Segments,
    rows: Rows,
    /// What is in the segments alone.
    recent: BTreeMap<(u64, u64), Vec<u8>>,
    bytes: usize,
}

impl Indexed {
    pub fn open(path: &Path) -> Self {
        let rows = Rows::open(path);
        let log = Segments::open(path);
        let mut recent = BTreeMap::new();
        for (user, index) in &log.index {
            for (offset, (number, at, length)) in index {
                let mut bytes = vec![0; *length as usize];
                File::open(name(path, *number)).expect("a segment").read_exact_at(&mut bytes, *at).expect("a read");
                recent.insert((*user, *offset), bytes);
            }
        }
        Self { log, rows, recent, bytes: 0 }
    }
}

impl Store for Indexed {
    fn commit(&mut self, group: &[Event<'_>]) {
        self.log.commit(group);
        for event in group {
            self.recent.insert((event.user, event.offset), event.data.to_vec());
            self.bytes += event.data.len() + 20;
        }
        if self.bytes > CHECKPOINT {
            self.bytes = 0;
            let recent = core::mem::take(&mut self.recent);
            self.rows.put(Durability::Immediate, recent.into_iter().map(|((user, offset), data)| (user, offset, data)));
            let last = self.log.number;
            self.log.next();
            for number in core::mem::take(&mut self.log.live).into_keys().filter(|number| *number <= last) {
                std::fs::remove_file(name(&self.log.path, number)).expect("a removal");
            }
            self.log.index.clear();
        }
    }

    fn trim(&mut self, user: u64, through: u64) {
        let mut gone = self.recent.split_off(&(user, 0));
        let mut behind = gone.split_off(&(user, through.saturating_add(1)));
        self.recent.append(&mut behind);
        self.log.trim(user, through);
        if gone.keys().next().is_none_or(|(_, offset)| *offset > 1) {
            self.rows.trim(user, through);
        }
    }

    fn read(&mut self, user: u64) -> usize {
        self.rows.read(user) + self.recent.range((user, 0)..=(user, u64::MAX)).count()
    }

    fn delete(&mut self, user: u64) {
        self.log.delete(user);
        self.recent.retain(|(of, _), _| *of != user);
        self.rows.delete(user);
    }
}
