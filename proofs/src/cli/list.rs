//! `prove list`

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use crate::cli::{Failure, emit};
use crate::engine::findings::Conclusion;
use crate::engine::profile::Profile;
use crate::engine::property;
use crate::engine::race::RaceKind;
use crate::registry;
use crate::report::evidence;

/// List models with their properties, machines and races
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Use the bounds of this profile
    #[arg(long, value_enum, default_value = "quick")]
    profile: Profile,
    /// For each property, list what checks it and the mistakes that it must refuse
    #[arg(long)]
    evidence: bool,
    /// With --evidence: write the list as a page into this directory
    #[arg(long, value_name = "DIR", requires = "evidence")]
    html: Option<PathBuf>,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Conclusion, Failure> {
    if args.evidence {
        return evidence(args, out);
    }
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
    Ok(Conclusion::Holds)
}

fn evidence(args: &Args, out: &mut dyn Write) -> Result<Conclusion, Failure> {
    let rows = evidence::rows(&registry::models(args.profile), &registry::races());
    let mut text = evidence::text(&rows);
    if let Some(directory) = &args.html {
        std::fs::create_dir_all(directory)?;
        let path = directory.join("evidence.html");
        std::fs::write(&path, evidence::page(&rows))?;
        let _ = writeln!(text, "page: {}", path.display());
    }
    emit(out, &text)?;
    Ok(Conclusion::Holds)
}
