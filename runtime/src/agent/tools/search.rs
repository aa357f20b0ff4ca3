//! Searches a folder of documents.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{CallError, Invocation, Tool, text_argument};
use crate::BoxFuture;
use crate::pool::{Pool, Stop};

/// The most documents that one search reads.
pub const MAX_FILES: usize = 1_000;
/// The most folders that one search enters.
pub const MAX_FOLDERS: usize = 200;
/// The most folder entries that one search looks at.
pub const MAX_ENTRIES: usize = 20_000;
/// The most bytes of one document that are read.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// The most bytes that one search reads.
pub const MAX_BYTES: u64 = 32 << 20;
/// The most words of a query that are used.
pub const MAX_WORDS: usize = 16;
/// The most lines that a search returns.
pub const MAX_MATCHES: usize = 8;
/// The number of lines between two checks for cancellation.
const LINES: usize = 512;
/// The longest snippet, in characters.
pub const MAX_SNIPPET: usize = 240;

/// A line that contains words of the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The document's path relative to the folder, with `/`.
    pub file: String,
    /// The line number, from 1.
    pub line: usize,
    /// The line, or its beginning.
    pub text: String,
    /// The number of the query's words in it.
    pub words: usize,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The best lines: those with the most words of the query first, then by name and number.
    pub matches: Vec<Match>,
    /// The number of lines that matched.
    pub lines: usize,
    /// The number of documents that were read.
    pub documents: usize,
    /// Whether the folder exceeded the bounds of a search.
    pub partial: bool,
}

/// Searches the documents of a folder, `*.txt` and `*.md`, including those in its subfolders. Symbolic links are not
/// followed, so nothing outside the folder is read. A word of the query matches, without regard to case, words that
/// begin with it; a word of one or two characters must match the whole word. A folder that does not exist has no
/// documents.
///
/// # Errors
///
/// The folder cannot be read. Anything unreadable below it is skipped.
pub fn search(folder: &Path, query: &str) -> io::Result<Found> {
    search_until(folder, query, &Stop::default())
}

/// Like [`search`]; the result is useless if it was stopped.
fn search_until(folder: &Path, query: &str, stop: &Stop) -> io::Result<Found> {
    let mut wanted = words(query);
    wanted.truncate(MAX_WORDS);
    wanted.sort_unstable();
    wanted.dedup();
    let mut found = Found::default();
    let Some(documents) = documents(folder, &mut found)? else { return Ok(found) };
    let mut bytes = 0;
    for (name, path) in documents {
        if bytes >= MAX_BYTES || stop.is_set() {
            found.partial = true;
            break;
        }
        let Ok(text) = read(&path) else { continue };
        bytes += text.len() as u64;
        found.documents += 1;
        found.partial |= text.len() as u64 >= MAX_FILE_BYTES;
        for (index, line) in text.lines().enumerate() {
            if index % LINES == LINES - 1 && stop.is_set() {
                break;
            }
            let hits = hits(&wanted, line);
            if hits > 0 {
                found.lines += 1;
                keep(
                    &mut found.matches,
                    Match { file: name.clone(), line: index + 1, text: snippet(line), words: hits },
                );
            }
        }
    }
    Ok(found)
}

/// Inserts a match in order, if it is among the best.
fn keep(matches: &mut Vec<Match>, new: Match) {
    // Documents and lines arrive in order, so equal matches go behind.
    let at = matches.partition_point(|old| old.words >= new.words);
    if at < MAX_MATCHES {
        matches.insert(at, new);
        matches.truncate(MAX_MATCHES);
    }
}

/// Every document's name and path, by name. `None` if the folder does not exist.
fn documents(folder: &Path, found: &mut Found) -> io::Result<Option<Vec<(String, PathBuf)>>> {
    let mut open = vec![(String::new(), folder.to_owned())];
    let (mut documents, mut folders, mut entries) = (Vec::new(), 0, 0);
    while let Some((prefix, path)) = open.pop() {
        folders += 1;
        if folders > MAX_FOLDERS {
            found.partial = true;
            break;
        }
        let listing = match fs::read_dir(&path) {
            Ok(listing) => listing,
            Err(error) if !prefix.is_empty() => {
                tracing::debug!(%error, "a folder of documents cannot be read");
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        for entry in listing.flatten() {
            entries += 1;
            if entries > MAX_ENTRIES {
                found.partial = true;
                break;
            }
            // The type of the entry itself: a symbolic link is neither a file nor a folder.
            let Ok(kind) = entry.file_type() else { continue };
            let Ok(name) = entry.file_name().into_string() else { continue };
            if kind.is_dir() && !name.starts_with('.') {
                open.push((format!("{prefix}{name}/"), entry.path()));
            } else if kind.is_file() && is_document(&entry.path()) {
                documents.push((format!("{prefix}{name}"), entry.path()));
            }
        }
    }
    documents.sort_unstable();
    if documents.len() > MAX_FILES {
        documents.truncate(MAX_FILES);
        found.partial = true;
    }
    Ok(Some(documents))
}

fn is_document(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["txt", "md"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// The number of words that are in the line.
fn hits(wanted: &[String], line: &str) -> usize {
    let mut found = [false; MAX_WORDS];
    for word in line.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()) {
        for (found, wanted) in found.iter_mut().zip(wanted) {
            *found = *found || matches(word, wanted);
        }
    }
    found.iter().filter(|found| **found).count()
}

/// Whether a word, in any case, is the wanted one, which is in lower case, or begins with it if it has more than two
/// characters.
fn matches(word: &str, wanted: &str) -> bool {
    let whole = wanted.chars().count() <= 2;
    let Some(begin) = word.as_bytes().get(..wanted.len()).filter(|_| word.is_ascii()) else {
        // The lower-case form may be longer.
        let lower = if word.is_ascii() { return false } else { word.to_lowercase() };
        return if whole { lower == wanted } else { lower.starts_with(wanted) };
    };
    (!whole || word.len() == wanted.len()) && begin.eq_ignore_ascii_case(wanted.as_bytes())
}

fn snippet(line: &str) -> String {
    let line = line.trim();
    match line.char_indices().nth(MAX_SNIPPET) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// [`search`] as a tool.
#[derive(Clone, Debug)]
pub struct Search {
    folder: PathBuf,
    pool: Pool,
}

impl Search {
    /// Searches the documents of this folder, on this pool.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, pool: Pool) -> Self {
        Self { folder: folder.into(), pool }
    }
}

impl Tool for Search {
    fn name(&self) -> &'static str {
        "search"
    }

    fn description(&self) -> &'static str {
        "Searches the operator's text documents for words, ignoring case, and returns the lines that contain most of \
         them, with file name and line number."
    }

    fn parameters(&self) -> Value {
        json!({
            "type": "object",
            "properties": { "query": { "type": "string", "description": "The words to look for" } },
            "required": ["query"],
            "additionalProperties": false,
        })
    }

    fn call(&self, invocation: Invocation) -> BoxFuture<'_, Result<Value, CallError>> {
        Box::pin(async move {
            let query = text_argument(&invocation.arguments, "query")?.to_owned();
            if words(&query).is_empty() {
                return Err("the query contains no words".into());
            }
            let folder = self.folder.clone();
            let searching = self.pool.run(&invocation.subject, move |stop| search_until(&folder, &query, stop));
            // The error names the operator's folders, so it is not for the user.
            let found = searching.await.map_err(|_| "the search failed".to_owned())?.map_err(|error| {
                tracing::warn!(%error, "the documents cannot be searched");
                "the documents cannot be read".to_owned()
            })?;
            let matches =
                found.matches.iter().map(|line| json!({ "file": line.file, "line": line.line, "text": line.text }));
            Ok(json!({
                "matches": matches.collect::<Vec<_>>(),
                "lines": found.lines,
                "documents": found.documents,
                "partial": found.partial,
            }))
        })
    }
}
