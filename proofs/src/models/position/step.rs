//! One action of the adversary: the session's input, and the frames that it sends.

use lockstep_model::connection;
use lockstep_model::session::{Found, Input, Lookup, Member, Output, Outputs, Reader as Reads};
use lockstep_model::stream::Page;
use lockstep_model::timer::Owner;
use lockstep_model::{
    Cancel, Cause, ConnectionId, Control, Epoch, Frame, Handled, LookupId, Mode, Offset, Position, Request, RunId,
    Timer,
};

use super::{Action, EPOCH, Reader, Reading, State, attaching, entry};
use crate::models::harness::deadline;

impl State {
    pub(super) fn act(&mut self, model: &Reading, action: Action) {
        match action {
            Action::Append => {
                let payload = u8::try_from(self.events + 1).unwrap_or(u8::MAX);
                self.feed(model, Input::Notice { notice: RunId(self.events + 1), thread: None, payload });
            }
            Action::Connect => self.connect(model),
            Action::Seek(known) => self.seek(model, known),
            Action::Request => {
                self.request(model, Request::Cancel { runs: Cancel::All });
                self.begin();
            }
            Action::Expire => {
                self.past.silent |= self.reader.as_ref().is_some_and(|reader| reader.at < self.events);
                if let Some(reader) = &mut self.reader {
                    reader.armed = false;
                }
                self.begin();
                self.on(model, connection::Input::Expired(Timer::Seek));
            }
            Action::Pull(arrives) => self.pull(model, arrives),
            Action::Found(few) => self.found(model, few),
            Action::NotFound => {
                if let Some((connection, (attempt, ..))) = self.answered() {
                    self.feed(model, Input::NotFound { connection, attempt });
                }
            }
            Action::Leave => self.on(model, connection::Input::Gone(Cause::Lost)),
        }
        self.check(model);
    }

    fn connect(&mut self, model: &Reading) {
        self.connections += 1;
        let id = ConnectionId(self.connections);
        self.reader = Some(Reader {
            id,
            awake: false,
            armed: false,
            deferred: true,
            at: 0,
            ready: false,
            named: false,
            owes: None,
            resets: Vec::new(),
            lookup: None,
            sends: false,
            requests: model.requests,
            lost: false,
        });
        let input = Input::Join { connection: attaching(&model.bounds, id), mode: Mode::Ready };
        self.feed(model, input);
    }

    fn seek(&mut self, model: &Reading, known: bool) {
        let (at, reset) = self.after(&model.bounds, self.have, known);
        let have = self.have;
        if let Some(reader) = &mut self.reader {
            self.past.late |= reader.sends && at < reader.at;
            self.past.reset |= reset.is_some();
            self.past.named |= reader.deferred && known && have > 0;
            (reader.at, reader.named) = (at, true);
            reader.resets.extend(reset);
            // An earlier answer is for the earlier position.
            reader.lookup = None;
        }
        self.begin();
        let epoch = if known { EPOCH } else { Epoch(1) };
        self.request(model, Request::Seek { from: Position { epoch, offset: Offset(have) } });
    }

    /// From here on, entries are read.
    fn begin(&mut self) {
        if let Some(reader) = &mut self.reader {
            reader.deferred = false;
        }
    }

    fn request(&mut self, model: &Reading, request: Request<u8>) {
        if let Some(reader) = &mut self.reader {
            reader.requests -= 1;
        }
        self.on(model, connection::Input::Received(request));
    }

    /// Gives the connection an input.
    fn on(&mut self, model: &Reading, input: connection::Input<u8>) {
        if let Some(connection) = self.reader.as_ref().map(|reader| reader.id) {
            self.feed(model, Input::Connection { connection, input });
        }
    }

    fn answered(&mut self) -> Option<(ConnectionId, (LookupId, u64, u64))> {
        let reader = self.reader.as_mut()?;
        Some((reader.id, reader.lookup.take()?))
    }

    fn found(&mut self, model: &Reading, few: bool) {
        let Some((connection, (attempt, after, through))) = self.answered() else { return };
        let through = if few { through.min(after + 1) } else { through };
        let entries = (after + 1..=through).map(entry).collect();
        let page = Page { trimmed: Offset(after), entries, through: Offset(through) };
        self.feed(model, Input::Found { connection, attempt, found: Found::Page(page) });
    }

    fn pull(&mut self, model: &Reading, arrives: bool) {
        let Some(reader) = &mut self.reader else { return };
        reader.awake = false;
        reader.lost |= !arrives;
        let connection = reader.id;
        self.feed(model, Input::Pull { connection, budget: 1 });
    }

    pub(super) fn feed(&mut self, model: &Reading, input: Input<u8>) {
        let inputs = match model.mistake {
            Some(mistake) => mistake(self, input),
            None => vec![input],
        };
        for input in inputs {
            let mut outputs = Outputs::new();
            let done = self.session.step(&model.bounds, input, &mut outputs).is_ok();
            self.expect(done, "RUN-3");
            for output in outputs.list {
                self.take(model, output);
            }
        }
    }

    fn take(&mut self, model: &Reading, output: Output<u8>) {
        match output {
            Output::Write { batch, .. } => {
                self.events += 1;
                self.feed(model, Input::Persisted { batch, offset: Offset(self.events), record: None });
            }
            Output::Wake { connection } => self.with(connection, |reader| reader.awake = true),
            Output::Arm(Owner::Connection(connection), Timer::Seek, after) => {
                self.expect(deadline(&model.bounds, Timer::Seek) == Some(after), "CONN-3");
                self.with(connection, |reader| reader.armed = true);
            }
            Output::Disarm(Owner::Connection(connection), Timer::Seek) => {
                self.with(connection, |reader| reader.armed = false);
            }
            Output::Lookup { connection, attempt, lookup: Lookup::Page { after, through } } => {
                self.with(connection, |reader| reader.lookup = Some((attempt, after.0, through.0)));
            }
            Output::Release { connection } => {
                let over = self.reader.take_if(|reader| reader.id == connection.id());
                self.expect(over.is_none_or(|reader| !reader.armed), "CONN-3");
            }
            Output::Send { connection, frame } => self.receive(model, connection, &frame),
            Output::Confirm { attempt, .. } => self.feed(model, Input::Confirmed { attempt }),
            Output::Restore { .. }
            | Output::Relay { .. }
            | Output::Elsewhere { .. }
            | Output::Verify { .. }
            | Output::Lookup { .. }
            | Output::Trim { .. }
            | Output::Read { .. }
            | Output::Launch { .. }
            | Output::Durable { .. }
            | Output::Halt { .. }
            | Output::Lose
            | Output::Relinquish { .. }
            | Output::Busy
            | Output::Quiet
            | Output::Room
            | Output::Arm(..)
            | Output::Disarm(..)
            | Output::Retire => {}
        }
    }

    fn with(&mut self, connection: ConnectionId, change: impl FnOnce(&mut Reader)) {
        if let Some(reader) = self.reader.as_mut().filter(|reader| reader.id == connection) {
            change(reader);
        }
    }

    /// A frame leaves. A writer that got a frame pulls again.
    fn receive(&mut self, model: &Reading, connection: ConnectionId, frame: &Frame<u8>) {
        let tail = self.tail(&model.bounds);
        let Some(reader) = self.reader.as_mut().filter(|reader| reader.id == connection) else {
            return self.violated("CONN-1");
        };
        reader.awake = true;
        let mut next = None;
        let right = match frame {
            // Without a position, reading begins no later than the end of what was sent before.
            Frame::Control(Control::Ready { offset, resumed, .. }) => {
                reader.at = if reader.named { reader.at } else { offset.0 };
                reader.owes = (!resumed).then_some(offset.0);
                !core::mem::replace(&mut reader.ready, true) && (!resumed || offset.0 <= self.sent)
            }
            Frame::Control(Control::StreamReset { from, to }) if reader.owes.is_some() => {
                next = Some((to.0, if reader.named { reader.at } else { to.0 }));
                reader.owes.take() == Some(to.0) && from.0 <= self.sent
            }
            // Reading continues at the newest position that the client has named.
            Frame::Control(Control::StreamReset { from, to }) if !reader.resets.is_empty() => {
                next = Some((to.0, reader.at));
                reader.resets.remove(0) == (from.0, to.0)
            }
            Frame::Control(Control::StreamReset { from, to }) => {
                next = Some((to.0, to.0));
                !reader.deferred && from.0 == reader.at && to.0 == tail && to.0 > from.0
            }
            Frame::Event(found) => {
                next = Some((found.offset.0, found.offset.0));
                let ready = reader.ready && !reader.deferred && reader.owes.is_none() && reader.resets.is_empty();
                reader.sends = true;
                ready && *found == entry(reader.at + 1)
            }
            Frame::Control(_) | Frame::Close(_) => false,
        };
        if let Some((told, at)) = next {
            reader.at = at;
            self.have = if reader.lost { self.have } else { told };
            self.sent = self.sent.max(told);
        }
        self.expect(right, "STR-1");
    }

    fn check(&mut self, model: &Reading) {
        if let Err(violation) = self.session.check(&model.bounds) {
            self.violated(violation.0);
        }
        let Some(reader) = &self.reader else { return };
        let (timely, id) = (reader.armed == reader.deferred, reader.id);
        self.expect(timely, "CONN-3");
        let reads = |member: &Member<u8>| member.reader == Reads::Reading;
        if !self.session.members().get(&id).is_some_and(reads) {
            return;
        }
        // A late expiry changes nothing.
        let mut outputs = Outputs::new();
        let mut session = self.session.clone();
        let input = connection::Input::Expired(Timer::Seek);
        let late = session.step(&model.bounds, Input::Connection { connection: id, input }, &mut outputs);
        self.expect(late == Ok(Handled::Ignored) && session == self.session, "CONN-3");
    }
}
