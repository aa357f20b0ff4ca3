//! What there is to check: the models of each profile, the machines to chart,
//! the races.

use crate::engine::checkable::{Chartable, Checkable};
use crate::engine::profile::Profile;
use crate::engine::race::Race;
use crate::{
    backlog, deletion, editing, golden, handover, isolation, machines, modes, notice, operator, parts, queue, races,
    session, storage,
};

/// Every model, at the bounds of `profile`, in the order of reports.
pub fn models(profile: Profile) -> Vec<Box<dyn Checkable>> {
    let mut models = machines::models(profile);
    models.push(Box::new(session::model(profile)));
    models.push(Box::new(operator::model(profile)));
    models.push(Box::new(notice::model(profile)));
    models.push(Box::new(queue::model(profile)));
    models.push(Box::new(editing::model(profile)));
    models.push(Box::new(deletion::model(profile)));
    models.push(Box::new(isolation::model(profile)));
    models.push(Box::new(modes::model(profile)));
    models.push(Box::new(handover::model(profile)));
    models.push(Box::new(golden::model(profile)));
    models.push(Box::new(storage::model(profile)));
    models.push(Box::new(parts::model(profile)));
    models.push(Box::new(backlog::model(profile)));
    models
}

/// Every machine that has a diagram and a matrix.
pub fn machines() -> Vec<Box<dyn Chartable>> {
    machines::charts()
}

/// Every race.
pub fn races() -> Vec<Race> {
    races::all()
}
