//! The lists: the models of each profile, the charted machines, the races.
//!
//! This is the only module that knows every model. Only the command line and the tests use it; models, races and
//! searches do not.

use crate::engine::checkable::{Chartable, Checkable};
use crate::engine::profile::Profile;
use crate::engine::race::Race;
use crate::models::{
    auth, backlog, client, cluster, connection, deletion, editing, golden, handover, isolation, login, modes, node,
    notice, operator, parts, pause, position, queue, run, session, session_chart, session_memory, storage, stream,
    tenure, whole,
};
use crate::races;

/// Returns every model at the bounds of `profile`, in the order of reports: the single machines, then the worlds.
pub fn models(profile: Profile) -> Vec<Box<dyn Checkable>> {
    vec![
        Box::new(auth::model(profile)),
        Box::new(connection::model(profile)),
        Box::new(stream::model(profile)),
        Box::new(run::model(profile)),
        Box::new(node::model(profile)),
        Box::new(client::model(profile)),
        Box::new(session_memory::model(profile)),
        Box::new(position::model(profile)),
        Box::new(login::model(profile)),
        Box::new(login::tokens::model(profile)),
        Box::new(login::attempts::model(profile)),
        Box::new(tenure::model(profile)),
        Box::new(cluster::model(profile)),
        Box::new(session::model(profile)),
        Box::new(operator::model(profile)),
        Box::new(notice::model(profile)),
        Box::new(queue::model(profile)),
        Box::new(pause::model(profile)),
        Box::new(editing::model(profile)),
        Box::new(deletion::model(profile)),
        Box::new(isolation::model(profile)),
        Box::new(modes::model(profile)),
        Box::new(handover::model(profile)),
        Box::new(golden::model(profile)),
        Box::new(storage::model(profile)),
        Box::new(parts::model(profile)),
        Box::new(backlog::model(profile)),
    ]
}

/// Returns every model at bounds for random walks: those of the largest profile, or larger ones if they end walks soon.
pub fn walked() -> Vec<Box<dyn Checkable>> {
    let long: [Box<dyn Checkable>; 8] = [
        Box::new(connection::long()),
        Box::new(stream::long()),
        Box::new(client::long()),
        Box::new(login::long()),
        Box::new(login::tokens::long()),
        Box::new(login::attempts::long()),
        Box::new(whole::long()),
        Box::new(whole::kept()),
    ];
    let mut walked = models(Profile::Deep);
    walked.retain(|model| !long.iter().any(|other| other.name() == model.name()));
    walked.extend(long);
    walked
}

/// Returns every machine that has a diagram and a matrix.
pub fn machines() -> Vec<Box<dyn Chartable>> {
    vec![
        Box::new(auth::model(Profile::Quick)),
        Box::new(connection::model(Profile::Quick)),
        Box::new(stream::model(Profile::Quick)),
        Box::new(run::model(Profile::Quick)),
        Box::new(session_chart::model()),
        Box::new(node::model(Profile::Quick)),
        Box::new(client::charted()),
    ]
}

/// Returns every race.
pub fn races() -> Vec<Race> {
    races::all()
}
