//! Formulas that CommonMark's rules would take apart: `\(…\)`, `\[…\]` and `$$…$$`. Each is replaced by one character
//! of a private-use plane before the text is parsed, so that nothing in it becomes a list, a table or emphasis. If such
//! a character appears in code, in an address or in markup, it is replaced by the source again.

/// The character for the first formula, and the most formulas.
const FIRST: u32 = 0xF_0000;
const MOST: usize = 0xFFFD;

/// A formula: its source, and its original text.
pub(super) struct Formula {
    pub(super) tex: String,
    pub(super) is_display: bool,
    whole: String,
}

/// A text without its formulas, and the formulas.
#[derive(Default)]
pub(super) struct Formulas {
    pub(super) text: String,
    found: Vec<Formula>,
}

impl Formulas {
    /// Extracts the formulas. A text that itself uses characters of that plane is left as it is.
    pub(super) fn of(text: &str) -> Self {
        let mut taken = Self { text: String::with_capacity(text.len()), found: Vec::new() };
        let mut rest = text;
        // The beginning of the current line.
        let mut line = 0;
        let is_free = !text.chars().any(|c| index(c).is_some());
        while is_free && let Some(at) = rest.find(['\\', '$']) {
            let found = &rest[at..];
            line = rest[..at].rfind('\n').map_or(line, |end| taken.text.len() + end + 1);
            taken.text.push_str(&rest[..at]);
            rest = match formula(found, quotes(&taken.text[line..])) {
                Some(formula) if taken.found.len() < MOST => {
                    let rest = &found[formula.whole.len()..];
                    taken.text.push(placeholder(taken.found.len()));
                    taken.found.push(formula);
                    rest
                }
                _ => {
                    let (skipped, rest) = found.split_at(passed(found));
                    line = skipped.rfind('\n').map_or(line, |end| taken.text.len() + end + 1);
                    taken.text.push_str(skipped);
                    rest
                }
            };
        }
        taken.text.push_str(rest);
        taken
    }

    /// The formula that a character represents.
    pub(super) fn get(&self, c: char) -> Option<&Formula> {
        index(c).and_then(|index| self.found.get(index))
    }

    /// A piece of the text with its formulas replaced by their source.
    pub(super) fn restored(&self, piece: &str) -> String {
        let mut whole = String::with_capacity(piece.len());
        for c in piece.chars() {
            match self.get(c) {
                Some(formula) => whole.push_str(&formula.whole),
                None => whole.push(c),
            }
        }
        whole
    }
}

fn placeholder(index: usize) -> char {
    u32::try_from(index).ok().and_then(|index| char::from_u32(FIRST + index)).expect("there are no more than that")
}

fn index(c: char) -> Option<usize> {
    (c as u32).checked_sub(FIRST).map(|index| index as usize).filter(|index| *index < MOST)
}

/// The number of bytes to skip after a backslash or a dollar that begins no formula: an escaped character opens none.
fn passed(text: &str) -> usize {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some('\\'), Some(escaped)) => 1 + escaped.len_utf8(),
        (Some('$'), Some('$')) => 2,
        _ => 1,
    }
}

/// The formula that a text begins with. It contains no empty line and no code, and no other formula begins in it.
fn formula(text: &str, quotes: usize) -> Option<Formula> {
    let close = match text.get(..2)? {
        r"\(" => r"\)",
        r"\[" => r"\]",
        "$$" => "$$",
        _ => return None,
    };
    let inner = &text[2..];
    let mut at = 0;
    loop {
        let rest = &inner[at..];
        if rest.starts_with(close) {
            break;
        }
        let next = rest.chars().next()?;
        at += match next {
            '\\' if rest.starts_with(r"\(") || rest.starts_with(r"\[") => return None,
            '\\' => passed(rest),
            '`' => return None,
            '~' if rest.starts_with("~~~") => return None,
            '\n' if is_blank(&rest[1..]) => return None,
            _ => next.len_utf8(),
        };
    }
    let whole = &text[..at + 4];
    // `\[a\](b)` shows how to write a link.
    let is_link = close == r"\]" && text[at + 4..].starts_with('(');
    let tex = unquoted(&inner[..at], quotes);
    (!is_link && !tex.trim().is_empty()).then(|| Formula { tex, is_display: close != r"\)", whole: whole.to_owned() })
}

/// Whether the line contains only white space and quote markers.
fn is_blank(text: &str) -> bool {
    let line = text.split('\n').next().unwrap_or_default();
    line.chars().all(|c| c.is_whitespace() || c == '>')
}

/// The number of quotes that enclose the line.
fn quotes(line: &str) -> usize {
    line.chars().take_while(|c| [' ', '\t', '>'].contains(c)).filter(|c| *c == '>').count()
}

/// Removes the quote markers from lines.
fn unquoted(tex: &str, quotes: usize) -> String {
    let mut lines = tex.split('\n');
    let mut whole = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        let mut line = line;
        for _ in 0..quotes {
            line = line.trim_start().strip_prefix('>').unwrap_or(line);
        }
        whole.push('\n');
        whole.push_str(line);
    }
    whole
}
