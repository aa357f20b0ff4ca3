//! The stream's model as the checker sees it: its steps, properties and names.

use lockstep_model::frame::Resume;
use lockstep_model::stream::{Snapshot, Stream, Writer};
use lockstep_model::{Epoch, Generation, Handled, Offset, Timer};
use stateright::{Model, Property};

use super::{Action, Log, Reader, State};
use crate::machines::{Armed, TIMERS, unbroken};
use crate::proof::{Lifecycle, Outcome, Promise, Proof};
