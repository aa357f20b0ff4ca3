//! The models of single machines: each alone, under every input at every moment.

use crate::checkable::{Chartable, Checkable};
use crate::registry::Profile;

/// Each machine's model, at the bounds of a profile.
pub fn models(_profile: Profile) -> Vec<Box<dyn Checkable>> {
    Vec::new()
}

/// Each machine that has a diagram and a matrix.
pub fn charts() -> Vec<Box<dyn Chartable>> {
    Vec::new()
}
