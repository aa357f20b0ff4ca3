//! A simulated disk that fails like a real one, and a machine that stops.
//!
//! A write is in the *cache* at once, and on the *platter* after a sync. A killed process leaves both. After a power
//! cut, any part of the unsynced writes is on the platter, in any order. After a failed sync the cache has data that
//! the platter may never get, and the next sync reports success.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use lockstep::log::disk::storage::{Block, Storage};

/// A disk and its machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<Machine>>);

#[derive(Debug, Default)]
struct Machine {
    names: BTreeMap<String, usize>,
    /// The names on the platter.
    synced_names: BTreeMap<String, usize>,
    files: Vec<Content>,
    boot: u64,
    /// The free bytes; `None` if unlimited.
    space: Option<usize>,
    /// The number of coming syncs that fail.
    failing_syncs: usize,
    /// The most bytes that one write takes.
    most: Option<usize>,
    /// The number of operations after which the process is dead and has no effect.
    life: Option<usize>,
    /// The number of successful syncs.
    syncs: usize,
    /// The number of reads of any file.
    reads: usize,
}

#[derive(Clone, Debug, Default)]
struct Content {
    cache: Vec<u8>,
    platter: Vec<u8>,
    /// Writes that a sync makes durable.
    pending: Vec<(usize, Vec<u8>)>,
}

impl Content {
    fn write(bytes: &mut Vec<u8>, at: usize, with: &[u8]) {
        if bytes.len() < at + with.len() {
            bytes.resize(at + with.len(), 0);
        }
        bytes[at..at + with.len()].copy_from_slice(with);
    }
}

impl Machine {
    fn operate(&mut self) -> io::Result<()> {
        match &mut self.life {
            Some(0) => Err(io::Error::other("the process is dead")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Disk {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().expect("no test has failed while it had the disk")
    }

    pub(crate) fn space(&self, bytes: Option<usize>) {
        self.machine().space = bytes;
    }

    pub(crate) fn fail_syncs(&self, syncs: usize) {
        self.machine().failing_syncs = syncs;
    }

    pub(crate) fn short_writes(&self, most: Option<usize>) {
        self.machine().most = most;
    }

    /// The process dies after that many operations; a dead one stays dead.
    pub(crate) fn die_after(&self, operations: usize) {
        let mut machine = self.machine();
        machine.life = Some(machine.life.map_or(operations, |left| left.min(operations)));
    }

    pub(crate) fn syncs(&self) -> usize {
        self.machine().syncs
    }

    pub(crate) fn reads(&self) -> usize {
        self.machine().reads
    }

    /// The disk after the process is killed.
    pub(crate) fn after_kill(&self) -> Self {
        let machine = self.machine();
        let mut next = Machine { names: machine.names.clone(), boot: machine.boot, ..Machine::default() };
        (next.synced_names, next.files) = (machine.synced_names.clone(), machine.files.clone());
        Self(Arc::new(Mutex::new(next)))
    }

    /// The disk after a power cut. `dice` returns a number below its argument.
    pub(crate) fn after_power_cut(&self, dice: &mut dyn FnMut(usize) -> usize) -> Self {
        let machine = self.machine();
        let names = if dice(2) == 0 { &machine.names } else { &machine.synced_names };
        let mut next =
            Machine { names: names.clone(), synced_names: names.clone(), boot: machine.boot + 1, ..Machine::default() };
        for file in &machine.files {
            let mut platter = file.platter.clone();
            for (at, bytes) in &file.pending {
                match dice(3) {
                    0 => {}
                    1 => Content::write(&mut platter, *at, bytes),
                    _ => Content::write(&mut platter, *at, &bytes[..dice(bytes.len() + 1)]),
                }
            }
            next.files.push(Content { cache: platter.clone(), platter, pending: Vec::new() });
        }
        Self(Arc::new(Mutex::new(next)))
    }

    /// The files in the cache.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let machine = self.machine();
        machine.names.iter().map(|(name, file)| (name.clone(), machine.files[*file].cache.clone())).collect()
    }

    /// Flips a bit of these bytes, wherever they are.
    pub(crate) fn rot(&self, of: &[u8]) {
        let mut machine = self.machine();
        let mut flipped = 0;
        for file in &mut machine.files {
            while let Some(at) = file.cache.windows(of.len()).position(|window| window == of) {
                file.cache[at] ^= 1;
                flipped += 1;
            }
        }
        assert!(flipped > 0, "there are no such bytes");
    }

    /// A disk with these files, in the same machine as before.
    pub(crate) fn with(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let mut machine = Machine::default();
        for (name, bytes) in files {
            machine.names.insert(name.clone(), machine.files.len());
            machine.files.push(Content { cache: bytes.clone(), platter: bytes.clone(), pending: Vec::new() });
        }
        machine.synced_names = machine.names.clone();
        Self(Arc::new(Mutex::new(machine)))
    }
}

impl Storage for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.machine().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Block>> {
        let mut machine = self.machine();
        machine.operate()?;
        let file = machine.files.len();
        machine.files.push(Content::default());
        machine.names.insert(name.to_owned(), file);
        Ok(Arc::new(File { disk: self.clone(), file, name: name.to_owned() }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Block>> {
        let file = self.machine().names.get(name).copied();
        let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Arc::new(File { disk: self.clone(), file, name: name.to_owned() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut machine = self.machine();
        machine.operate()?;
        let file = machine.names.remove(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        machine.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut machine = self.machine();
        machine.operate()?;
        machine.names.remove(name).map(|_| ()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut machine = self.machine();
        machine.operate()?;
        machine.synced_names = machine.names.clone();
        Ok(())
    }

    fn boot(&self) -> Option<String> {
        Some(self.machine().boot.to_string())
    }
}

#[derive(Debug)]
struct File {
    disk: Disk,
    file: usize,
    name: String,
}

impl Block for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.machine().files[self.file].cache.len() as u64)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut machine = self.disk.machine();
        machine.reads += 1;
        let rest = machine.files[self.file].cache.get(at as usize..).unwrap_or_default();
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut machine = self.disk.machine();
        machine.operate()?;
        let at = at as usize;
        let mut taken = bytes.len().min(machine.most.unwrap_or(usize::MAX));
        if machine.life == Some(0) {
            // The process died during the write.
            taken /= 2;
        }
        let grows = (at + taken).saturating_sub(machine.files[self.file].cache.len());
        if let Some(space) = &mut machine.space {
            if *space == 0 && grows > 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            taken -= grows.saturating_sub(*space);
            *space -= grows.min(*space);
        }
        let file = &mut machine.files[self.file];
        Content::write(&mut file.cache, at, &bytes[..taken]);
        file.pending.push((at, bytes[..taken].to_vec()));
        Ok(taken)
    }

    fn sync(&self) -> io::Result<()> {
        let mut machine = self.disk.machine();
        machine.operate()?;
        let pending = core::mem::take(&mut machine.files[self.file].pending);
        if machine.failing_syncs > 0 {
            // The pages count as clean from now on.
            machine.failing_syncs -= 1;
            return Err(io::Error::other("input/output error"));
        }
        machine.syncs += 1;
        let file = &mut machine.files[self.file];
        for (at, bytes) in pending {
            Content::write(&mut file.platter, at, &bytes);
        }
        Ok(())
    }

    fn is_there(&self) -> bool {
        self.disk.machine().names.get(&self.name) == Some(&self.file)
    }
}
