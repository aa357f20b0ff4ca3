//! The configuration as `lockstep config` prints it: a TOML file with every setting, each field below its
//! documentation.

use core::fmt::Write;

use toml::{Table, Value};

use super::table::Sentences;
use super::{Agent, Auth, Cluster, Config, ConfigError, Limits, Log, Login, MachineBounds, Proxies, Tls, Trace};

/// The tables, in the order in which they are printed.
const TABLES: [(&str, Sentences); 10] = [
    ("tls", Tls::SENTENCES),
    ("proxies", Proxies::SENTENCES),
    ("auth", Auth::SENTENCES),
    ("login", Login::SENTENCES),
    ("agent", Agent::SENTENCES),
    ("log", Log::SENTENCES),
    ("cluster", Cluster::SENTENCES),
    ("limits", Limits::SENTENCES),
    ("trace", Trace::SENTENCES),
    ("bounds", MachineBounds::SENTENCES),
];

impl Config {
    /// The configuration as a TOML file, with documentation for each field. Unset fields are comments.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: why it cannot be written as TOML.
    pub fn print(&self) -> Result<String, ConfigError> {
        let mut values = Table::try_from(self).map_err(|error| ConfigError(error.to_string()))?;
        let mut text = String::from(
            "# A duration is a number in the unit of its name, or a text with a unit: \"500ms\", \"45s\", \"15m\", \"2h\", \"30d\".\n\n",
        );
        let (_, fields) = Self::SENTENCES;
        let is_table = |name: &str| TABLES.iter().any(|(table, _)| *table == name);
        for (name, kind, sentences) in fields.iter().filter(|(name, ..)| !is_table(name)) {
            comment(&mut text, sentences);
            field(&mut text, (name, kind), values.remove(*name));
        }
        for (name, (about, fields)) in TABLES {
            text.push('\n');
            comment(&mut text, about);
            let of_table = values.remove(name);
            let _ = writeln!(text, "{}[{name}]", if of_table.is_some() { "" } else { "# " });
            let mut of_table = of_table.and_then(|value| Table::try_from(value).ok()).unwrap_or_default();
            for (name, kind, sentences) in fields {
                comment(&mut text, sentences);
                field(&mut text, (name, kind), of_table.remove(*name));
            }
        }
        Ok(text)
    }
}

fn comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(text, "#{line}");
    }
}

/// Writes a field; one that is not set as a comment, with a value of its type.
fn field(text: &mut String, (name, kind): (&str, &str), value: Option<Value>) {
    let _ = match value {
        Some(value) => writeln!(text, "{name} = {value}"),
        None if kind.contains("String") => writeln!(text, "# {name} = \"\""),
        None if kind.contains("Path") => writeln!(text, "# {name} = \"/path/to/it\""),
        None if kind.contains("SocketAddr") => writeln!(text, "# {name} = \"127.0.0.1:9090\""),
        None if kind.contains("Number") => writeln!(text, "# {name} = 0.5"),
        None => writeln!(text, "# {name} = 1"),
    };
}
