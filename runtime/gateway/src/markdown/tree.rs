//! GitHub-flavoured Markdown as JsonML: text is a string, an element is `[name, {attributes}?, child…]`.
//!
//! | element | attributes | meaning |
//! | --- | --- | --- |
//! | `div` | | the whole text |
//! | `p` `blockquote` `ul` `li` `em` `strong` `del` `hr` `br` `code` | | as in HTML |
//! | `h3` … `h6` | | a heading; the page uses the levels above, and no level is skipped |
//! | `ol` | `start` | an ordered list |
//! | `pre` | `language` | a code block, with the first word after its fence |
//! | `table` `thead` `tbody` `tr` `th` `td` | `align` of a cell | a table |
//! | `a` | `href` | a link, or an image with its alternative text: nothing is loaded |
//! | `task` | `done` | the checkbox of a task |
//! | `noteref` `note` | `number` | a footnote's reference, and its text |
//! | `alert` | `kind` | a quote that begins with `[!NOTE]`, `[!TIP]` and so on |
//! | `math` | `display` | a formula, with the elements that `math.rs` lists; LaTeX that cannot be shown is `code` |
//!
//! HTML in a text is shown as text, except `<br>`, which tables need and which is a line break. A link with a scheme
//! other than `http`, `https` and `mailto` is shown as its text.

use core::ops::Range;
use std::collections::HashMap;

use pulldown_cmark::{
    Alignment, BlockQuoteKind, CodeBlockKind, CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd,
    TextMergeWithOffset,
};

use super::formulas::Formulas;
use super::math;

/// The deepest nesting of elements. A deeper element is left out; its text is kept.
const MAX_DEPTH: usize = 48;

/// The top-level headings of an answer are below those of the page.
const HEADINGS: [&str; 4] = ["h3", "h4", "h5", "h6"];

/// Parses a text. `None` if its tree would have more than `most` bytes.
pub(super) fn of(text: &str, most: usize) -> Option<String> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_MATH
        | Options::ENABLE_GFM;
    let formulas = Formulas::of(text);
    let text = &formulas.text;
    let mut writer = Writer::new(&formulas);
    for (event, place) in TextMergeWithOffset::new(Parser::new_ext(text, options).into_offset_iter()) {
        if let Event::InlineMath(tex) = &event
            && is_price(text, &place)
        {
            writer.text(&format!("${tex}$"));
        } else {
            writer.take(event);
        }
        if writer.json.len() > most {
            return None;
        }
    }
    writer.json.push(']');
    Some(writer.json)
}

/// Writes each element as it begins and ends, so that nesting in a text does not use our stack.
struct Writer<'a> {
    json: String,
    formulas: &'a Formulas,
    /// The open elements: true if the element was written, false if it is left out.
    open: Vec<bool>,
    /// The number of open elements that were written.
    depth: usize,
    /// The levels of the headings that enclose the newest one, as in the text.
    headings: Vec<HeadingLevel>,
    notes: HashMap<CowStr<'a>, usize>,
    /// The number of open links and images. A link inside a link is text.
    links: usize,
    /// Where the alternative texts of open images begin.
    images: Vec<usize>,
    /// The lines so far of the current code or HTML block.
    lines: Option<String>,
    columns: Vec<Alignment>,
    column: usize,
    in_head: bool,
}

impl<'a> Writer<'a> {
    fn new(formulas: &'a Formulas) -> Self {
        Self {
            json: "[\"div\"".to_owned(),
            formulas,
            open: Vec::new(),
            depth: 0,
            headings: Vec::new(),
            notes: HashMap::new(),
            links: 0,
            images: Vec::new(),
            lines: None,
            columns: Vec::new(),
            column: 0,
            in_head: false,
        }
    }

    fn take(&mut self, event: Event<'a>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match &mut self.lines {
                Some(lines) => lines.push_str(&text),
                None => self.prose(&text),
            },
            Event::Html(text) => match &mut self.lines {
                Some(lines) => lines.push_str(&text),
                None => self.text(&text),
            },
            Event::InlineHtml(html) if is_break(&html) => self.empty("br", &[]),
            Event::InlineHtml(text) => self.text(&text),
            Event::Code(text) => self.code(&text),
            Event::InlineMath(tex) => self.math(&self.formulas.restored(&tex), false),
            Event::DisplayMath(tex) => self.math(&self.formulas.restored(&tex), true),
            Event::FootnoteReference(label) => {
                let number = self.note(label);
                self.empty("noteref", &[("number", &number)]);
            }
            Event::SoftBreak => self.text("\n"),
            Event::HardBreak => self.empty("br", &[]),
            Event::Rule => self.empty("hr", &[]),
            Event::TaskListMarker(done) => self.empty("task", &[("done", if done { "true" } else { "false" })]),
        }
    }

    fn start(&mut self, tag: Tag<'a>) {
        match tag {
            Tag::Paragraph => self.open("p", &[]),
            Tag::Heading { level, .. } => {
                let name = self.heading(level);
                self.open(name, &[]);
            }
            Tag::BlockQuote(None) => self.open("blockquote", &[]),
            Tag::BlockQuote(Some(kind)) => self.open("alert", &[("kind", alert(kind))]),
            Tag::CodeBlock(kind) => {
                let language = [("language", language(&kind))];
                self.open("pre", if language[0].1.is_empty() { &[] } else { &language });
                self.lines = Some(String::new());
            }
            Tag::HtmlBlock => {
                self.open("p", &[]);
                self.lines = Some(String::new());
            }
            Tag::List(None) => self.open("ul", &[]),
            Tag::List(Some(first)) => self.open("ol", &[("start", &first.to_string())]),
            Tag::Item => self.open("li", &[]),
            Tag::FootnoteDefinition(label) => {
                let number = self.note(label);
                self.open("note", &[("number", &number)]);
            }
            Tag::Table(columns) => {
                self.columns = columns;
                self.open("table", &[]);
            }
            Tag::TableHead => {
                self.open("thead", &[]);
                self.row(true);
            }
            Tag::TableRow => self.row(false),
            Tag::TableCell => self.cell(),
            Tag::Emphasis => self.open("em", &[]),
            Tag::Strong => self.open("strong", &[]),
            Tag::Strikethrough => self.open("del", &[]),
            Tag::Link { link_type: LinkType::Email, dest_url, .. } => self.link(&format!("mailto:{dest_url}")),
            Tag::Link { dest_url, .. } => self.link(&dest_url),
            Tag::Image { dest_url, .. } => {
                self.link(&dest_url);
                self.images.push(self.json.len());
            }
            // The options do not enable these. Their text is kept.
            Tag::Superscript
            | Tag::Subscript
            | Tag::DefinitionList
            | Tag::DefinitionListTitle
            | Tag::DefinitionListDefinition
            | Tag::MetadataBlock(_) => self.open.push(false),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::CodeBlock | TagEnd::HtmlBlock => {
                let lines = self.lines.take().unwrap_or_default();
                self.text(lines.strip_suffix('\n').unwrap_or(&lines));
            }
            TagEnd::TableHead => {
                self.close();
                self.close();
                return self.open("tbody", &[]);
            }
            TagEnd::Table => self.close(),
            TagEnd::Link => self.links -= 1,
            TagEnd::Image => {
                self.links -= 1;
                if self.images.pop() == Some(self.json.len()) {
                    self.text("image");
                }
            }
            TagEnd::Paragraph
            | TagEnd::Heading(_)
            | TagEnd::BlockQuote(_)
            | TagEnd::List(_)
            | TagEnd::Item
            | TagEnd::FootnoteDefinition
            | TagEnd::TableRow
            | TagEnd::TableCell
            | TagEnd::Emphasis
            | TagEnd::Strong
            | TagEnd::Strikethrough
            | TagEnd::Superscript
            | TagEnd::Subscript
            | TagEnd::DefinitionList
            | TagEnd::DefinitionListTitle
            | TagEnd::DefinitionListDefinition
            | TagEnd::MetadataBlock(_) => {}
        }
        self.close();
    }

    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        let written = self.depth < MAX_DEPTH;
        self.open.push(written);
        if !written {
            return;
        }
        self.depth += 1;
        self.json.push_str(",[");
        self.string(name);
        for (index, (name, value)) in attributes.iter().enumerate() {
            self.json.push_str(if index == 0 { ",{" } else { "," });
            self.string(name);
            self.json.push(':');
            self.string(value);
        }
        if !attributes.is_empty() {
            self.json.push('}');
        }
    }

    fn close(&mut self) {
        if self.open.pop() == Some(true) {
            self.depth -= 1;
            self.json.push(']');
        }
    }

    fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.open(name, attributes);
        self.close();
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.json.push(',');
            self.string(text);
        }
    }

    fn string(&mut self, text: &str) {
        self.json.push_str(&serde_json::to_string(&self.formulas.restored(text)).expect("a string is JSON"));
    }

    fn code(&mut self, text: &str) {
        self.open("code", &[]);
        self.text(text);
        self.close();
    }

    /// Writes a formula, or its source as code if it cannot be shown.
    fn math(&mut self, tex: &str, is_display: bool) {
        match math::of(tex, is_display) {
            Some(tree) => {
                self.json.push(',');
                self.json.push_str(&tree);
            }
            None => self.code(tex.trim()),
        }
    }

    /// Writes text that may contain formulas.
    fn prose(&mut self, text: &str) {
        let formulas = self.formulas;
        let mut rest = text;
        while let Some((at, c, formula)) = rest.char_indices().find_map(|(at, c)| Some((at, c, formulas.get(c)?))) {
            self.linked(&rest[..at]);
            self.math(&formula.tex, formula.is_display);
            rest = &rest[at + c.len_utf8()..];
        }
        self.linked(rest);
    }

    /// One level below the heading that it belongs to, independent of its level in the text.
    fn heading(&mut self, level: HeadingLevel) -> &'static str {
        while self.headings.pop_if(|above| *above >= level).is_some() {}
        let name = HEADINGS[self.headings.len().min(HEADINGS.len() - 1)];
        self.headings.push(level);
        name
    }

    /// The number of a footnote, in order of appearance.
    fn note(&mut self, label: CowStr<'a>) -> String {
        let next = self.notes.len() + 1;
        self.notes.entry(label).or_insert(next).to_string()
    }

    fn row(&mut self, in_head: bool) {
        self.in_head = in_head;
        self.column = 0;
        self.open("tr", &[]);
    }

    fn cell(&mut self) {
        let align = match self.columns.get(self.column) {
            Some(Alignment::Left) => Some("left"),
            Some(Alignment::Center) => Some("center"),
            Some(Alignment::Right) => Some("right"),
            Some(Alignment::None) | None => None,
        };
        self.column += 1;
        let name = if self.in_head { "th" } else { "td" };
        match align {
            Some(align) => self.open(name, &[("align", align)]),
            None => self.open(name, &[]),
        }
    }

    fn link(&mut self, url: &str) {
        self.links += 1;
        if self.links == 1 && is_safe(url) {
            self.open("a", &[("href", url)]);
        } else {
            self.open.push(false);
        }
    }

    /// Writes text in which addresses become links.
    fn linked(&mut self, text: &str) {
        let mut rest = text;
        while self.links == 0
            && let Some((start, end)) = address(rest)
        {
            self.text(&rest[..start]);
            self.link(&rest[start..end]);
            self.text(&rest[start..end]);
            self.close();
            self.links -= 1;
            rest = &rest[end..];
        }
        self.text(rest);
    }
}

fn alert(kind: BlockQuoteKind) -> &'static str {
    match kind {
        BlockQuoteKind::Note => "note",
        BlockQuoteKind::Tip => "tip",
        BlockQuoteKind::Important => "important",
        BlockQuoteKind::Warning => "warning",
        BlockQuoteKind::Caution => "caution",
    }
}

/// The first word after a fence.
fn language<'a>(kind: &'a CodeBlockKind<'_>) -> &'a str {
    match kind {
        CodeBlockKind::Fenced(info) => info.split([' ', '\t', ',', '{']).next().unwrap_or_default(),
        CodeBlockKind::Indented => "",
    }
}

/// Whether the dollars at both ends of a range belong to prices or shell variables: a letter or digit outside touches
/// one.
fn is_price(text: &str, place: &Range<usize>) -> bool {
    let bytes = text.as_bytes();
    let before = place.start.checked_sub(1).and_then(|at| bytes.get(at));
    [before, bytes.get(place.end)].into_iter().flatten().any(u8::is_ascii_alphanumeric)
}

fn is_break(html: &str) -> bool {
    ["<br>", "<br/>", "<br />"].iter().any(|tag| tag.eq_ignore_ascii_case(html))
}

/// Whether following the link only leaves the page.
fn is_safe(url: &str) -> bool {
    let begins = |scheme: &&str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    ["https://", "http://", "mailto:"].iter().any(begins)
}

/// The position of the first address in a text, by GitHub's rules (GFM 0.29 §6.9): up to white space or `<`, without
/// the punctuation of the surrounding sentence.
fn address(text: &str) -> Option<(usize, usize)> {
    let begins = |at: usize| text[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric());
    let mut starts = text.match_indices("http").map(|(at, _)| at).filter(|at| begins(*at));
    starts.find_map(|start| {
        let found = &text[start..];
        let host = ["https://", "http://"].iter().find_map(|scheme| found.strip_prefix(scheme))?;
        let address = &found[..found.find(|c: char| c.is_whitespace() || c == '<').unwrap_or(found.len())];
        let length = without_end(address);
        (length > found.len() - host.len()).then_some((start, start + length))
    })
}

/// The length of an address without the punctuation that follows it.
fn without_end(address: &str) -> usize {
    let mut unmatched = address.matches(')').count().saturating_sub(address.matches('(').count());
    let kept = address.trim_end_matches(|c| match c {
        ')' if unmatched > 0 => {
            unmatched -= 1;
            true
        }
        _ => matches!(c, '?' | '!' | '.' | ',' | ':' | ';' | '*' | '_' | '~' | '\'' | '"'),
    });
    kept.len()
}
