//! Mistakes that do not compile.
//!
//! A credential that never expires: a good verdict has a lifetime, and there is no value of it for ever, or for none.
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
//! The name of one thing where another's is wanted: a cleanup key that is not the creation key, of another kind.
//!
//! ```compile_fail,E0308
//! # use lockstep_model::{gateway::Input, ConnectionId, UserId};
//! let cleanup: Input<u8> = Input::Pull { connection: UserId(7), budget: 1 };
//! ```
//!
//! The production machine from outside: nobody but its own step changes what it is.
//!
//! ```compile_fail,E0616
//! # use lockstep_model::{Bounds, Connection, ConnectionId};
//! let mut connection: Connection<u8> = Connection::accept(&Bounds::DEFAULT, ConnectionId(1), &mut Vec::new());
//! connection.id = ConnectionId(2);
//! ```
//!
//! An event without its run's session: a frame of a stream names no user, so it cannot name the wrong one.
//!
//! ```compile_fail,E0560
//! # use lockstep_model::{Event, RunId, UserId, run::Kind};
//! let event: Event<u8> = Event { user: UserId(7), run: RunId(1), kind: Kind::Completed, payload: None };
//! ```
