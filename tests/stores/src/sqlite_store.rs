//! SQLite with a write-ahead log.

use std::path::Path;

use rusqlite::{Connection, params};

use crate::{Event, Store};

pub struct Rows(Connection);

impl Rows {
    pub fn open(path: &Path) -> Self {
        let connection = Connection::open(path.join("log.sqlite")).expect("SQLite");
        connection
            .execute_batch(
                "pragma journal_mode = wal; pragma synchronous = full; pragma cache_size = -65536;
                 create table if not exists entries (
                     user integer, offset integer, data blob, primary key (user, offset)) without rowid;",
            )
            .expect("SQLite");
        connection.set_prepared_statement_cache_capacity(16);
        Self(connection)
    }
}

impl Store for Rows {
    fn commit(&mut self, group: &[Event<'_>]) {
        let transaction = self.0.transaction().expect("SQLite");
        {
            let mut insert = transaction.prepare_cached("insert into entries values (?, ?, ?)").expect("SQLite");
            for event in group {
                insert.execute(params![event.user as i64, event.offset as i64, event.data]).expect("SQLite");
            }
        }
        transaction.commit().expect("SQLite");
    }

    fn trim(&mut self, user: u64, through: u64) {
        let mut delete = self.0.prepare_cached("delete from entries where user = ? and offset <= ?").expect("SQLite");
        delete.execute(params![user as i64, through as i64]).expect("SQLite");
    }

    fn read(&mut self, user: u64) -> usize {
        let mut select =
            self.0.prepare_cached("select data from entries where user = ? order by offset").expect("SQLite");
        let mut rows = select.query(params![user as i64]).expect("SQLite");
        let mut found = 0;
        while let Some(row) = rows.next().expect("SQLite") {
            found += usize::from(!row.get_ref(0).expect("SQLite").as_blob().expect("bytes").is_empty());
        }
        found
    }

    fn delete(&mut self, user: u64) {
        self.trim(user, i64::MAX as u64);
    }
}
