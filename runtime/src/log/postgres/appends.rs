//! Appends of several users in one statement.

use std::collections::BTreeMap;

use lockstep_model::run::{Kind, Received};
use lockstep_model::{Offset, RunId, Tenure, UserId};
use tokio::sync::oneshot;
use tokio_postgres::Row;

use super::connection::{Connection, Failed, Quiet};
use super::entry::{bytes_of, columns, ordered, signed, unsigned};
use super::settings::Failover;
use super::statements;
use crate::log::{LogError, Written, conversations};

/// An append that waits.
pub(super) struct Append {
    pub(super) user: UserId,
    pub(super) tenure: Tenure,
    pub(super) after: Offset,
    pub(super) batch: Vec<Written>,
    pub(super) answer: oneshot::Sender<Result<Vec<Offset>, LogError>>,
}

impl Append {
    pub(super) fn bytes(&self) -> usize {
        self.batch.iter().map(|entry| entry.record.data.get().len()).sum()
    }

    /// Interprets the statement's decision.
    fn decided(&self, row: &Row) -> Result<Vec<Offset>, LogError> {
        let after = self.after.0;
        match row.get::<_, &str>(1) {
            "taken" => Ok((1..=self.batch.len() as u64).map(|place| Offset(after + place)).collect()),
            "fenced" => Err(LogError::Fenced),
            "outside" => {
                let (trimmed, head) = (unsigned(row, 2), unsigned(row, 3));
                Err(LogError::Broken(format!("an append after offset {after}, but the log holds {trimmed} to {head}")))
            }
            _ => {
                let head = unsigned(row, 3);
                let why = format!("an append after offset {after}, but the log holds other entries up to {head}");
                Err(LogError::Broken(why))
            }
        }
    }
}

/// Appends a group, in the order of users, and answers each.
pub(super) async fn append(connection: &Connection, failover: Failover, group: Vec<Append>) {
    match execute(connection, failover, &group).await {
        Ok(rows) => answer(group, &rows),
        // One batch that the engine cannot store must not hold up the others.
        Err(Failed::Refused(_)) if group.len() > 1 => {
            for alone in group {
                let group = [alone];
                let executed = execute(connection, failover, &group).await;
                let group = Vec::from(group);
                match executed {
                    Ok(rows) => answer(group, &rows),
                    Err(failed) => refuse(group, &failed.into()),
                }
            }
        }
        Err(failed) => refuse(group, &failed.into()),
    }
}

fn answer(group: Vec<Append>, rows: &[Row]) {
    let decided: BTreeMap<u64, &Row> = rows.iter().map(|row| (unsigned(row, 0), row)).collect();
    for append in group {
        // A user that the engine does not know was never enrolled, or a failover has lost it.
        let decided = decided.get(&append.user.0).map_or(Err(LogError::Fenced), |row| append.decided(row));
        let _ = append.answer.send(decided);
    }
}

/// Answers each append of a group with the same error.
pub(super) fn refuse(group: Vec<Append>, why: &LogError) {
    for append in group {
        let _ = append.answer.send(Err(why.clone()));
    }
}

/// The rows for each batch.
#[derive(Default)]
struct Batches {
    users: Vec<i64>,
    epochs: Vec<i64>,
    generations: Vec<i64>,
    afters: Vec<i64>,
    sizes: Vec<i64>,
    deletions: Vec<Option<i64>>,
}

/// The rows for each entry.
#[derive(Default)]
struct Entries<'a> {
    users: Vec<i64>,
    places: Vec<i64>,
    runs: Vec<i64>,
    kinds: Vec<&'static str>,
    abouts: Vec<Option<String>>,
    messages: Vec<Option<i64>>,
    threads: Vec<&'a [u8]>,
    ats: Vec<i64>,
    datas: Vec<&'a str>,
}

/// The rows for each run that begins or ends in a batch.
#[derive(Default)]
struct Runs<'a> {
    users: Vec<i64>,
    runs: Vec<i64>,
    firsts: Vec<i64>,
    newest: Vec<i64>,
    lasts: Vec<Option<i64>>,
    threads: Vec<&'a [u8]>,
    messages: Vec<Option<i64>>,
    titles: Vec<Option<Vec<u8>>>,
    ended: Vec<Option<i64>>,
}

impl<'a> Entries<'a> {
    fn put(&mut self, user: UserId, batch: &'a [Written]) {
        for (place, Written { run, kind, record }) in (1..).zip(batch) {
            let thread = record.thread.as_deref();
            let kind = columns(*kind, thread);
            self.users.push(signed(user.0));
            self.places.push(place);
            self.runs.push(signed(run.0));
            self.kinds.push(kind.kind);
            self.abouts.push(kind.about);
            self.messages.push(kind.message);
            self.threads.push(bytes_of(thread));
            self.ats.push(ordered(record.at()));
            self.datas.push(record.data.get());
        }
    }
}

/// A run's entries in a batch: the places of the first, of the newest that begins or ends it, and of its end.
struct Piece<'a> {
    first: (i64, &'a Written),
    newest: i64,
    end: Option<(i64, &'a Written)>,
}

impl<'a> Runs<'a> {
    fn put(&mut self, user: UserId, batch: &'a [Written]) {
        let mut pieces: BTreeMap<RunId, Piece<'a>> = BTreeMap::new();
        for (place, entry) in (1..).zip(batch) {
            let ends = entry.kind.is_terminal();
            let begins = matches!(entry.kind, Kind::Received(_));
            if entry.kind == Kind::Deleted || !(begins || ends) {
                continue;
            }
            let piece = pieces.entry(entry.run).or_insert(Piece { first: (place, entry), newest: place, end: None });
            piece.newest = place;
            if ends {
                piece.end = Some((place, entry));
            }
        }
        for (run, Piece { first: (first, entry), newest, end }) in pieces {
            let message = if let Kind::Received(Received { message, .. }) = entry.kind { Some(message) } else { None };
            self.users.push(signed(user.0));
            self.runs.push(signed(run.0));
            self.firsts.push(first);
            self.newest.push(newest);
            self.lasts.push(end.map(|(place, _)| place));
            self.threads.push(bytes_of(entry.record.thread.as_deref()));
            self.messages.push(message.map(|message| signed(message.0)));
            self.titles.push(conversations::title(entry.kind, &entry.record).map(String::into_bytes));
            self.ended.push(end.map(|(_, end)| ordered(end.record.at())));
        }
    }
}

async fn execute(connection: &Connection, failover: Failover, group: &[Append]) -> Result<Vec<Row>, Failed> {
    let (mut batches, mut entries, mut runs) = (Batches::default(), Entries::default(), Runs::default());
    for Append { user, tenure, after, batch, .. } in group {
        batches.users.push(signed(user.0));
        batches.epochs.push(signed(tenure.epoch.0));
        batches.generations.push(i64::from(tenure.token.0));
        batches.afters.push(ordered(after.0));
        batches.sizes.push(ordered(batch.len() as u64));
        let deletion = (1..).zip(batch).filter(|(_, entry)| entry.kind == Kind::Deleted).last();
        batches.deletions.push(deletion.map(|(place, _)| place));
        entries.put(*user, batch);
        runs.put(*user, batch);
    }
    let keeps = failover == Failover::Keeps;
    let (threads, datas) = (Quiet(&entries.threads), Quiet(&entries.datas));
    let (of_runs, titles) = (Quiet(&runs.threads), Quiet(&runs.titles));
    let parameters: super::connection::Parameters<'_> = &[
        &batches.users,
        &batches.epochs,
        &batches.generations,
        &batches.afters,
        &batches.sizes,
        &keeps,
        &entries.users,
        &entries.places,
        &entries.runs,
        &entries.kinds,
        &entries.abouts,
        &entries.messages,
        &threads,
        &entries.ats,
        &datas,
        &runs.users,
        &runs.runs,
        &runs.firsts,
        &runs.newest,
        &runs.lasts,
        &of_runs,
        &runs.messages,
        &titles,
        &runs.ended,
        &batches.deletions,
    ];
    connection.execute(statements::APPEND, parameters, None).await
}
