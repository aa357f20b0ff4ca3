//! LaTeX as MathML Core, in JsonML:
//! `["math", {"display": "block"}?, ["semantics", ["mrow", …], ["annotation", {"encoding": …}, source]]]`.
//!
//! A library converts LaTeX to MathML. This module parses its output and keeps only the elements and attributes that
//! are named below. Styles are replaced by classes, because the page's content security policy forbids inline styles.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use math_core::{LatexToMathML, MathCoreConfig, MathDisplay};

/// The most bytes of a formula's source, and of its tree.
const MAX_SOURCE: usize = 4 * 1024;
const MAX_TREE: usize = 128 * 1024;

/// The deepest nesting of braces in a source, and of elements in a tree.
const MAX_BRACES: usize = 40;
const MAX_DEPTH: usize = 48;

const ELEMENTS: &[&str] = &[
    "mfrac",
    "mi",
    "mmultiscripts",
    "mn",
    "mo",
    "mover",
    "mpadded",
    "mphantom",
    "mprescripts",
    "mroot",
    "mrow",
    "mspace",
    "msqrt",
    "msub",
    "msubsup",
    "msup",
    "mtable",
    "mtd",
    "mtext",
    "mtr",
    "munder",
    "munderover",
];

const ATTRIBUTES: &[&str] = &[
    "accent",
    "accentunder",
    "depth",
    "displaystyle",
    "form",
    "height",
    "largeop",
    "linethickness",
    "lspace",
    "mathvariant",
    "maxsize",
    "minsize",
    "movablelimits",
    "rspace",
    "scriptlevel",
    "stretchy",
    "symmetric",
    "width",
];

/// Styles, and the class for each.
const CLASSES: &[(&str, &str)] = &[
    ("text-align: left", "left"),
    ("text-align: right", "right"),
    ("border-left:", "line-left"),
    ("border-right:", "line-right"),
    ("border-top:", "line-top"),
    ("border-bottom:", "line-bottom"),
    ("width: 100%", "wide"),
    ("width: 50%", "half"),
];

/// Commands that the library lacks.
const MACROS: &[(&str, &str)] = &[
    ("abs", r"\left|#1\right|"),
    ("argmax", r"\operatorname*{argmax}"),
    ("argmin", r"\operatorname*{argmin}"),
    ("boxed", r"\begin{array}{|c|}\hline\displaystyle{#1}\\\hline\end{array}"),
    ("hdots", r"\dots"),
    ("mathds", r"\mathbb{#1}"),
    ("norm", r"\left\lVert#1\right\rVert"),
    ("pmb", r"\boldsymbol{#1}"),
    ("qed", r"\square"),
    ("smash", "{#1}"),
    ("substack", r"\begin{matrix}#1\end{matrix}"),
    ("textcolor", "{#2}"),
    ("widetilde", r"\tilde{#1}"),
];

/// Commands for the font size, which is left unchanged.
const SIZES: &[&str] = &["tiny", "small", "normalsize", "large", "Large", "LARGE", "huge", "Huge"];

static LIBRARY: LazyLock<LatexToMathML> = LazyLock::new(|| {
    let macros = MACROS.iter().map(|(name, what)| ((*name).to_owned(), (*what).to_owned())).collect();
    let config = MathCoreConfig { macros, ..MathCoreConfig::default() };
    LatexToMathML::new(config).expect("the macros are LaTeX")
});

/// The tree of a formula, unless its source is not LaTeX or is too large.
pub(super) fn of(source: &str, is_display: bool) -> Option<String> {
    let source = source.trim();
    if source.is_empty() || source.len() > MAX_SOURCE || braces(source) > MAX_BRACES {
        return None;
    }
    let tex = known(source, is_display);
    let display = if is_display { MathDisplay::Block } else { MathDisplay::Inline };
    // If the library panics, only this formula cannot be shown; the rest of the answer can.
    let made = catch_unwind(AssertUnwindSafe(|| LIBRARY.convert_with_local_state(&tex, display)));
    let made = made.ok()?.ok()?.mathml;
    let inner = made.split_once('>')?.1.strip_suffix("</math>")?;
    let mut reader = Reader { json: head(is_display), open: Vec::new() };
    reader.read(inner)?;
    let mut json = reader.json;
    json.push_str("],[\"annotation\",{\"encoding\":\"application/x-tex\"},");
    string(&mut json, source);
    json.push_str("]]]");
    Some(json)
}

fn head(is_display: bool) -> String {
    let display = if is_display { ",{\"display\":\"block\"}" } else { "" };
    format!("[\"math\"{display},[\"semantics\",[\"mrow\"")
}

fn string(json: &mut String, text: &str) {
    json.push_str(&serde_json::to_string(text).expect("a string is JSON"));
}

/// The deepest nesting of braces.
fn braces(source: &str) -> usize {
    let mut open = 0usize;
    let depths = source.bytes().map(|byte| {
        match byte {
            b'{' => open += 1,
            b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open
    });
    depths.max().unwrap_or(0)
}

/// Rewrites a source to the commands that the library supports.
fn known(source: &str, is_display: bool) -> String {
    let mut tex = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find('\\') {
        tex.push_str(&rest[..at]);
        let command = &rest[at..];
        let length = command[1..].find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(command.len() - 1);
        let other = command[1..].chars().next().map_or(0, char::len_utf8);
        let (name, after) = command.split_at(1 + if length == 0 { other } else { length });
        let environment = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        rest = after;
        match (name, environment) {
            (r"\\", _) => {
                tex.push_str(name);
                rest = without_gap(after);
            }
            (name, _) if SIZES.contains(&&name[1..]) => {}
            (r"\mbox" | r"\hbox" | r"\textnormal", _) => tex.push_str(r"\text"),
            (r"\begin" | r"\end", Some((environment, after))) => {
                let environment = match environment {
                    "split" => "aligned",
                    "smallmatrix" => "matrix",
                    environment => environment,
                };
                tex.push_str(&format!("{name}{{{environment}}}"));
                rest = if name == r"\begin" { without_place(after) } else { after };
            }
            _ => tex.push_str(name),
        }
    }
    tex.push_str(rest);
    let is_tagged = [r"\tag", r"\label"].iter().any(|name| source.contains(name));
    let is_numbered = ["align", "equation", "gather", "multline"]
        .iter()
        .any(|name| ["}", "*}"].iter().any(|end| tex.contains(&format!("\\begin{{{name}{end}"))));
    if is_display && is_tagged && !is_numbered { format!(r"\begin{{equation*}}{tex}\end{{equation*}}") } else { tex }
}

/// The text after the end of a line, without an optional gap such as in `\\[6pt]`.
fn without_gap(text: &str) -> &str {
    let gap = text.strip_prefix('*').unwrap_or(text).trim_start().strip_prefix('[').and_then(|gap| gap.split_once(']'));
    let is_length = |gap: &str| {
        let unit = gap.trim().trim_start_matches(['-', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']).trim();
        unit.len() == 2 && unit.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    gap.filter(|(gap, _)| is_length(gap)).map_or(text, |(_, after)| after)
}

/// The text after the beginning of an environment, without an optional position such as in `\begin{aligned}[t]`.
fn without_place(text: &str) -> &str {
    ["[t]", "[b]", "[c]"].iter().find_map(|place| text.strip_prefix(place)).unwrap_or(text)
}

/// Parses the library's MathML.
struct Reader {
    json: String,
    /// The open elements: true if the element was written.
    open: Vec<bool>,
}

impl Reader {
    /// Returns `None` if it is too deep or too large, or not in the library's format.
    fn read(&mut self, mathml: &str) -> Option<()> {
        let mut rest = mathml;
        while let Some((text, tag)) = rest.split_once('<') {
            self.text(text);
            let (tag, after) = tag.split_once('>')?;
            if tag.starts_with('/') {
                self.close()?;
            } else {
                self.open(tag.strip_suffix('/').unwrap_or(tag));
                if tag.ends_with('/') {
                    self.close()?;
                }
            }
            if self.open.len() > MAX_DEPTH || self.json.len() > MAX_TREE {
                return None;
            }
            rest = after;
        }
        self.text(rest);
        self.open.is_empty().then_some(())
    }

    fn open(&mut self, tag: &str) {
        let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
        let is_struck = name == "menclose";
        let name = ELEMENTS.iter().find(|known| **known == name).copied().or(is_struck.then_some("mrow"));
        self.open.push(name.is_some());
        let Some(name) = name else { return };
        self.json.push_str(",[");
        string(&mut self.json, name);
        let mut classes: Vec<&str> = if is_struck { vec!["struck"] } else { Vec::new() };
        let mut attributes = Vec::new();
        while let Some((name, value)) = rest.split_once("=\"") {
            let (value, after) = value.split_once('"').unwrap_or((value, ""));
            let name = name.trim();
            if name == "style" {
                classes.extend(CLASSES.iter().filter(|(style, _)| value.contains(style)).map(|(_, class)| class));
            } else if let Some(name) = ATTRIBUTES.iter().find(|known| **known == name)
                && is_plain(value)
            {
                attributes.push((*name, value.to_owned()));
            }
            rest = after;
        }
        // The library omits the line at the end of a table that has one at its top.
        if name == "mtable" && ["line-left", "line-top"].iter().all(|line| classes.contains(line)) {
            classes.push("line-bottom");
        }
        if !classes.is_empty() {
            attributes.push(("class", classes.join(" ")));
        }
        for (index, (name, value)) in attributes.iter().enumerate() {
            self.json.push_str(if index == 0 { ",{" } else { "," });
            string(&mut self.json, name);
            self.json.push(':');
            string(&mut self.json, value);
        }
        if !attributes.is_empty() {
            self.json.push('}');
        }
    }

    fn close(&mut self) -> Option<()> {
        if self.open.pop()? {
            self.json.push(']');
        }
        Some(())
    }

    fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let mut plain = text.to_owned();
        for (entity, what) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")] {
            plain = plain.replace(entity, what);
        }
        self.json.push(',');
        string(&mut self.json, &plain);
    }
}

/// Whether a value is a length, a number or a word.
fn is_plain(value: &str) -> bool {
    value.len() <= 24 && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
}
