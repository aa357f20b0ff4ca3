//! The log of the gateway itself, as the gateway uses it.

use std::path::Path;
use std::sync::Arc;

use lockstep::log::disk::{DiskLog, Durability};
use lockstep::log::{Acquired, Log, Written};
use lockstep::payload::Record;
use lockstep_model::run::Kind;
use lockstep_model::{Incarnation, Offset, RunId, Tenure, UserId};
use tokio::runtime::Runtime;

use crate::{Event, Store};

pub struct Disk {
    log: Arc<DiskLog>,
    runtime: Runtime,
    /// Of each user: number, tenure and head.
    users: Vec<Option<(UserId, Tenure, Offset)>>,
}

impl Disk {
    pub fn open(path: &Path) -> Self {
        let log = DiskLog::open(&path.join("log"), Durability::Always).expect("a log");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { log: Arc::new(log), runtime, users: Vec::new() }
    }

    fn user(&mut self, user: u64) -> (UserId, Tenure, Offset) {
        let place = user as usize;
        if self.users.len() <= place {
            self.users.resize(place + 1, None);
        }
        if let Some(known) = self.users[place] {
            return known;
        }
        let known = self.runtime.block_on(async {
            let number = self.log.user(&format!("user {user}")).await.expect("a number");
            let Acquired::Owner(tenure) = self.log.acquire(number, Incarnation(1)).await.expect("an owner") else { panic!("no owner") };
            let held = self.log.restore(number, tenure).await.expect("what it holds");
            (number, tenure, held.entries.last().map_or(held.trimmed, |(offset, _)| *offset))
        });
        self.users[place] = Some(known);
        known
    }
}

impl Store for Disk {
    fn commit(&mut self, group: &[Event<'_>]) {
        let asked: Vec<_> = group
            .iter()
            .map(|event| {
                let (number, tenure, head) = self.user(event.user);
                let data = std::str::from_utf8(&event.data[event.data.len() - 100..]).expect("text");
                let data = serde_json::value::to_raw_value(data).expect("JSON");
                let record = Arc::new(Record::written(Some(Arc::from("thread")), data, 1_790_000_000_000));
                let entry = Written { run: RunId(event.offset / 800), kind: Kind::Thinking, record };
                (event.user as usize, self.log.append(number, tenure, head, vec![entry]))
            })
            .collect();
        let heads = self.runtime.block_on(async {
            let mut heads = Vec::with_capacity(asked.len());
            for (place, append) in asked {
                heads.push((place, append.await.expect("appended")[0]));
            }
            heads
        });
        for (place, head) in heads {
            self.users[place].as_mut().expect("a user").2 = head;
        }
    }

    fn trim(&mut self, user: u64, through: u64) {
        let (number, tenure, _) = self.user(user);
        self.runtime.block_on(self.log.trim(number, tenure, Offset(through))).expect("trimmed");
    }

    fn read(&mut self, user: u64) -> usize {
        let (number, tenure, _) = self.user(user);
        let held = self.runtime.block_on(self.log.restore(number, tenure));
        held.map_or(0, |held| held.entries.len())
    }

    fn delete(&mut self, user: u64) {
        let (number, ..) = self.user(user);
        self.runtime.block_on(self.log.erase(number)).expect("erased");
    }
}
