//! Describes an action in words, from its `Debug` form.
//!
//! `Cut(ConnectionId(1))` becomes *cut connection 1*, `Expire(Idle)` becomes *expire idle*. A model with better
//! descriptions [depicts](crate::Proof::depict) its steps itself.

/// Returns the words of a value's `Debug` form. Text in any other form is returned unchanged.
pub fn phrase(debug: &str) -> String {
    let mut reader = Reader { rest: debug.trim() };
    match reader.value() {
        Some(words) if reader.rest.is_empty() => words,
        Some(_) | None => debug.to_owned(),
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token).map(str::trim_start);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Reads the characters of a name or a number.
    fn word(&mut self) -> Option<&'a str> {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        (!word.is_empty()).then_some(word)
    }

    fn value(&mut self) -> Option<String> {
        if self.skip("[") {
            return Some(self.list("]")?.join(", "));
        }
        if self.skip("(") {
            return Some(self.list(")")?.join(", "));
        }
        let name = self.word()?;
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            return Some(name.to_owned());
        }
        let words = words(name);
        if self.skip("(") {
            let inside = self.list(")")?.join(", ");
            return Some(match name {
                "Some" => inside,
                _ => format!("{words} {inside}"),
            });
        }
        if self.skip("{") {
            let mut fields = Vec::new();
            while !self.skip("}") {
                let field = self.word()?;
                if !self.skip(":") {
                    return None;
                }
                fields.push(format!("{} {}", field.replace('_', " "), self.value()?));
                self.skip(",");
            }
            return Some(format!("{words} ({})", fields.join(", ")));
        }
        Some(words)
    }

    fn list(&mut self, end: &str) -> Option<Vec<String>> {
        let mut all = Vec::new();
        while !self.skip(end) {
            all.push(self.value()?);
            self.skip(",");
        }
        Some(all)
    }
}

/// `ServerNotices` as *server notices*, `ConnectionId` as *connection*.
fn words(name: &str) -> String {
    let name = name.strip_suffix("Id").filter(|rest| !rest.is_empty()).unwrap_or(name);
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}
