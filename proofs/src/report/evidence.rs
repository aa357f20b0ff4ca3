//! The evidence for each property: the models and core scenarios that check it, and the mistakes that it must refuse.
//!
//! The lists come from the code that runs: a model's properties, a race's expected properties, a scenario's obligation.
//! A row therefore states exactly what `prove check`, `prove races` and `prove core` would do.

use std::fmt::Write as _;

use lockstep_core_proofs::{Broken, Obligation, obligations, variants};

use crate::engine::checkable::Checkable;
use crate::engine::proof::Kind;
use crate::engine::property;
use crate::engine::race::{Race, RaceKind};
use crate::report::escape::escape;
use crate::report::html;

/// The evidence for one property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The property's id.
    pub id: &'static str,
    /// Its sentence.
    pub sentence: &'static str,
    /// The models that check it in every state, or on every path.
    pub models: Vec<&'static str>,
    /// The models that show that its premise is reached, each with the premise.
    pub premises: Vec<(&'static str, &'static str)>,
    /// The scenarios of the concurrent core that assert it in every interleaving.
    pub scenarios: Vec<&'static str>,
    /// The broken variants of machines and of the core that must be refused because of it.
    pub refuses: Vec<&'static str>,
}

/// Returns one row per property, in the order of [`property::SENTENCES`].
#[must_use]
pub fn rows(models: &[Box<dyn Checkable>], races: &[Race]) -> Vec<Evidence> {
    let (obligations, variants) = (obligations(), variants());
    let row = |(id, sentence): &(&'static str, &'static str)| {
        let (id, sentence) = (*id, *sentence);
        let checks = |model: &dyn Checkable| {
            model.property_names().iter().any(|(name, kind)| *name == id && *kind != Kind::Sometimes)
        };
        let premises = models.iter().flat_map(|model| {
            let of = |name: &str| name.split_once('.').is_some_and(|(property, _)| property == id);
            let names =
                model.property_names().into_iter().filter(move |(name, kind)| *kind == Kind::Sometimes && of(name));
            names.map(|(name, _)| (model.name(), name))
        });
        let refused = races.iter().filter(|race| match race.kind {
            RaceKind::Refused(_) | RaceKind::Untypable { .. } => race.expected.contains(&id),
        });
        let broken = variants.iter().filter(|variant| variant.id() == id);
        Evidence {
            id,
            sentence,
            models: models.iter().filter(|model| checks(&***model)).map(|model| model.name()).collect(),
            premises: premises.collect(),
            scenarios: obligations.iter().filter(|one| one.id() == id).map(Obligation::name).collect(),
            refuses: refused.map(|race| race.id).chain(broken.map(Broken::name)).collect(),
        }
    };
    property::SENTENCES.iter().map(row).collect()
}

/// Returns the rows as text.
#[must_use]
pub fn text(rows: &[Evidence]) -> String {
    let mut text = String::new();
    for row in rows {
        let _ = writeln!(text, "{}  {}", row.id, row.sentence);
        for (name, values) in columns(row) {
            if !values.is_empty() {
                let _ = writeln!(text, "    {name:10} {}", values.join(", "));
            }
        }
    }
    text
}

/// Returns the rows as one self-contained HTML page.
#[must_use]
pub fn page(rows: &[Evidence]) -> String {
    let mut body = String::from(
        "<h1>Evidence</h1>\n<div class=\"scroll\"><table>\n<tr><th>property<th>checked by<th>premises<th>core<th>refuses</tr>\n",
    );
    for row in rows {
        let _ = write!(body, "<tr id=\"{0}\"><td><code>{0}</code> {1}", row.id, escape(row.sentence));
        for (_, values) in columns(row) {
            let _ = write!(body, "<td>{}", escape(&values.join(", ")));
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</table></div>\n");
    html::document("Evidence", &body)
}

fn columns(row: &Evidence) -> [(&'static str, Vec<String>); 4] {
    let own = |values: &[&'static str]| values.iter().map(|value| (*value).to_owned()).collect();
    let premises = row.premises.iter().map(|(model, premise)| format!("{premise} in {model}")).collect();
    [
        ("checked by", own(&row.models)),
        ("premises", premises),
        ("core", own(&row.scenarios)),
        ("refuses", own(&row.refuses)),
    ]
}
