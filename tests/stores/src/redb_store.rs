//! redb: as a table of events, and as a table of groups with the index in memory.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::{Event, Store};

const HEADS: TableDefinition<'_, u64, (u64, u64)> = TableDefinition::new("heads");
const ENTRIES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("entries");
const GROUPS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("groups");

/// A row an event, and a row a user.
pub struct Rows(Database);

impl Rows {
    pub fn open(path: &Path) -> Self {
        let database = Database::builder().set_cache_size(64 << 20).create(path.join("log.redb")).expect("redb");
        let write = database.begin_write().expect("redb");
        write.open_table(HEADS).expect("redb");
        write.open_table(ENTRIES).expect("redb");
        write.commit().expect("redb");
        Self(database)
    }

    pub fn put(&self, durability: Durability, entries: impl Iterator<Item = (u64, u64, Vec<u8>)>) {
        let mut write = self.0.begin_write().expect("redb");
        write.set_durability(durability).expect("redb");
        {
            let mut table = write.open_table(ENTRIES).expect("redb");
            for (user, offset, data) in entries {
                table.insert((user, offset), data.as_slice()).expect("redb");
            }
        }
        write.commit().expect("redb");
    }
}

impl Store for Rows {
    fn commit(&mut self, group: &[Event<'_>]) {
        let write = self.0.begin_write().expect("redb");
        {
            let (mut heads, mut entries) =
                (write.open_table(HEADS).expect("redb"), write.open_table(ENTRIES).expect("redb"));
            for event in group {
                let trimmed = heads.get(event.user).expect("redb").map_or(0, |head| head.value().0);
                heads.insert(event.user, (trimmed, event.offset)).expect("redb");
                entries.insert((event.user, event.offset), event.data).expect("redb");
            }
        }
        write.commit().expect("redb");
    }

    fn trim(&mut self, user: u64, through: u64) {
        let mut write = self.0.begin_write().expect("redb");
        write.set_durability(Durability::None).expect("redb");
        {
            let mut entries = write.open_table(ENTRIES).expect("redb");
            entries.retain_in((user, 0)..=(user, through), |_, _| false).expect("redb");
        }
        write.commit().expect("redb");
    }

    fn read(&mut self, user: u64) -> usize {
        let read = self.0.begin_read().expect("redb").open_table(ENTRIES).expect("redb");
        read.range((user, 0)..=(user, u64::MAX))
            .expect("redb")
            .map(|row| row.expect("redb").1.value().len())
            .filter(|bytes| *bytes > 0)
            .count()
    }

    fn delete(&mut self, user: u64) {
        let write = self.0.begin_write().expect("redb");
        write.open_table(ENTRIES).expect("redb").retain_in((user, 0)..=(user, u64::MAX), |_, _| false).expect("redb");
        write.commit().expect("redb");
    }
}

/// A row a group, whose bytes hold its events; which group an event is in stands in memory.
pub struct Groups {
    database: Database,
    next: u64,
    /// Of a user: offset, group.
    index: HashMap<u64, BTreeMap<u64, u64>>,
    /// Events that are left of a group.
    live: BTreeMap<u64, usize>,
}

impl Groups {
    pub fn open(path: &Path) -> Self {
        let database = Database::builder().set_cache_size(64 << 20).create(path.join("log.redb")).expect("redb");
        let write = database.begin_write().expect("redb");
        write.open_table(GROUPS).expect("redb");
        write.commit().expect("redb");
        let mut opened = Self { database, next: 0, index: HashMap::new(), live: BTreeMap::new() };
        let table = opened.database.begin_read().expect("redb").open_table(GROUPS).expect("redb");
        for row in table.iter().expect("redb") {
            let (number, bytes) = row.expect("redb");
            let number = number.value();
            each(bytes.value(), |user, offset, _| opened.enter(number, user, offset));
            opened.next = number + 1;
        }
        opened
    }

    fn enter(&mut self, group: u64, user: u64, offset: u64) {
        self.index.entry(user).or_default().insert(offset, group);
        *self.live.entry(group).or_default() += 1;
    }

    fn drop_through(&mut self, user: u64, through: u64, durability: Durability) {
        let Some(index) = self.index.get_mut(&user) else { return };
        let kept = index.split_off(&through.saturating_add(1));
        let gone = core::mem::replace(index, kept);
        let mut write = self.database.begin_write().expect("redb");
        write.set_durability(durability).expect("redb");
        {
            let mut table = write.open_table(GROUPS).expect("redb");
            for group in gone.into_values() {
                let live = self.live.get_mut(&group).expect("a group");
                *live -= 1;
                if *live == 0 {
                    self.live.remove(&group);
                    table.remove(group).expect("redb");
                }
            }
        }
        write.commit().expect("redb");
    }
}

/// Calls `visit` for each event in these bytes.
pub fn each(mut bytes: &[u8], mut visit: impl FnMut(u64, u64, &[u8])) {
    while bytes.len() >= 20 {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let length = u32::from_le_bytes(bytes[16..20].try_into().expect("4 bytes")) as usize;
        visit(number(0), number(8), &bytes[20..20 + length]);
        bytes = &bytes[20 + length..];
    }
}

/// The bytes of a group.
pub fn encode(group: &[Event<'_>], bytes: &mut Vec<u8>) {
    for event in group {
        bytes.extend_from_slice(&event.user.to_le_bytes());
        bytes.extend_from_slice(&event.offset.to_le_bytes());
        bytes.extend_from_slice(&(event.data.len() as u32).to_le_bytes());
        bytes.extend_from_slice(event.data);
    }
}

impl Store for Groups {
    fn commit(&mut self, group: &[Event<'_>]) {
        let mut bytes = Vec::new();
        encode(group, &mut bytes);
        let write = self.database.begin_write().expect("redb");
        write.open_table(GROUPS).expect("redb").insert(self.next, bytes.as_slice()).expect("redb");
        write.commit().expect("redb");
        let number = self.next;
        self.next += 1;
        for event in group {
            self.enter(number, event.user, event.offset);
        }
    }

    fn trim(&mut self, user: u64, through: u64) {
        self.drop_through(user, through, Durability::None);
    }

    fn read(&mut self, user: u64) -> usize {
        let table = self.database.begin_read().expect("redb").open_table(GROUPS).expect("redb");
        let Some(index) = self.index.get(&user) else { return 0 };
        let mut found = 0;
        for group in index.values() {
            let bytes = table.get(group).expect("redb").expect("a group");
            each(bytes.value(), |of, _, data| found += usize::from(of == user && !data.is_empty()));
        }
        found
    }

    fn delete(&mut self, user: u64) {
        self.drop_through(user, u64::MAX - 1, Durability::Immediate);
        self.index.remove(&user);
    }
}
