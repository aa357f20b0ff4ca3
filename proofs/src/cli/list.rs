//! `prove list`

use std::fmt::Write as _;
use std::io::Write;

use crate::cli::{Failure, emit};
use crate::engine::findings::Verdict;
use crate::engine::profile::Profile;
use crate::engine::property;
use crate::engine::race::RaceKind;
use crate::registry;

/// List models with their properties, machines and races
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Use the bounds of this profile
    #[arg(long, value_enum, default_value = "quick")]
    profile: Profile,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let mut text = format!("Models ({})\n", args.profile.name());
    for model in registry::models(args.profile) {
        let _ = writeln!(text, "  {}  {}", model.name(), model.about());
        for (name, value) in model.bounds() {
            let _ = writeln!(text, "      {name} = {value}");
        }
        for (id, kind) in model.property_names() {
            let sentence = property::sentence(id).filter(|_| !id.contains('.')).unwrap_or("");
            let _ = writeln!(text, "    {:10} {id}  {sentence}", kind.word());
        }
    }
    let machines: Vec<_> = registry::machines().iter().map(|machine| machine.name()).collect();
    let _ = writeln!(text, "\nMachines\n  {}\n\nRaces", machines.join(", "));
    for race in registry::races() {
        let by = match race.kind {
            RaceKind::Refused(_) => race.expected.join(" or "),
            RaceKind::Untypable { .. } => "the types".into(),
        };
        let _ = writeln!(text, "  {:4} {} ({by})\n       {}", race.id, race.title, race.mistake);
    }
    emit(out, &text)?;
    Ok(Verdict::Holds)
}
