//! A step of a world as arrows between lifelines.

use super::action::Action;
use super::setup::Setup;
use super::state::World;
use crate::proof::{Drawing, Lifeline};

/// The arrows of one step.
pub fn depict(_setup: &Setup, _before: &World, action: &Action, _after: &World) -> Vec<Drawing> {
    vec![Drawing::Note { on: Lifeline::Session, text: format!("{action:?}") }]
}
