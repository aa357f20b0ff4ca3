//! How the built-in agent reads a message: by fixed rules, without understanding.

use serde_json::{Value, json};

use crate::agent::tools::calculator;

/// The most tools that one message calls.
const MAX_CALLS: usize = 6;
/// The most characters of a message that are read.
const MAX_READ: usize = 4_000;

/// Words that belong to the request and not to its subject.
const FILLERS: &[&str] = &[
    "a",
    "about",
    "also",
    "an",
    "and",
    "any",
    "are",
    "can",
    "could",
    "do",
    "docs",
    "document",
    "documents",
    "does",
    "file",
    "files",
    "find",
    "for",
    "grep",
    "how",
    "i",
    "in",
    "is",
    "it",
    "look",
    "me",
    "my",
    "of",
    "on",
    "our",
    "please",
    "say",
    "says",
    "search",
    "tell",
    "that",
    "the",
    "then",
    "there",
    "to",
    "up",
    "was",
    "we",
    "what",
    "where",
    "which",
    "who",
    "with",
    "you",
];

/// A tool and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Calculate(String),
    Clock,
    Search(String),
}

impl Call {
    pub(super) const fn tool(&self) -> &'static str {
        match self {
            Self::Calculate(_) => "calculator",
            Self::Clock => "clock",
            Self::Search(_) => "search",
        }
    }

    pub(super) fn arguments(&self) -> Value {
        match self {
            Self::Calculate(expression) => json!({ "expression": expression }),
            Self::Clock => json!({}),
            Self::Search(query) => json!({ "query": query }),
        }
    }

    /// The tool's result in words.
    pub(super) fn answer(&self, result: &Value) -> String {
        let text = |field: &str| result[field].as_str().unwrap_or_default();
        match self {
            Self::Calculate(expression) => {
                let is = if result["exact"] == true { "=" } else { "≈" };
                format!("{expression} {is} {}", text("result"))
            }
            Self::Clock => format!("It is {}, {} (UTC).", text("weekday"), text("utc")),
            Self::Search(query) => found(query, result),
        }
    }

    /// The tool's error in words.
    pub(super) fn excuse(&self, error: &str) -> String {
        match self {
            Self::Calculate(expression) => format!("I cannot calculate {expression}: {error}."),
            Self::Clock => format!("I cannot tell the time: {error}."),
            Self::Search(query) => format!("I cannot search for \"{query}\": {error}."),
        }
    }
}

fn found(query: &str, result: &Value) -> String {
    if result["documents"] == 0 {
        return format!(
            "I cannot find \"{query}\": there are no documents. The operator can put .txt and .md files into the folder \
             \"documents\" of the data directory."
        );
    }
    let none = Vec::new();
    let matches = result["matches"].as_array().unwrap_or(&none);
    if matches.is_empty() {
        return format!("I found nothing about \"{query}\" in the {} documents.", result["documents"]);
    }
    let line = |found: &Value| {
        let text = |field: &str| found[field].as_str().unwrap_or_default();
        format!("- {}:{}: {}", text("file"), found["line"], text("text"))
    };
    let lines: Vec<String> = matches.iter().map(line).collect();
    format!("The best of {} lines about \"{query}\":\n{}", result["lines"], lines.join("\n"))
}

/// The plan for a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) calls: Vec<Call>,
    pub(super) recall: bool,
    pub(super) count: Option<u64>,
    /// Whether the user is asked before anything is done.
    pub(super) asks: bool,
}

impl Plan {
    pub(super) fn of(text: &str) -> Self {
        let text: String = text.chars().take(MAX_READ).collect();
        let asks = text.to_lowercase().contains("ask me");
        let mut plan = Self { count: count(&text), asks, ..Self::default() };
        if plan.count.is_some() {
            return plan;
        }
        for clause in clauses(&text) {
            plan.read(clause);
        }
        plan.calls.truncate(MAX_CALLS);
        plan
    }

    fn read(&mut self, clause: &str) {
        let lower = clause.to_lowercase();
        let before = self.calls.len();
        if is_recall(&lower) {
            self.recall = true;
            return;
        }
        if is_search(&lower) {
            self.calls.push(Call::Search(subject(clause)));
            return;
        }
        if is_clock(&lower) && !self.calls.contains(&Call::Clock) {
            self.calls.push(Call::Clock);
        }
        self.calls.extend(expressions(clause).into_iter().map(Call::Calculate));
        if self.calls.len() > before {
            return;
        }
        if let Some(at) = ["calculate ", "compute "].iter().find_map(|verb| Some(lower.find(verb)? + verb.len())) {
            // A plain request to calculate is passed on even if it is not an expression, because the error then shows
            // the position. The rest is taken from the lower-case text, because its length may differ from the
            // original's.
            self.calls.push(Call::Calculate(lower[at..].trim().to_owned()));
        } else if let Some(Call::Search(query)) = self.calls.last_mut() {
            let more = subject(clause);
            if !more.is_empty() {
                query.push(' ');
                query.push_str(&more);
            }
        }
    }
}

/// Parses `count to N`.
fn count(text: &str) -> Option<u64> {
    let words: Vec<String> = words(text).map(str::to_lowercase).collect();
    let at = words.windows(2).position(|pair| pair[0] == "count" && pair[1] == "to")?;
    let number = words.get(at + 2)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse().unwrap_or(u64::MAX))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_alphanumeric() && character != '\'').filter(|word| !word.is_empty())
}

/// The parts of a message, cut where one request ends and another may begin. Nothing inside parentheses is cut.
fn clauses(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth, mut at) = (Vec::new(), 0, 0_usize, 0);
    while let Some(character) = text[at..].chars().next() {
        let rest = &text[at..];
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let joint = if depth > 0 && character != '\n' {
            None
        } else if matches!(character, '\n' | ';' | '?' | '!') {
            depth = 0;
            Some(1)
        } else {
            [", ", ". ", " and ", " then "].iter().find(|joint| rest.starts_with(**joint)).map(|joint| joint.len())
        };
        if let Some(length) = joint {
            parts.push(&text[begin..at]);
            begin = at + length;
            at = begin;
        } else {
            at += character.len_utf8();
        }
    }
    parts.push(&text[begin..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn is_recall(lower: &str) -> bool {
    const SIGNS: &[&str] =
        &["what did i", "what have i", "i said before", "i asked before", "my previous", "my last message"];
    SIGNS.iter().any(|sign| lower.contains(sign))
}

fn is_search(lower: &str) -> bool {
    let polite = ["please", "can", "could", "you", "also", "then", "and"];
    let first: Vec<&str> = words(lower).filter(|word| !polite.contains(word)).take(2).collect();
    let verb = matches!(first.as_slice(), ["search" | "find" | "grep", ..] | ["look", "up" | "for"]);
    verb || ["in the documents", "in my documents", "the documents say", "the docs say", "in the docs"]
        .iter()
        .any(|sign| lower.contains(sign))
}

fn is_clock(lower: &str) -> bool {
    const SIGNS: &[&str] = &[
        "what time",
        "the time",
        "time is it",
        "current time",
        "what date",
        "the date",
        "current date",
        "what day",
        "today",
        "clock",
    ];
    SIGNS.iter().any(|sign| lower.contains(sign)) || matches!(lower.trim(), "time" | "date")
}

/// The words to search for.
fn subject(clause: &str) -> String {
    let matters = words(clause).filter(|word| !FILLERS.contains(&word.to_lowercase().as_str()));
    matters.collect::<Vec<_>>().join(" ")
}

/// The arithmetic in a text: the expressions that the calculator can read and that have something to compute.
fn expressions(clause: &str) -> Vec<String> {
    let mut spoken = clause.to_lowercase();
    for (word, sign) in [(" plus ", " + "), (" minus ", " - "), (" times ", " * "), (" divided by ", " / ")] {
        spoken = spoken.replace(word, sign);
    }
    let mut found = Vec::new();
    let mut run = String::new();
    for token in tokens(&spoken) {
        let word = token.chars().all(char::is_alphabetic);
        if token.chars().all(|sign| sign.is_ascii_digit() || sign.is_whitespace() || is_sign(sign))
            || (word && token != "e" && calculator::is_name(token))
        {
            run.push_str(token);
        } else {
            found.extend(expression(&run));
            run.clear();
        }
    }
    found.extend(expression(&run));
    found
}

/// Splits a text into words and single other characters.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = if first.is_alphabetic() {
            rest.find(|character: char| !character.is_alphabetic()).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(end);
        tokens.push(token);
        rest = after;
    }
    tokens
}

const fn is_sign(character: char) -> bool {
    matches!(character, '+' | '-' | '*' | '/' | '%' | '^' | '(' | ')' | '.' | ',' | '×' | '÷' | '−' | '⋅')
}

/// The run as an expression, if it is one that has an operator between two values, or a function.
fn expression(run: &str) -> Option<String> {
    let run = run.trim().trim_end_matches(['.', ',']).trim_start_matches([',', '.', ')']).trim();
    let value = |character: char| character.is_ascii_digit() || character.is_alphabetic();
    let operator = run.char_indices().any(|(at, character)| {
        is_sign(character) && !matches!(character, '(' | ')' | '.' | ',') && run[..at].contains(value)
    });
    let work = operator || (run.contains('(') && run.contains(char::is_alphabetic));
    if !work || !run.contains(value) || is_date(run) {
        return None;
    }
    match calculator::evaluate(run) {
        Err(error) if error.is_syntax() => None,
        Ok(_) | Err(_) => Some(run.to_owned()),
    }
}

/// Whether it is a date: `2026-01-31` is not a subtraction.
fn is_date(run: &str) -> bool {
    let parts: Vec<usize> = run.split('-').map(str::len).collect();
    parts == [4, 2, 2] && run.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}
