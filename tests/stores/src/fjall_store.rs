//! fjall: a log-structured merge tree with a journal.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::{Event, Store};

pub struct Rows {
    database: Database,
    entries: Keyspace,
}

fn key(user: u64, offset: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&user.to_be_bytes());
    key[8..].copy_from_slice(&offset.to_be_bytes());
    key
}

impl Rows {
    pub fn open(path: &Path) -> Self {
        let database = Database::builder(path.join("fjall")).cache_size(64 << 20).open().expect("fjall");
        let entries = database.keyspace("entries", KeyspaceCreateOptions::default).expect("fjall");
        Self { database, entries }
    }

    fn remove(&self, user: u64, through: u64, mode: Option<PersistMode>) {
        let mut batch = self.database.batch().durability(mode);
        for row in self.entries.range(key(user, 0)..=key(user, through)) {
            batch.remove(&self.entries, row.key().expect("fjall"));
        }
        batch.commit().expect("fjall");
    }
}

impl Store for Rows {
    fn commit(&mut self, group: &[Event<'_>]) {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for event in group {
            batch.insert(&self.entries, key(event.user, event.offset), event.data);
        }
        batch.commit().expect("fjall");
    }

    fn trim(&mut self, user: u64, through: u64) {
        self.remove(user, through, None);
    }

    fn read(&mut self, user: u64) -> usize {
        let rows = self.entries.prefix(user.to_be_bytes());
        rows.map(|row| row.value().expect("fjall").len()).filter(|bytes| *bytes > 0).count()
    }

    fn delete(&mut self, user: u64) {
        self.remove(user, u64::MAX, Some(PersistMode::SyncData));
    }
}
