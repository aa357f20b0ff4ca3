//! Tests of the checkers: searches, verdicts, reports, the command line.

mod command;
mod core;
mod counts;
mod diagram;
mod digest;
mod evidence;
mod fixture;
mod guard;
mod history;
mod history_legacy;
mod history_owners;
mod liveness;
mod pictures;
mod races;
mod replay;
mod report;
mod searches;
mod sequence;
mod walks;
