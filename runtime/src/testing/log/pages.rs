//! The contract of logs that offer conversations: pages of a stream.

use core::time::Duration;

use lockstep_model::run::{Kind, Received};
use lockstep_model::{MessageId, Offset, PartId, ThreadId, UserId};

use super::{content, deletion, own, run_in, written};
use crate::log::conversations::{Page, Retention};
use crate::log::{Conversations, Log, LogError, Written};
use crate::payload::{Delta, data_of_piece};

/// A piece of an answer.
fn piece(run: u64, text: &str) -> Written {
    let data = data_of_piece(PartId(1), "text", text);
    let said = written(run, Kind::Delta(PartId(1)), "");
    let record = crate::payload::Record::written(said.record.thread.clone(), data, said.record.at());
    Written { record: std::sync::Arc::new(record), ..said }
}

/// Two runs that interleave and then follow each other, one run of a thread that is deleted, and a notice without a
/// thread.
fn said() -> Vec<Written> {
    let received = |run| Kind::Received(Received::immediate(MessageId(run), ThreadId(run)));
    let mut said = vec![written(1, received(1), "one"), written(3, received(3), "three")];
    for turn in 0..4 {
        said.extend([piece(1, &format!("one {turn}, ")), piece(3, &format!("\u{2713} three {turn}, "))]);
    }
    said.extend((0..5).map(|turn| piece(1, &format!("\"{turn}\"\n"))));
    said.extend(run_in(None, 2));
    said.push(written(4, Kind::Notice, "for all"));
    said.push(written(1, Kind::Completed, "end"));
    said.extend((0..3).map(|turn| piece(3, &format!("{turn}"))));
    said.push(deletion(6, None));
    said.push(written(3, Kind::Completed, "end"));
    said
}

/// The text of an entry, if it is a piece.
fn text(entry: &Written) -> Option<String> {
    let Kind::Delta(_) = entry.kind else { return None };
    Some(Delta::of(&entry.record.data).expect("a piece").text.into_owned())
}

/// Asserts that a page has all of this, in order; one piece may stand for several that follow each other.
fn has(page: &Page, mut wanted: &[(Offset, Written)]) {
    for (offset, found) in &page.entries {
        let count = wanted.iter().position(|(at, _)| at == offset).expect("what is on a page was appended") + 1;
        let (pieces, rest) = wanted.split_at(count);
        wanted = rest;
        assert!(pieces.iter().all(|(_, piece)| piece.run == found.run), "nothing is passed over");
        match text(found) {
            Some(text) => {
                let whole: Option<String> = pieces.iter().map(|(_, piece)| self::text(piece)).collect();
                assert_eq!(Some(text), whole, "the text goes up to that offset");
            }
            None => assert_eq!((count, content(found)), (1, content(&pieces[0].1))),
        }
    }
    assert!(wanted.first().is_none_or(|(offset, _)| *offset > page.through), "a page has everything up to its end");
}

/// Tests a log that offers conversations.
///
/// # Panics
///
/// If the log violates the contract.
pub(super) async fn pages(log: &dyn Log) {
    let Some(conversations) = log.conversations() else { return };
    let user = log.user("contract: pages").await.expect("a number");
    let tenure = own(log, user).await;
    let said = said();
    let offsets = log.append(user, tenure, Offset(0), said.clone()).await.expect("appended");
    let is_gone =
        |entry: &Written| entry.record.thread.is_none() && !matches!(entry.kind, Kind::Notice | Kind::Deleted);
    let wanted: Vec<_> = offsets.iter().copied().zip(said).filter(|(_, entry)| !is_gone(entry)).collect();
    let places: Vec<Offset> = [Offset(0)].into_iter().chain(offsets).collect();
    for (place, after) in places.iter().enumerate() {
        for through in &places[place..] {
            for bytes in [0, 20, 1 << 20] {
                read(conversations, user, (*after, *through), bytes, &wanted).await;
            }
        }
    }
    let nothing = conversations.stale(Retention::default(), u64::MAX, 1).await.expect("an answer");
    assert!(nothing.is_empty(), "without a bound nothing is stale");
    let old = Retention::default().age(Duration::ZERO);
    let stale = conversations.stale(old, 1, usize::MAX).await.expect("an answer");
    assert!(stale.iter().all(|stale| stale.user != user), "nothing is older than its time");
    log.erase(user).await.expect("erased");
    let page = conversations.page(user, Offset(0), places[1], 1).await;
    assert_eq!(page.map(|_| ()), Err(LogError::Fenced), "nothing is read of a user who is erased");
}

async fn read(
    log: &dyn Conversations,
    user: UserId,
    (mut after, through): (Offset, Offset),
    bytes: usize,
    wanted: &[(Offset, Written)],
) {
    loop {
        let page = log.page(user, after, through, bytes).await.expect("a page");
        assert_eq!(page.trimmed, after, "nothing was trimmed");
        let behind = wanted.iter().filter(|(offset, _)| *offset > after && *offset <= through).cloned();
        has(&page, &behind.collect::<Vec<_>>());
        if page.through == through {
            return;
        }
        assert!(page.through > after && page.through < through, "a page has an entry at least");
        after = page.through;
    }
}
