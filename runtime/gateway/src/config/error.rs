//! Configuration errors. They name the field, and the environment variable if one sets it.

use core::fmt;

use figment::error::Kind;
use figment::providers::Env;

use super::MachineBounds;

/// The prefix of the variables.
const PREFIX: &str = "LOCKSTEP_";

/// The separator between a table and its field.
const SEPARATOR: &str = "__";

/// Variables that are flags of the command and not fields: `LOCKSTEP_CONFIG`, `LOCKSTEP_LOG_FILTER`.
const NOT_FIELDS: [&str; 2] = ["config", "log_filter"];

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub(super) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for ConfigError {}

/// A rule that a configuration violates.
pub(super) struct Broken {
    /// The fields and tables that the rule concerns.
    fields: Vec<String>,
    /// A sentence that names them.
    rule: String,
}

impl Broken {
    pub(super) fn new(field: &str, rule: &str) -> Self {
        Self { fields: vec![field.to_owned()], rule: format!("`{field}` {rule}") }
    }

    /// A violated rule of the machines, which use other names for their bounds.
    pub(super) fn of_bounds(rule: &str) -> Self {
        let mut broken = Self { fields: Vec::new(), rule: String::new() };
        // Every second piece is a name between backticks.
        for (index, piece) in rule.split('`').enumerate() {
            match MachineBounds::field(piece).filter(|_| index % 2 == 1) {
                Some(name) => {
                    let field = format!("bounds.{name}");
                    broken.rule += &format!("`{field}`");
                    broken.fields.push(field);
                }
                None => broken.rule += piece,
            }
        }
        broken
    }

    pub(super) fn explain(self, environment: &Env) -> ConfigError {
        let variables = variables(environment, &self.fields);
        ConfigError(format!("{}{}", self.rule, variables.unwrap_or_default()))
    }
}

/// Checks a field's least value.
pub(super) fn at_least(field: &str, value: u64, least: u64) -> Result<(), Broken> {
    if value < least { Err(Broken::new(field, &format!("must be at least {least}"))) } else { Ok(()) }
}

/// The environment variables that are configuration.
pub(super) fn environment() -> Env {
    Env::prefixed(PREFIX).ignore(&NOT_FIELDS).split(SEPARATOR)
}

/// Names the invalid field and where it was set.
pub(super) fn explain(error: &figment::Error, environment: &Env) -> ConfigError {
    let mut lines = Vec::new();
    for error in error.clone() {
        let at = if error.path.is_empty() { String::new() } else { format!("`{}`: ", error.path.join(".")) };
        let mut path = error.path;
        if let Kind::UnknownField(name, _) = &error.kind
            && path.last() != Some(name)
        {
            path.push(name.clone());
        }
        let source = variables(environment, &[path.join(".")]).unwrap_or_else(|| match &error.metadata {
            Some(metadata) => format!(" (from {})", metadata.name),
            None => String::new(),
        });
        lines.push(format!("{at}{}{source}", error.kind));
    }
    ConfigError(lines.join("\n"))
}

/// The variables that set one of these fields, a field of these tables, or a parent of one of these.
fn variables(environment: &Env, fields: &[String]) -> Option<String> {
    let within = |table: &str, field: &str| {
        field.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let keys = environment.iter().map(|(key, _)| key.as_str().to_owned());
    let set = keys.filter(|key| fields.iter().any(|field| within(key, field) || within(field, key)));
    let mut names: Vec<String> =
        set.map(|key| format!("{PREFIX}{}", key.to_uppercase().replace('.', SEPARATOR))).collect();
    names.sort();
    (!names.is_empty()).then(|| format!(" (from {})", names.join(", ")))
}
