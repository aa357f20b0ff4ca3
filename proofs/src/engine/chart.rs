//! The transitions of one machine, as the search observed them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;

use crate::engine::proof::{Lifecycle, Outcome};
use crate::engine::search::{self, End, Observer, StateId};
use crate::engine::settings::{Settings, Stage};

/// The name that [`Chart::input`] returns for a step of the environment alone.
pub const ENVIRONMENT: &str = "(environment)";

/// A machine's phases and inputs, and what happened for each pair of them.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The machine.
    pub machine: &'static str,
    /// Its phases, in the order of [`Lifecycle::phases`].
    pub phases: &'static [&'static str],
    /// Its inputs, in the order of [`Lifecycle::inputs`].
    pub inputs: &'static [&'static str],
    /// The phases of the initial states.
    pub initial: BTreeSet<usize>,
    /// The phases of the states that the search reached.
    pub met: BTreeSet<usize>,
    /// The outcomes for each phase and input, each with the phase that follows. Input number `inputs.len()` stands for
    /// the environment.
    pub cells: BTreeMap<(usize, usize), BTreeSet<(Outcome, usize)>>,
}

/// Why there is no chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChartError {
    /// The stop flag or a limit ended the search. A chart with gaps would mislead.
    Stopped,
    /// The model panicked.
    Panicked(String),
    /// The model returned a phase or an input that it does not list.
    Unlisted(String),
}

impl fmt::Display for ChartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped before every transition was explored"),
            Self::Panicked(message) => write!(f, "the model panicked: {message}"),
            Self::Unlisted(name) => write!(f, "`{name}` is not a listed phase or input"),
        }
    }
}

impl std::error::Error for ChartError {}

impl Chart {
    /// Explores `model` and collects its transitions.
    pub fn of<M: Lifecycle>(model: &M, settings: &Settings) -> Result<Self, ChartError> {
        let mut collector = Collector {
            model,
            chart: Self {
                machine: model.name(),
                phases: model.phases(),
                inputs: model.inputs(),
                initial: BTreeSet::new(),
                met: BTreeSet::new(),
                cells: BTreeMap::new(),
            },
            unlisted: None,
        };
        for state in model.init_states() {
            let phase = collector.phase(&state);
            collector.chart.initial.extend(phase);
        }
        let (_, end) = search::level_order(model, settings, Stage::Chart, &mut collector);
        match (end, collector.unlisted) {
            (_, Some(name)) => Err(ChartError::Unlisted(name)),
            (End::Exhausted, None) => Ok(collector.chart),
            (End::Panicked { panic, .. }, None) => Err(ChartError::Panicked(panic.message)),
            (End::Found(_) | End::Stopped, None) => Err(ChartError::Stopped),
        }
    }

    /// Returns the inputs that lead from one phase to another, in their order.
    pub fn moves(&self, from: usize, to: usize) -> Vec<&'static str> {
        (0..=self.inputs.len())
            .filter(|input| {
                self.cells.get(&(from, *input)).is_some_and(|answers| {
                    answers.iter().any(|(outcome, after)| *outcome == Outcome::Moved && *after == to)
                })
            })
            .map(|input| self.input(input))
            .collect()
    }

    /// Returns the name of an input, or [`ENVIRONMENT`].
    pub fn input(&self, index: usize) -> &'static str {
        self.inputs.get(index).copied().unwrap_or(ENVIRONMENT)
    }
}

struct Collector<'a, M: Lifecycle> {
    model: &'a M,
    chart: Chart,
    unlisted: Option<String>,
}

impl<M: Lifecycle> Collector<'_, M> {
    fn phase(&mut self, state: &M::State) -> Option<usize> {
        let name = self.model.phase(state);
        let index = self.chart.phases.iter().position(|phase| *phase == name);
        if index.is_none() {
            self.unlisted = Some(name.into());
        }
        index
    }
}

impl<M: Lifecycle> Observer<M> for Collector<'_, M> {
    fn state(&mut self, _: StateId, state: &M::State) -> ControlFlow<()> {
        match self.phase(state) {
            Some(phase) => {
                self.chart.met.insert(phase);
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        }
    }

    fn step(&mut self, _: StateId, before: &M::State, action: &M::Action, after: Option<(StateId, &M::State)>) {
        let Some(from) = self.phase(before) else { return };
        let to = match after {
            Some((_, state)) => self.phase(state),
            None => Some(from),
        };
        let Some(to) = to else { return };
        let (input, outcome) = match self.model.input(action) {
            Some(name) => match self.chart.inputs.iter().position(|input| *input == name) {
                Some(input) => (input, self.model.outcome(before, action)),
                None => {
                    self.unlisted = Some(name.into());
                    return;
                }
            },
            None if from == to => return,
            None => (self.chart.inputs.len(), Outcome::Moved),
        };
        self.chart.cells.entry((from, input)).or_default().insert((outcome, to));
    }

    fn expanded(&mut self, _: StateId) {}
}
