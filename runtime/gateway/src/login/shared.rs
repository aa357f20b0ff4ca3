//! The logins of a cluster, in the engine of its log, so that each gateway serves each of them.
//!
//! The same machine as in one gateway, [`lockstep_model::login`], decides a request. It first gets the engine's records
//! of one subject, as if the process had just started, and then the request. Its records are stored before its answer
//! is sent. The write names the versions of the subject's logins and of the accounts that were read. If either has
//! changed meanwhile, nothing is written, and the request is decided again.
//!
//! | event | result |
//! | --- | --- |
//! | a login ends | its revocation is stored in the same transaction; every gateway applies it and closes its connections |
//! | a request is answered that its login has ended | before that, the end is kept and in effect in each gateway (OWN-5) |
//! | the engine does not answer | the request is unavailable, and may take effect: the client repeats it |
//! | a process stops in the middle | what was written holds, and nothing else |
//!
//! Tokens are verified without the engine: they are valid until they expire, unless their login was revoked. As in one
//! gateway, two clocks decide when a login has expired. The engine's clock may be wrong and can only refuse it. The
//! time that gateways have run, which they add up in the engine, ends it.

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use lockstep::BoxFuture;
use lockstep::internal::gateways::{Change, LoginsOf, Shared as Engine};
use lockstep::internal::{lock, millis};
use lockstep::log::LogError;
use lockstep::payload::Token;
use lockstep::verify::jwt::JwtVerifier;
use lockstep::verify::revoked::{DEADLINE, Revocations, limits};
use lockstep::verify::{Identity, NotRevoked, NotVerified, Revocation, Verifier};
use lockstep_model::CredentialId;
use lockstep_model::login::{Answer, Ask, Input, LoginLimits, Logins, Now, Output, Record, Why};

use super::audit::Audit;
use super::reason;
use crate::accounts::{SharedAccounts, Snapshot};

/// How often a request is decided again because another one has changed the same logins or the accounts.
const MAX_TRIES: usize = 16;
/// The pause between two ticks of the clock of logins.
const TICK: Duration = Duration::from_secs(10);
/// The pause between two searches for logins to forget.
const FORGET: Duration = Duration::from_secs(600);
/// The number of no tick.
const NO_TICK: u64 = u64::MAX;
/// The only request of a machine.
const ASK: Ask = Ask(1);

type Subject = Arc<str>;

/// The logins that all gateways of a cluster share.
pub(super) struct SharedLogins {
    engine: Engine,
    pub(super) accounts: Arc<SharedAccounts>,
    /// The revocations that were applied here.
    revocations: Arc<Revocations>,
    limits: LoginLimits,
    audit: Arc<Audit>,
    upkeep: tokio::sync::Mutex<Upkeep>,
    /// Why a request was unavailable.
    failure: Mutex<String>,
}

/// The state of the work at intervals.
struct Upkeep {
    /// The accounts that the logins were last compared with.
    compared: Option<Snapshot>,
    /// The last tick that was seen, and when.
    tick: (u64, Instant),
    forgot: Instant,
}

/// Whose logins a request concerns.
#[derive(Clone)]
enum Whose {
    /// A subject's.
    Of(Subject),
    /// Those of the subject that has this login.
    With(CredentialId),
}

/// A machine's decision, once it is written.
struct Decided {
    answer: Option<Answer<Subject>>,
    ended: Vec<(Subject, Why)>,
}

fn whose(input: &Input<Subject>) -> Option<Whose> {
    match input {
        Input::LogIn { subject, .. } | Input::End { subject, .. } => Some(Whose::Of(Arc::clone(subject))),
        Input::Refresh { login, .. } | Input::LogOut { login, .. } => Some(Whose::With(*login)),
        Input::Revoke { .. }
        | Input::Seen { .. }
        | Input::Looked(_)
        | Input::GiveUp(_)
        | Input::Written
        | Input::NotWritten
        | Input::Retry => None,
    }
}

fn unavailable(error: &dyn fmt::Display) -> LogError {
    LogError::Unavailable(error.to_string())
}

impl SharedLogins {
    pub(super) fn new(
        engine: Engine,
        accounts: Arc<SharedAccounts>,
        revocations: Arc<Revocations>,
        (idle, longest): (Duration, Duration),
        audit: Arc<Audit>,
    ) -> Self {
        let now = Instant::now();
        let upkeep = Upkeep { compared: None, tick: (NO_TICK, now), forgot: now };
        let limits = LoginLimits { idle: millis(idle), longest: millis(longest), ..limits(revocations.retention()) };
        let (upkeep, failure) = (tokio::sync::Mutex::new(upkeep), Mutex::default());
        Self { engine, accounts, revocations, limits, audit, upkeep, failure }
    }

    /// Decides a request, and answers it once the decision is in effect, within [`DEADLINE`]. A dropped request may
    /// still take effect.
    pub(super) async fn ask(&self, input: impl Fn(Ask, Now) -> Input<Subject> + Send + Sync) -> Answer<Subject> {
        let answered = async {
            let Some(whose) = whose(&input(ASK, Now::default())) else { return Ok(Answer::Unavailable) };
            match (self.decide(&whose, Some(&input)).await?, whose) {
                (Some(Answer::Ended), _) => {
                    // The records that were read may not be durable yet, and other gateways may still serve a login
                    // that has ended.
                    self.engine.settle().await?;
                    Ok(Answer::Ended)
                }
                // A failover has lost its end, which was applied here.
                (Some(Answer::Admitted { subject, .. }), Whose::With(login))
                    if self.revocations.credential(&subject, login) =>
                {
                    Ok(Answer::Refused)
                }
                (Some(answer @ (Answer::Admitted { .. } | Answer::Refused | Answer::Unavailable)), _) => Ok(answer),
                (None, _) => Ok(Answer::Unavailable),
            }
        };
        let failed = match tokio::time::timeout(DEADLINE, answered).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error @ (LogError::Unavailable(_) | LogError::Fenced | LogError::Broken(_)))) => error.to_string(),
            Err(_) => format!("the cluster has not answered within {} s", DEADLINE.as_secs()),
        };
        *lock(&self.failure) = failed;
        Answer::Unavailable
    }

    /// Why a request was unavailable, for the operator.
    pub(super) fn failure(&self) -> String {
        lock(&self.failure).clone()
    }

    /// Decides, and writes the decision. Without a request, ends the logins whose account is gone or has another
    /// password.
    async fn decide(
        &self,
        whose: &Whose,
        input: Option<&(dyn Fn(Ask, Now) -> Input<Subject> + Send + Sync)>,
    ) -> Result<Option<Answer<Subject>>, LogError> {
        for _ in 0..MAX_TRIES {
            // The write compares both.
            let (roster, accounts) = self.accounts.look().await.map_err(|error| unavailable(&error))?;
            let held = match whose {
                Whose::Of(subject) => self.engine.logins_of(subject).await?,
                Whose::With(login) => self.engine.logins_with(*login).await?,
            };
            let Some(decided) = self.attempt(roster, &accounts, held, input).await? else { continue };
            for (subject, why) in &decided.ended {
                if let Some(why) = reason(*why) {
                    self.audit.ended(why, subject);
                }
            }
            return Ok(decided.answer);
        }
        Err(LogError::Unavailable("other requests change the user's logins all the time".to_owned()))
    }

    /// Decides with the records that were read. `None` if they have changed.
    async fn attempt(
        &self,
        roster: u64,
        accounts: &Snapshot,
        held: LoginsOf,
        input: Option<&(dyn Fn(Ask, Now) -> Input<Subject> + Send + Sync)>,
    ) -> Result<Option<Decided>, LogError> {
        let LoginsOf { subject, version: mut from, age, wall, logins } = held;
        let mut machine = Logins::new();
        machine.note(Record::Mark { age, seen: 0, floor: 0 });
        for (id, login) in logins {
            machine.note(Record::Login(id, login));
        }
        let version = subject.as_ref().and_then(|subject| Some((Arc::clone(subject), accounts.version(subject)?)));
        let mut inputs = VecDeque::from([Input::Looked(version.into_iter().collect())]);
        inputs.extend(input.map(|input| input(ASK, Now { wall, up: 0 })));
        let mut decided = Decided { answer: None, ended: Vec::new() };
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            let _ = machine.step(&self.limits, input, &mut out);
            debug_assert_eq!(machine.check(&self.limits), Ok(()));
            for output in out {
                match output {
                    Output::Append(records) => {
                        let subject = subject.as_deref().unwrap_or_default();
                        let Some(written) = self.write(subject, from, roster, records).await? else { return Ok(None) };
                        from = written;
                        inputs.push_front(Input::Written);
                    }
                    Output::Answer(_, answer) => decided.answer = Some(answer),
                    Output::Ended { subject, why, .. } => decided.ended.push((subject, why)),
                    Output::Replace(_) | Output::Retry => {
                        return Err(LogError::Unavailable("a user has too many logins".to_owned()));
                    }
                }
            }
        }
        Ok(Some(decided))
    }

    /// Writes records of one subject. Returns the new version of its logins; `None` if the records that were read have
    /// changed.
    async fn write(
        &self,
        subject: &str,
        from: u64,
        roster: u64,
        records: Vec<Record<Subject>>,
    ) -> Result<Option<u64>, LogError> {
        let (mut kept, mut ended) = (BTreeMap::new(), BTreeSet::new());
        for record in records {
            match record {
                Record::Login(id, login) => drop(kept.insert(id, login)),
                Record::Ended(id) => {
                    kept.remove(&id);
                    ended.insert(id);
                }
                Record::Revoked { .. } | Record::Mark { .. } => {}
            }
        }
        let (kept, ended): (Vec<_>, Vec<_>) = (kept.into_iter().collect(), ended.into_iter().collect());
        self.engine.write(&Change { subject, from, roster, kept: &kept, ended: &ended }).await
    }

    /// Ends the logins whose account is gone or has another password, lets the clock advance, and forgets expired
    /// logins. Called each second.
    pub(super) async fn keep(&self) -> Result<Snapshot, LogError> {
        let (_, accounts) = self.accounts.look().await.map_err(|error| unavailable(&error))?;
        let mut upkeep = self.upkeep.lock().await;
        if !upkeep.compared.as_ref().is_some_and(|compared| compared.is_same(&accounts)) {
            for (subject, version) in self.engine.holders().await? {
                if accounts.version(&subject) != Some(version) {
                    self.decide(&Whose::Of(subject), None).await?;
                }
            }
            upkeep.compared = Some(accounts.clone());
        }
        let (tick, seen) = upkeep.tick;
        if tick == NO_TICK || seen.elapsed() >= TICK {
            let newest = self.engine.tick(tick, u64::try_from(seen.elapsed().as_millis()).unwrap_or(0)).await?;
            upkeep.tick = (newest, Instant::now());
        }
        if upkeep.forgot.elapsed() >= FORGET {
            self.engine.forget_logins(self.limits.idle, self.limits.longest).await?;
            upkeep.forgot = Instant::now();
        }
        Ok(accounts)
    }

    /// Waits until every end until now is in effect in each gateway.
    pub(super) async fn settle(&self) -> Result<(), LogError> {
        self.engine.settle().await
    }

    /// Records that all data of a removed account's subject is erased.
    pub(super) async fn erased(&self, subject: &str) -> Result<(), LogError> {
        self.engine.forget_subject(subject).await?;
        self.accounts.erased(subject).await.map_err(|error| unavailable(&error))
    }
}

/// Verifies the tokens of a cluster's gateways. A revocation that begins here ends the logins, too.
pub(super) struct SharedVerifier {
    pub(super) tokens: Arc<JwtVerifier>,
    pub(super) logins: Arc<SharedLogins>,
}

impl Verifier for SharedVerifier {
    fn verify<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Identity, NotVerified>> {
        self.tokens.verify(token)
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
        Box::pin(async move {
            let here = self.tokens.revoke(revocation).await;
            let (subject, login) = match revocation {
                Revocation::Subject(subject) => (subject, None),
                Revocation::Credential(subject, login) => (subject, Some(*login)),
            };
            match self.logins.ask(|ask, _| Input::End { ask, subject: Arc::clone(subject), login }).await {
                Answer::Ended => here,
                Answer::Admitted { .. } | Answer::Refused | Answer::Unavailable => Err(self.logins.failure().into()),
            }
        })
    }

    fn revoke_as_of<'a>(&'a self, revocation: &'a Revocation, at: u64) -> BoxFuture<'a, Result<(), NotRevoked>> {
        self.tokens.revoke_as_of(revocation, at)
    }
}
