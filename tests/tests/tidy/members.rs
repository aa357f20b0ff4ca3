//! Names on the wire: the gateway reads each member of a client's frame under the name that its schema gives it.
//!
//! A member that is read under another name than it is written is absent, and an optional one that is absent has a
//! default: nothing fails, and the client's place or repetition is lost. The schema is what clients are written by.

use std::collections::BTreeSet;

use crate::{Tree, finds, hold};

/// What a client may send.
const SCHEMA: &str = "runtime/schema/v1.client.json";

/// The files that read it.
const READERS: &[&str] = &["conversation.rs", "members.rs", "message.rs", "v1.rs"];

/// The methods that read a member by its name.
const READS: &[&str] = &[
    "any",
    "flag",
    "id",
    "object",
    "optional_id",
    "optional_integer",
    "optional_string",
    "string",
    "text",
    "word_or_object",
];

/// The names of the properties in a schema: the keys of each `properties`.
fn described(schema: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for (at, opening) in schema.match_indices("\"properties\": {") {
        let (mut depth, mut rest) = (1_usize, &schema[at + opening.len()..]);
        while let Some(next) = rest.find(['{', '}', '"']).filter(|_| depth > 0) {
            let (found, after) = rest[next..].split_at(1);
            rest = after;
            match found {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {
                    let Some((text, after)) = rest.split_once('"') else { break };
                    if depth == 1 && after.starts_with(':') {
                        names.insert(text);
                    }
                    rest = after;
                }
            }
        }
    }
    names
}

/// Each name that a line reads a member by.
fn read(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("(\"").filter_map(|(at, opening)| {
        let is_read = READS.iter().any(|method| line[..at].ends_with(&format!(".{method}")));
        line[at + opening.len()..].split_once("\")").map(|(name, _)| name).filter(|_| is_read)
    })
}

fn names(tree: &Tree) -> Vec<String> {
    let mut unread = described(tree.text(SCHEMA));
    let described = unread.clone();
    let mut found = Vec::new();
    for file in
        READERS.iter().flat_map(|name| tree.under("runtime/src/wire/").filter(move |file| file.path.ends_with(name)))
    {
        for (number, line, _) in file.code() {
            for name in read(line) {
                unread.remove(name);
                if !described.contains(name) {
                    found.push(format!("{}:{number}: reads `{name}`, which {SCHEMA} does not describe", file.path));
                }
            }
        }
    }
    found.extend(unread.into_iter().map(|name| format!("{SCHEMA}: describes `{name}`, which nothing reads")));
    found
}

#[test]
fn each_member_is_read_under_the_name_that_the_schema_gives_it() {
    assert!(described(Tree::load().text(SCHEMA)).len() > 10, "the schema cannot be read");
    hold(names);
}

#[test]
fn a_member_that_is_read_under_another_name_is_found() {
    let schema = "{\n\"a\": { \"properties\": { \"type\": { \"const\": \"auth\" }, \"offset\": { \"type\": \"integer\" } } } }\n";
    let sound =
        "let kind = members.string(\"type\")?;\nlet at = members.optional_integer(\"offset\")?; // members.id(\"x\")\n";
    let other = sound.replace("offset", "last_offset");
    let wrong = [
        "runtime/src/wire/v1.rs:2: reads `last_offset`, which runtime/schema/v1.client.json does not describe",
        "runtime/schema/v1.client.json: describes `offset`, which nothing reads",
    ];
    let id = "runtime/src/wire/v1.rs:2: reads `x`, which runtime/schema/v1.client.json does not describe";
    finds(names, &[(SCHEMA, schema), ("runtime/src/wire/v1.rs", sound)], &[id]);
    finds(names, &[(SCHEMA, schema), ("runtime/src/wire/v1.rs", &other)], &[wrong[0], id, wrong[1]]);
    finds(names, &[(SCHEMA, schema), ("runtime/src/wire/v1.rs", sound.split(" //").next().unwrap_or_default())], &[]);
}
