//! The sentence of each property id.
//!
//! Reports, counterexamples and `prove list` quote these sentences. A property's assertion is in the machine's header,
//! its proof in the model of the same name.

/// Each property id with its sentence.
pub const SENTENCES: &[(&str, &str)] = &[
    (
        "AUTH-1",
        "no application frame leaves on a connection without a valid credential at that step: none before the verdict, none after expiry or revocation",
    ),
    ("AUTH-2", "a connection's user never changes; a refresh for another user closes it"),
    ("AUTH-3", "a stale verdict changes nothing; an unavailable verifier admits no connection"),
    (
        "AUTH-4",
        "a login or token whose end or revocation was answered is never accepted again, across crashes, restarts and clock changes; nor is a cookie whose successor was used",
    ),
    (
        "AUTH-5",
        "a login in use is not ended by a lost answer, a second tab, a clock change, or a temporarily unreadable accounts file",
    ),
    (
        "CONN-1",
        "every connection has one id and is closed exactly once, with the code of its cause; 1011 means an internal fault, never a lifecycle race",
    ),
    ("CONN-2", "no request is handled before ready; queued requests are handled once, in order"),
    (
        "CONN-3",
        "a timer is armed while a connection is not closed, and its expiry moves the connection strictly nearer to closed",
    ),
    (
        "ISO-1",
        "frames of one user's stream, effects of one user's runs, and one user's limits, breaker and wrong passwords never affect another user's connection or login, except that one network's wrong passwords count together",
    ),
    (
        "STR-1",
        "each connection sees its user's offsets in order, without gap or repeat, from where it resumed, or is told where the gap is",
    ),
    (
        "STR-2",
        "an event that was acknowledged to the agent is never lost before retention ends; nothing is delivered before it is durable; no offset has two contents in an epoch",
    ),
    (
        "STR-3",
        "the pieces of a part that a reader has been sent, however they were cut and joined, are its content up to that offset; entries that the log keeps can be read however long ago they left the window",
    ),
    (
        "RUN-1",
        "a run's events follow the grammar: started, then thinking, properly paired tools and pauses, then one terminal event, then nothing",
    ),
    ("RUN-2", "at most one run per user and message id, across retries, reconnects and restarts"),
    (
        "RUN-3",
        "an emit that reports success is in the stream; one that is not in the stream reports why; one that was refused \
         for lack of room is told when there is room",
    ),
    (
        "RUN-4",
        "in a thread that queues, runs do not overlap and keep the order of their messages, a waiting run begins once or is taken back, \
         and the turns that a message replaces have ended before it",
    ),
    (
        "RUN-5",
        "the first reply to a pause resumes its run, once and only after the log has it, and a paused run outlives the process",
    ),
    (
        "RET-1",
        "once a deletion is durable, nothing that its thread had before is read again by a connection or an agent, even after a crash, and no run of the thread goes on",
    ),
    (
        "LIM-1",
        "connections per user, runs per user, early frames, retention, inbox and wrong passwords each have a named bound, which holds, and a refusal for a bound ends in time",
    ),
    (
        "SES-1",
        "a session retires if and only if it has no connection, no run and nothing left to write, and no connection is refused or evicted while dead ones hold places",
    ),
    (
        "NODE-1",
        "modes differ in what they admit, are entered and left on stated conditions with hysteresis (the first one once everything is started), clients are told, and ready is reachable from every mode except draining",
    ),
    (
        "NODE-2",
        "a node that ends begins no run, sends no client away during an answer while there is time, tells each client when to \
         come back, releases the log when no session is left, and stops",
    ),
    (
        "CLIENT-1",
        "the client follows each close code's advice: it has one socket at a time, and none before it has a credential, comes back after pauses that grow until a connection proves stable, and stays away when told to, until something changes",
    ),
    (
        "CLIENT-2",
        "every message of a client is settled: answered, refused, unknown, or returned to its user, and none waits behind one that cannot be settled",
    ),
    (
        "OWN-1",
        "the log accepts a user's appends only under the newest fencing token, and grants each token once; each session writes under the token that it was granted, and one that has lost its user acknowledges nothing more",
    ),
    (
        "OWN-2",
        "what one owner acknowledged or showed is in the stream of every later owner of the same epoch, on whatever node",
    ),
    (
        "OWN-3",
        "a client is told that entries it has are gone only by the user's owner: one that does not have them confirms first that it is",
    ),
    ("OWN-4", "a node that hands a user over has no open run of the user, and no event that is not durable"),
    ("OWN-5", "once `revoke` has returned, no node shows anything to what was revoked"),
    ("OWN-6", "a connection is relayed to another node at most once"),
    ("LIVE-5", "a user whose owner is gone, and who comes back, is served again by any node that lives"),
    ("LIVE-6", "a session that lost its user ends each of its connections and runs"),
    ("LIVE-1", "each opened connection becomes live or closed"),
    ("LIVE-2", "each accepted run ends, provided that the log eventually accepts a repeated request"),
    ("LIVE-3", "each connected client that reads reaches the head, which is everything that the log has confirmed"),
    (
        "LIVE-4",
        "each drain completes by its deadlines, whatever the log does; each dead peer is detected; each expired credential is refreshed or its connection closed",
    ),
    ("SH-1", "a user has at most one live slot, and no join is lost in a slot that retires"),
    ("SH-2", "outputs of two racing steps take effect in the order of the steps"),
    ("SH-3", "no wake-up is lost between finding nothing to pull and an append, and none comes after close"),
    ("SH-4", "a connection that was admitted is drained, and none is admitted after the drain began"),
    ("SH-5", "a revoked credential is never live once `revoke` has returned"),
    (
        "SH-6",
        "an inbox is bounded and has room for reserved items; closing it neither loses an accepted item nor accepts another",
    ),
];

/// Returns the sentence of a property. A premise (`AUTH-1.delivered`) or a part (`LIVE-4.drain`) has the sentence of
/// its id.
pub fn sentence(name: &str) -> Option<&'static str> {
    let id = id(name);
    SENTENCES.iter().find(|(known, _)| *known == id).map(|(_, sentence)| *sentence)
}

/// Returns the id before the first dot: `AUTH-1` of `AUTH-1.delivered`.
pub fn id(name: &str) -> &str {
    name.split_once('.').map_or(name, |(id, _)| id)
}
