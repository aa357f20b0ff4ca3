//! One action of the adversary: the session's input and its required reaction.

use lockstep_model::connection::{self, State as Stage};
use lockstep_model::frame::ReadFrom;
use lockstep_model::session::{Input, Output, Outputs, State as Phase};
use lockstep_model::stream::Snapshot;
use lockstep_model::timer::Owner;
use lockstep_model::{
    AcquisitionId, Bounds, Cancel, Cause, Code, ConnectionId, Control, CredentialId, Epoch, FencingToken, Frame,
    MessageId, Mode, Offset, Request, RevocationGeneration, RunId, Scope, Tenure, ThreadId, Timer, run,
};

use super::environment::{asked, attaching, past, run_of, wanted};
use super::{Action, End, Member, Seen, State, USER};
use crate::models::harness::deadline;

/// The expected effects of a step.
struct Before {
    phase: Phase,
    needless: u64,
    holds: bool,
}

impl State {
    pub(super) fn act(&mut self, bounds: &Bounds, action: Action) {
        let before =
            Before { phase: self.session.state(), needless: self.needless(bounds), holds: self.session.holds() };
        let (mut seen, mut expected) = (Seen::default(), Seen::default());
        match action {
            Action::Restored => self.restored(bounds, &mut seen),
            Action::NotRestored => self.not_restored(bounds, &mut seen, &mut expected),
            Action::Join(credential, generation) => {
                self.join(bounds, credential, generation, &mut seen, &mut expected);
            }
            Action::Renew(connection, credential, generation) => {
                self.renewals += 1;
                if self.admits(credential, generation) {
                    for member in self.members.iter_mut().filter(|member| member.id == connection) {
                        (member.credential, member.generation) = (credential, generation);
                    }
                } else {
                    self.members.retain(|member| member.id != connection);
                    expected.released.push((connection, Cause::CredentialRejected));
                }
                self.renew(bounds, connection, credential, generation, &mut seen);
            }
            Action::Leave(connection) => {
                self.members.retain(|member| member.id != connection);
                let input = connection::Input::Gone(Cause::Lost);
                self.feed(bounds, Input::Connection { connection, input }, &mut seen);
            }
            Action::Send => self.send(bounds, &mut seen, &mut expected),
            Action::Repeat(message) => {
                match self.known(bounds, message) {
                    Some(offset) => expected.known.push((run_of(message), offset)),
                    None => expected.refused.push(Code::Forgotten),
                }
                let request = asked(MessageId(message), ThreadId(message), RunId(0x100), true);
                self.say(bounds, request, &mut seen);
            }
            Action::Cancel(message) => {
                expected.errors.push(Code::UnknownRun);
                self.say(bounds, Request::Cancel { runs: Cancel::Run(run_of(message)) }, &mut seen);
            }
            Action::Mode(mode) => {
                self.mode = mode;
                expected.told.extend(self.members.iter().map(|member| (member.id, mode)));
                self.feed(bounds, Input::Mode(mode), &mut seen);
            }
            Action::End(run, end) => {
                let open = self.open;
                self.end(bounds, run, end, &mut seen);
                expected.armed.extend((self.open && !open).then_some(Timer::Breaker));
            }
            Action::Revoke(scope) => self.revoke(bounds, scope, &mut seen, &mut expected),
            Action::Verified(oldest) => {
                if self.raised.is_some_and(|raised| raised <= oldest) {
                    (self.raised, self.oldest) = (None, None);
                    self.single.clear();
                }
                self.feed(bounds, Input::Verified(RevocationGeneration(oldest)), &mut seen);
            }
            Action::Expired(timer) => self.expire(bounds, timer, &mut seen),
        }
        self.compare(bounds, action, &before, seen, expected);
        self.check(bounds);
    }

    /// The attempt that the session waits for.
    fn attempt(&self) -> AcquisitionId {
        self.session.ownership().seeking().map_or(AcquisitionId(0), |(attempt, _)| attempt)
    }

    fn restored(&mut self, bounds: &Bounds, seen: &mut Seen) {
        let lost = self.asked > 1;
        let entries = if lost { Vec::new() } else { past() };
        self.events = entries.len() as u64;
        self.begun = vec![if lost { 0 } else { 3 }];
        let tenure = Tenure { epoch: Epoch(1), token: FencingToken(1) };
        let snapshot = Snapshot { entries, ..Snapshot::empty(tenure) };
        self.feed(bounds, Input::Restored { attempt: self.attempt(), snapshot }, seen);
    }

    fn not_restored(&mut self, bounds: &Bounds, seen: &mut Seen, expected: &mut Seen) {
        let gone = self.members.is_empty() && !self.is_up();
        self.feed(bounds, Input::NotRestored { attempt: self.attempt() }, seen);
        self.expect(self.retired == gone, "SES-1");
        expected.armed.extend((!gone).then_some(Timer::Restore));
    }

    fn join(&mut self, bounds: &Bounds, credential: u64, generation: u32, seen: &mut Seen, expected: &mut Seen) {
        self.joins += 1;
        let id = ConnectionId(self.joins);
        // A connection with the second credential replaces the first member.
        let older = self.members.first().map(|member| member.id).filter(|_| credential == 2);
        let connection = Box::new(attaching(bounds, id, credential, generation, older));
        if !self.admits(credential, generation) {
            expected.released.push((id, Cause::CredentialRevoked));
        } else if self.mode == Mode::Draining {
            expected.released.push((id, Cause::GoingAway));
        } else if self.mode == Mode::Emergency {
            expected.released.push((id, Cause::Overloaded));
        } else {
            expected.released.extend(older.map(|older| (older, Cause::Superseded)));
            self.members.retain(|member| Some(member.id) != older);
            self.members.push(Member { id, credential, generation });
        }
        self.feed(bounds, Input::Join { connection, mode: self.mode }, seen);
    }

    fn send(&mut self, bounds: &Bounds, seen: &mut Seen, expected: &mut Seen) {
        self.messages += 1;
        let run = run_of(self.messages);
        if matches!(self.mode, Mode::HandingOver | Mode::Draining) {
            expected.refused.push(Code::Draining);
        } else if self.mode != Mode::Ready {
            expected.refused.push(Code::Degraded);
        } else if self.open {
            expected.refused.push(Code::BreakerOpen);
        } else if self.runs.len() == bounds.runs {
            expected.refused.push(Code::TooManyRuns);
        } else {
            self.runs.insert(0, run);
            self.events += 1;
        }
        self.begun.push(if expected.refused.is_empty() { self.events } else { 0 });
        let (message, thread) = (MessageId(self.messages), ThreadId(self.messages));
        self.say(bounds, asked(message, thread, run, false), seen);
    }

    fn revoke(&mut self, bounds: &Bounds, scope: Scope, seen: &mut Seen, expected: &mut Seen) {
        let RevocationGeneration(raised) = scope.generation();
        self.generation = self.generation.max(raised);
        self.raised = self.raised.max(Some(raised));
        match scope {
            Scope::All(_) => self.oldest = self.oldest.max(Some(raised)),
            Scope::One(CredentialId(credential), _) if self.single.contains(&credential) => {}
            // One revocation more than can be remembered counts as a revocation of all.
            Scope::One(..) if self.single.len() == bounds.revoked => {
                self.oldest = self.oldest.max(Some(raised));
            }
            Scope::One(CredentialId(credential), _) => self.single.push(credential),
        }
        self.single.sort_unstable();
        for member in std::mem::take(&mut self.members) {
            if self.admits(member.credential, member.generation) {
                self.members.push(member);
            } else {
                expected.released.push((member.id, Cause::CredentialRevoked));
            }
        }
        self.feed(bounds, Input::Revoke(scope), seen);
    }

    fn end(&mut self, bounds: &Bounds, run: RunId, end: End, seen: &mut Seen) {
        self.runs.retain(|open| *open != run);
        self.events += if end == End::Completed { 2 } else { 1 };
        match end {
            End::Completed => self.failures = 0,
            End::Failed | End::Abandoned | End::Silent if !self.open => {
                self.failures += 1;
                self.open = self.failures == bounds.failures;
            }
            End::Failed | End::Abandoned | End::Silent | End::Cancelled => {}
        }
        let emit = |input| Input::Run { run, input, payload: None };
        match end {
            End::Completed => {
                self.feed(bounds, emit(run::Input::Start), seen);
                self.feed(bounds, emit(run::Input::Complete), seen);
            }
            End::Failed => self.feed(bounds, emit(run::Input::Fail), seen),
            End::Abandoned => self.feed(bounds, emit(run::Input::Abandon), seen),
            End::Silent => self.feed(bounds, Input::Expired(Owner::Run(run), Timer::Silence), seen),
            End::Cancelled => self.say(bounds, Request::Cancel { runs: Cancel::Run(run) }, seen),
        }
    }

    pub(super) fn feed(&mut self, bounds: &Bounds, input: Input<u8>, seen: &mut Seen) {
        let mut outputs = Outputs::new();
        let done = self.session.step(bounds, input, &mut outputs).is_ok();
        self.expect(done, "RUN-3");
        self.dispatch(bounds, &mut outputs, seen);
    }

    /// Tracks the timers, confirms writes, and pulls what can be read.
    pub(super) fn dispatch(&mut self, bounds: &Bounds, outputs: &mut Outputs<u8>, seen: &mut Seen) {
        let (mut answers, mut confirming) = (Vec::new(), false);
        let mut written = self.session.stream().map_or(0, |stream| stream.head().0);
        for output in outputs.list.drain(..) {
            match output {
                // The deadline for the answer to a confirmation. The answer comes at once.
                Output::Arm(Owner::Session, Timer::Restore, after) if confirming => {
                    self.armed.arm(Timer::Restore);
                    self.expect(after == bounds.log_answer, "OWN-3");
                    confirming = false;
                }
                Output::Arm(Owner::Session, timer, after) => {
                    self.armed.arm(timer);
                    // This log answers immediately.
                    seen.armed.extend((timer != Timer::LogAnswer).then_some(timer));
                    self.expect(deadline(bounds, timer) == Some(after), "SES-1");
                }
                Output::Disarm(Owner::Session, timer) => self.armed.disarm(timer),
                Output::Write { batch, .. } => {
                    written += 1;
                    answers.push(Input::Persisted { batch, offset: Offset(written), record: None });
                }
                Output::Wake { connection } => answers.push(Input::Pull { connection, budget: 16 }),
                Output::Release { connection } => {
                    if let Stage::Closing { cause, .. } = connection.state() {
                        seen.released.push((connection.id(), *cause));
                    }
                }
                Output::Send { frame: Frame::Control(Control::Refused { code, .. }), .. } => seen.refused.push(code),
                Output::Send { frame: Frame::Control(Control::Error(code)), .. } => seen.errors.push(code),
                Output::Send { frame: Frame::Control(Control::Known { run, offset, .. }), .. } => {
                    seen.known.push((run, offset));
                }
                Output::Send {
                    connection,
                    frame: Frame::Control(Control::Ready { user, epoch, offset, head, resumed, mode }),
                } => {
                    let credential =
                        self.members.iter().find(|member| member.id == connection).map_or(0, |m| m.credential);
                    let from = wanted(credential);
                    let place = if from == ReadFrom::Latest { self.events } else { self.tail(bounds) };
                    let right = epoch == Epoch(1) && offset.0 == place && head.0 == self.events;
                    self.expect(right && resumed == !matches!(from, ReadFrom::After(_)), "STR-1");
                    self.expect(user == USER, "AUTH-2");
                    self.expect(mode == self.mode, "NODE-1");
                }
                Output::Send { frame: Frame::Control(Control::StreamReset { from, to }), .. } => {
                    self.expect(from == Offset(0) && to.0 == self.tail(bounds), "STR-1");
                }
                Output::Send { connection, frame: Frame::Control(Control::Mode(mode)) } => {
                    seen.told.push((connection, mode));
                }
                Output::Busy | Output::Quiet => seen.holds.push(output == Output::Busy),
                Output::Retire => self.retired = true,
                Output::Restore { attempt } => seen.asked.push(attempt),
                Output::Trim { through, .. } => seen.trimmed = Some(through.0),
                Output::Read { through, .. } => self.expect(through.0 <= self.events, "STR-1"),
                Output::Confirm { attempt, .. } => {
                    confirming = true;
                    answers.push(Input::Confirmed { attempt });
                }
                Output::Verify { .. }
                | Output::Relay { .. }
                | Output::Elsewhere { .. }
                | Output::Lookup { .. }
                | Output::Send { .. }
                | Output::Launch { .. }
                | Output::Durable { .. }
                | Output::Halt { .. }
                | Output::Lose
                | Output::Relinquish { .. }
                | Output::Room
                | Output::Arm(..)
                | Output::Disarm(..) => {}
            }
        }
        for answer in answers {
            self.feed(bounds, answer, seen);
        }
    }

    /// Compares the observed effects with the required ones.
    fn compare(&mut self, bounds: &Bounds, action: Action, before: &Before, mut seen: Seen, mut expected: Seen) {
        let going = self.mode == Mode::Draining && self.members.is_empty() && self.runs.is_empty();
        let holds = matches!(self.mode, Mode::HandingOver | Mode::Draining) && !self.runs.is_empty();
        expected.holds.extend((holds != before.holds).then_some(holds));
        self.expect(seen.holds == expected.holds && (self.retired || self.session.holds() == holds), "NODE-2");
        if action == Action::Expired(Timer::Restore) {
            self.asked += 1;
            expected.asked.push(AcquisitionId(self.asked));
        }
        if action != Action::NotRestored && !matches!(action, Action::Expired(_)) {
            self.expect(self.retired == going, "SES-1");
        }
        self.expect(seen.asked == expected.asked, "SES-1");
        self.expect(seen.told == expected.told, "NODE-1");
        if !matches!(action, Action::Leave(_)) {
            self.expect(seen.released == expected.released, "CONN-1");
        }
        let lingers = self.session.state() == Phase::Vacant;
        let again = action == Action::Expired(Timer::Linger);
        let left = (lingers && (before.phase != Phase::Vacant || again)) || (going && before.phase == Phase::Occupied);
        expected.armed.extend(left.then_some(Timer::Linger));
        seen.armed.sort_unstable();
        expected.armed.sort_unstable();
        self.expect(seen.refused == expected.refused, "LIM-1");
        let through = self.needless(bounds);
        expected.trimmed = (through > before.needless).then_some(through);
        self.expect(seen.trimmed == expected.trimmed, "STR-2");
        self.expect(seen.known == expected.known, "RUN-2");
        self.expect(seen.errors == expected.errors, "RUN-3");
        self.expect(seen.armed == expected.armed, "SES-1");
    }
}
