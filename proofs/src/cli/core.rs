//! `prove core`

use std::fmt::Write as _;
use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lockstep_core_proofs::exhaust::{ExplorationLimits, Explored, Finding};
use lockstep_core_proofs::{Broken, Obligation, obligations, variants};
use quick_junit::{NonSuccessKind, SerializeError, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use crate::cli::{Failure, Format, emit, known};
use crate::engine::findings::Conclusion;
use crate::engine::settings::Settings;
use crate::report::{self, table::grouped};

const TICK: Duration = Duration::from_millis(100);

/// Run every interleaving of the concurrent core, and show that its broken variants are refused
#[derive(Debug, clap::Args)]
#[command(
    after_help = "\
Examples:
  prove core
  prove core SH-3 A8                an obligation and its variants; a known race
  prove core --format json | jq '.obligations[] | {scenario, interleavings}'",
    after_long_help = "\
The concurrent core is compiled a second time, from the same source file as production,
against loom's locks. Each obligation (SH-1 … SH-6) has scenarios: a few threads that race
on it, and a condition that must hold. loom runs a scenario once for each order of its
threads' operations on shared locks. It skips orders that differ only in operations on
different locks. There is no bound on preemptions. The listed bounds are those of the
scenario: the number of threads, and how often each acts.

Each variant is the same scenario with one mistake. It must be refused, and for the
expected reason. A run that is stopped early reports `incomplete`, never `holds`.

Examples:
  prove core
  prove core SH-3 A8                an obligation and its variants; a known race
  prove core join-retire            one scenario
  prove core --max-seconds 10       at most ten seconds a scenario
  prove core --format junit > core.xml
  prove core --format json | jq '.obligations[] | {scenario, interleavings}'

Exit codes: 0 all hold and every variant is refused, 1 one does not or is not, 2 usage,
3 not exhausted"
)]
pub(super) struct Args {
    /// Only these: an obligation with its variants, a scenario, a variant, or a known race
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Scenarios that run concurrently [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Stop a scenario after N seconds: incomplete, exit code 3
    #[arg(long, value_name = "N")]
    max_seconds: Option<u64>,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<Conclusion, Failure> {
    let tasks = select(&args.ids)?;
    let began = Instant::now();
    let limits = ExplorationLimits {
        stop: Arc::clone(&settings.stop),
        max_time: args.max_seconds.map(Duration::from_secs),
        interleavings: Arc::new(AtomicUsize::new(0)),
    };
    let explored = explore(&tasks, args.threads.unwrap_or(settings.threads), &limits);
    let mut report = Report { complete: true, seconds: 0.0, obligations: Vec::new(), variants: Vec::new() };
    for (task, explored) in tasks.iter().zip(explored) {
        report.complete &= explored.finding != Finding::Incomplete;
        match task {
            Task::Obligation(one) => report.obligations.push(ObligationReport::of(one, explored)),
            Task::Variant(one) => report.variants.push(VariantReport::of(one, explored)),
        }
    }
    report.seconds = began.elapsed().as_secs_f64();
    let text = match args.format {
        Format::Table => report.table(),
        Format::Json => report::json(&report),
        Format::Junit => report.junit().map_err(|error| Failure::World(error.to_string()))?,
    };
    emit(out, &text)?;
    Ok(report.verdict())
}

/// A unit of exploration.
#[derive(Debug)]
enum Task {
    Obligation(Obligation),
    Variant(Broken),
}

impl Task {
    fn all() -> Vec<Self> {
        let obligations = obligations().into_iter().map(Self::Obligation);
        obligations.chain(variants().into_iter().map(Self::Variant)).collect()
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Obligation(one) => one.name(),
            Self::Variant(one) => one.name(),
        }
    }

    /// The names that select it.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        let (id, race) = match self {
            Self::Obligation(one) => (one.id(), None),
            Self::Variant(one) => (one.id(), one.race()),
        };
        [id, self.name()].into_iter().chain(race)
    }

    fn explore(&self, limits: &ExplorationLimits) -> Explored {
        match self {
            Self::Obligation(one) => one.explore(limits),
            Self::Variant(one) => one.explore(limits),
        }
    }
}

fn select(wanted: &[String]) -> Result<Vec<Task>, Failure> {
    let mut tasks = Task::all();
    let mut names: Vec<_> = tasks.iter().flat_map(Task::names).collect();
    names.sort_unstable();
    names.dedup();
    let mut chosen = Vec::new();
    for wanted in wanted {
        chosen.push(names[known::position("obligation, scenario or variant", wanted, &names)?]);
    }
    tasks.retain(|task| chosen.is_empty() || task.names().any(|name| chosen.contains(&name)));
    Ok(tasks)
}

/// Explores every task, at most `threads` at a time. Returns the results in the order of the tasks.
fn explore(tasks: &[Task], threads: NonZeroUsize, limits: &ExplorationLimits) -> Vec<Explored> {
    let line = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        line.set_style(style);
    }
    let (next, next_of_all) = (AtomicUsize::new(0), mpsc::channel());
    let (found, finding) = next_of_all;
    let mut results: Vec<Option<Explored>> = tasks.iter().map(|_| None).collect();
    thread::scope(|scope| {
        for _ in 0..threads.get().min(tasks.len()) {
            let (next, found) = (&next, found.clone());
            scope.spawn(move || {
                while let Some((index, task)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    tasks.get(index).map(|task| (index, task))
                } {
                    let _ = found.send((index, task.explore(limits)));
                }
            });
        }
        drop(found);
        loop {
            match finding.recv_timeout(TICK) {
                Ok((index, explored)) => results[index] = Some(explored),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            if !line.is_hidden() {
                let begun = next.load(Ordering::Relaxed).min(tasks.len());
                let running = results.iter().zip(tasks).take(begun).filter(|(result, _)| result.is_none());
                let running: Vec<_> = running.map(|(_, task)| task.name()).collect();
                let count = grouped(limits.interleavings.load(Ordering::Relaxed));
                line.set_message(format!("{begun} of {}: {}, {count} interleavings", tasks.len(), running.join(", ")));
                line.tick();
            }
        }
    });
    line.finish_and_clear();
    results.into_iter().map(|result| result.expect("a worker that panics takes the scope with it")).collect()
}

/// The results of `prove core`.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether every scenario was run to its end.
    complete: bool,
    /// Wall-clock seconds of the whole run.
    seconds: f64,
    obligations: Vec<ObligationReport>,
    variants: Vec<VariantReport>,
}

/// One scenario with the production source.
#[derive(Debug, Serialize)]
struct ObligationReport {
    id: &'static str,
    scenario: &'static str,
    about: &'static str,
    interleavings: usize,
    /// The bounds as text: `actors 2, rounds 1, preemptions any`.
    bound: String,
    seconds: f64,
    /// `null` is *incomplete*.
    holds: Option<bool>,
    /// The message of the failing interleaving.
    failure: Option<String>,
}

impl ObligationReport {
    fn of(one: &Obligation, explored: Explored) -> Self {
        let bounds: Vec<_> = one.bounds().into_iter().map(|(name, value)| format!("{name} {value}")).collect();
        let (holds, failure) = match explored.finding {
            Finding::Holds => (Some(true), None),
            Finding::Fails(text) => (Some(false), Some(text)),
            Finding::Incomplete => (None, None),
        };
        Self {
            id: one.id(),
            scenario: one.name(),
            about: one.about(),
            interleavings: explored.interleavings,
            bound: bounds.join(", "),
            seconds: explored.time.as_secs_f64(),
            holds,
            failure,
        }
    }
}

/// One broken variant.
#[derive(Debug, Serialize)]
struct VariantReport {
    id: &'static str,
    obligation: &'static str,
    /// The known race that it reproduces, if any.
    race: Option<&'static str>,
    mistake: &'static str,
    scenario: &'static str,
    /// Whether it is refused for the expected reason; `null` is *incomplete*.
    refused: Option<bool>,
    /// The message of the failing interleaving.
    failure: Option<String>,
    interleavings: usize,
    seconds: f64,
}

impl VariantReport {
    fn of(one: &Broken, explored: Explored) -> Self {
        let (refused, failure) = match explored.finding {
            Finding::Holds => (Some(false), None),
            Finding::Fails(text) => (Some(text.contains(one.expected())), Some(text)),
            Finding::Incomplete => (None, None),
        };
        Self {
            id: one.name(),
            obligation: one.id(),
            race: one.race(),
            mistake: one.mistake(),
            scenario: one.scenario(),
            refused,
            failure,
            interleavings: explored.interleavings,
            seconds: explored.time.as_secs_f64(),
        }
    }

    fn finding(&self) -> &'static str {
        match (self.refused, &self.failure) {
            (Some(true), _) => "refused",
            (Some(false), Some(_)) => "REFUSED FOR ANOTHER REASON",
            (Some(false), None) => "NOT REFUSED",
            (None, _) => "incomplete",
        }
    }
}

impl Report {
    fn verdict(&self) -> Conclusion {
        let obligations = self.obligations.iter().map(|one| one.holds);
        let verdicts = obligations.chain(self.variants.iter().map(|one| one.refused)).map(|good| match good {
            Some(true) => Conclusion::Holds,
            Some(false) => Conclusion::Fails,
            None => Conclusion::Incomplete,
        });
        verdicts.max().unwrap_or(Conclusion::Holds)
    }

    fn table(&self) -> String {
        let mut text = String::new();
        for one in &self.obligations {
            let finding = match one.holds {
                Some(true) => "holds",
                Some(false) => "FAILS",
                None => "incomplete",
            };
            let (sign, count) = (sign(one.holds), grouped(one.interleavings));
            let _ = writeln!(
                text,
                "{sign} {}  {:22} {count:>9} interleavings {:7.2} s  {finding}\n          {}\n          {}",
                one.id, one.scenario, one.seconds, one.about, one.bound
            );
            let _ = one.failure.iter().try_for_each(|failure| writeln!(text, "          {failure}"));
        }
        for one in &self.variants {
            let (sign, count) = (sign(one.refused), grouped(one.interleavings));
            let race = one.race.map_or(String::new(), |race| format!(" ({race})"));
            let _ = writeln!(
                text,
                "{sign} {}  {:22} {count:>9} interleavings {:7.2} s  {} in {}\n          {}{race}",
                one.obligation,
                one.id,
                one.seconds,
                one.finding(),
                one.scenario,
                one.mistake
            );
            let unexpected = one.failure.iter().filter(|_| one.refused == Some(false));
            let _ = unexpected.into_iter().try_for_each(|failure| writeln!(text, "          {failure}"));
        }
        let verdict = match self.verdict() {
            Conclusion::Holds => "every interleaving holds, every variant is refused",
            Conclusion::Incomplete => "incomplete: not every interleaving was run",
            Conclusion::Fails => "an obligation does not hold, or a variant is not refused",
        };
        let count = grouped(self.obligations.iter().map(|one| one.interleavings).sum());
        let (scenarios, variants) = (self.obligations.len(), self.variants.len());
        let _ = writeln!(
            text,
            "\n{scenarios} scenarios, {count} interleavings, {variants} variants, {:.1} s: {verdict}",
            self.seconds
        );
        text
    }

    fn junit(&self) -> Result<String, SerializeError> {
        let mut obligations = TestSuite::new("obligations");
        for one in &self.obligations {
            let failure = one.failure.as_deref().unwrap_or(one.about);
            obligations.add_test_case(case(one.scenario, one.id, one.seconds, one.holds, "fails", failure));
        }
        let mut variants = TestSuite::new("variants");
        for one in &self.variants {
            let failure = one.failure.as_deref().unwrap_or(one.mistake);
            variants.add_test_case(case(one.id, one.obligation, one.seconds, one.refused, one.finding(), failure));
        }
        let mut junit = quick_junit::Report::new("prove core");
        junit.set_time(Duration::from_secs_f64(self.seconds));
        junit.add_test_suites([obligations, variants]);
        junit.to_string()
    }
}

const fn sign(good: Option<bool>) -> char {
    match good {
        Some(true) => '✓',
        Some(false) => '✗',
        None => '?',
    }
}

fn case(name: &str, class: &str, seconds: f64, good: Option<bool>, message: &str, failure: &str) -> TestCase {
    let non_success = |kind, message: &str| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_message(message).set_description(failure);
        status
    };
    let status = match good {
        Some(true) => TestCaseStatus::success(),
        Some(false) => non_success(NonSuccessKind::Failure, message),
        // An unexplored scenario must not make a build green.
        None => non_success(NonSuccessKind::Error, "incomplete"),
    };
    let mut case = TestCase::new(name, status);
    case.set_classname(class).set_time(Duration::from_secs_f64(seconds));
    case
}
