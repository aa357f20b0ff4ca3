//! Names on the command line, looked up among the existing ones.

use crate::cli::Failure;

/// Returns the position of `wanted` among `known`, ignoring case.
///
/// # Errors
/// [`Failure::Usage`] with the known names and the nearest match.
pub(super) fn position(kind: &str, wanted: &str, known: &[&str]) -> Result<usize, Failure> {
    if let Some(index) = known.iter().position(|name| name.eq_ignore_ascii_case(wanted)) {
        return Ok(index);
    }
    let mut message = format!("unknown {kind} `{wanted}`\n  known: {}", known.join(", "));
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(&name.to_lowercase(), &wanted.to_lowercase()), name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((likeness, name)) = nearest
        && likeness > 0.7
    {
        message.push_str(&format!("\n  did you mean `{name}`?"));
    }
    Err(Failure::Usage(message))
}

/// Returns the items of `all` that are named, in the order of `all`. Returns every item if none is named.
///
/// # Errors
/// As [`position`].
pub(super) fn select<T>(
    kind: &str,
    wanted: &[String],
    all: Vec<T>,
    name: impl Fn(&T) -> &'static str,
) -> Result<Vec<T>, Failure> {
    if wanted.is_empty() {
        return Ok(all);
    }
    let names: Vec<&str> = all.iter().map(&name).collect();
    let mut chosen = Vec::new();
    for wanted in wanted {
        chosen.push(position(kind, wanted, &names)?);
    }
    Ok(all.into_iter().enumerate().filter(|(index, _)| chosen.contains(index)).map(|(_, item)| item).collect())
}
