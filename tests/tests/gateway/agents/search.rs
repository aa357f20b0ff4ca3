//! The search tool: what it finds, and that it stays inside its folder.

use core::task::{Context, Waker};
use std::sync::Arc;

use futures_util::FutureExt;
use lockstep::agent::tools::search::{MAX_FILE_BYTES, MAX_MATCHES, search};
use lockstep::agent::tools::{Invocation, Tools};
use lockstep::pool::Pool;
use serde_json::{Value, json};

use super::Folder;

fn invoked(arguments: Value) -> Invocation {
    Invocation::new(Arc::from("ada"), arguments)
}

#[test]
fn the_lines_with_the_most_words_come_first() {
    let folder = Folder::new();
    folder.write("b.md", "# Drain\nA draining node admits nobody.\n\nNobody is told.\n");
    folder.write("notes/a.TXT", "the NODE drains, and nobody notices\r\nsomething else\n");
    let found = search(folder.path(), "Nobody drain NODE").expect("a search");
    let lines: Vec<(&str, usize, usize)> =
        found.matches.iter().map(|found| (found.file.as_str(), found.line, found.words)).collect();
    assert_eq!(lines, [("b.md", 2, 3), ("notes/a.TXT", 1, 3), ("b.md", 1, 1), ("b.md", 4, 1)]);
    assert_eq!((found.lines, found.documents, found.partial), (4, 2, false));
    assert_eq!(found.matches[1].text, "the NODE drains, and nobody notices");
}

#[test]
fn only_documents_are_searched() {
    let folder = Folder::new();
    for name in ["key.pem", "a.json", "txt", ".hidden/a.txt", "a.txt.bak"] {
        folder.write(name, "secret");
    }
    folder.write("latin.txt", b"\xff\xfe secret caf\xe9");
    let found = search(folder.path(), "secret").expect("a search");
    let files: Vec<&str> = found.matches.iter().map(|found| found.file.as_str()).collect();
    assert_eq!((files, found.documents), (vec!["latin.txt"], 1));
}

#[cfg(unix)]
#[test]
fn no_link_leads_out_of_the_folder() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    folder.write("outside/secret.txt", "secret");
    folder.write("documents/inside.txt", "no more than this");
    let documents = folder.path().join("documents");
    for (target, link) in [
        (folder.path().join("outside/secret.txt"), "file.txt"),
        (folder.path().join("outside"), "folder"),
        ("../outside".into(), "relative"),
        ("..".into(), "up"),
        (".".into(), "loop"),
    ] {
        symlink(target, documents.join(link)).expect("a link");
    }
    let found = search(&documents, "secret ../outside/secret.txt").expect("a search");
    assert_eq!((found.matches, found.documents), (vec![], 1));
    // The file would be found if it were not behind a link.
    assert_eq!(search(folder.path(), "secret").expect("a search").lines, 1);
}

#[test]
fn much_text_is_bounded_and_said_to_be() {
    let folder = Folder::new();
    let most = usize::try_from(MAX_FILE_BYTES).expect("a size");
    folder.write("a.txt", format!("{}\n", "word ".repeat(1_000)).repeat(most / 5_001 + 1) + "needle");
    let found = search(folder.path(), "word").expect("a search");
    assert_eq!(found.matches.len(), MAX_MATCHES);
    assert!(found.partial);
    assert!(found.matches.iter().all(|found| found.text.chars().count() <= 241), "a snippet is short");
    assert_eq!(search(folder.path(), "needle").expect("a search").lines, 0);
}

#[tokio::test]
async fn a_folder_that_is_not_there_has_no_documents() {
    let folder = Folder::new();
    let tools = Tools::standard(folder.path());
    let tool = tools.named("search").expect("the search");
    let found = tool.call(invoked(json!({ "query": "anything" }))).await;
    assert_eq!(found, Ok(json!({ "matches": [], "lines": 0, "documents": 0, "partial": false })));
    let refused = tool.call(invoked(json!({ "query": " ?! " }))).await;
    assert_eq!(refused, Err("the query contains no words".into()));
    let refused = tool.call(invoked(json!({ "query": 5 }))).await;
    assert_eq!(refused, Err("the argument `query` must be a string".into()));
}

#[tokio::test]
async fn what_cannot_be_read_is_not_described_to_the_user() {
    let folder = Folder::new();
    folder.write("documents", "a file where a folder should be");
    let failed = Tools::standard(folder.path())
        .named("search")
        .expect("the search")
        .call(invoked(json!({ "query": "a" })))
        .await;
    assert_eq!(failed, Err("the documents cannot be read".into()));
}

/// Tools that block or compute for long wait for a place in the pool; others run at once.
#[tokio::test]
async fn a_search_waits_for_its_turn_and_holds_nothing_else_up() {
    let folder = Folder::new();
    folder.write("documents/a.txt", "needle");
    let pool = Pool::new(1);
    let tools = Tools::standard_on(folder.path(), pool.clone());
    let (release, held) = std::sync::mpsc::channel::<()>();
    let bob = Arc::from("bob");
    let mut occupied = Box::pin(pool.run(&bob, move |_| held.recv()));
    let mut context = Context::from_waker(Waker::noop());
    assert!(occupied.as_mut().poll(&mut context).is_pending());
    let mut searching = tools.named("search").expect("the search").call(invoked(json!({ "query": "needle" })));
    assert!(searching.as_mut().poll(&mut context).is_pending());
    let sum = tools.named("calculator").expect("the calculator").call(invoked(json!({ "expression": "1+1" })));
    assert_eq!(sum.now_or_never().expect("at once").expect("a sum")["result"], "2");
    release.send(()).expect("work that waits");
    let (occupied, found) = tokio::join!(occupied, searching);
    occupied.expect("no panic").expect("a word");
    assert_eq!(found.expect("a search")["lines"], 1);
}
