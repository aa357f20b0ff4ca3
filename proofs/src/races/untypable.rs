//! Mistakes that do not compile.
//!
//! A credential that never expires: a valid verdict has a lifetime, and a lifetime is neither unlimited nor zero.
//!
//! ```compile_fail,E0063
//! # use lockstep_model::{auth::Grant, CredentialId, Generation, RevocationGeneration, UserId, Verdict};
//! let grant = Grant { user: UserId(7), credential: CredentialId(1), generation: RevocationGeneration(0) };
//! let eternal = Verdict::Valid { grant };
//! ```
//!
//! ```compile_fail,E0423
//! # use lockstep_model::Lifetime;
//! let expired = Lifetime(core::time::Duration::ZERO);
//! ```
//!
//! The id of one thing in place of another's: a cleanup key of another type than the creation key.
//!
//! ```compile_fail,E0308
//! # use lockstep_model::{gateway::Input, ConnectionId, UserId};
//! let cleanup: Input<u8> = Input::Pull { connection: UserId(7), budget: 1 };
//! ```
//!
//! The production machine from outside: only its own step changes it.
//!
//! ```compile_fail,E0616
//! # use lockstep_model::{Bounds, Connection, ConnectionId};
//! let mut connection: Connection<u8> = Connection::accept(&Bounds::DEFAULT, ConnectionId(1), &mut Vec::new());
//! connection.id = ConnectionId(2);
//! ```
//!
//! An event that names a user: a stream's frame names none, so it cannot name the wrong one.
//!
//! ```compile_fail,E0560
//! # use lockstep_model::{Event, RunId, UserId, run::Kind};
//! let event: Event<u8> = Event { user: UserId(7), run: RunId(1), kind: Kind::Completed, payload: None };
//! ```
