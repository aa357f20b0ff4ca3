//! AUTH-4: tokens of another issuer whose revocation was answered are never accepted again.
//!
//! A token that was issued before a revocation while our clock was behind, and that we never saw, cannot be
//! distinguished from one issued afterwards. Nothing is claimed for it.

/// What is known of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    pub(crate) issued: u64,
    /// Whether we saw it.
    pub(crate) seen: bool,
    /// Whether the revocation was requested when this token could not be distinguished from a later one.
    doubtful: bool,
    /// Whether its revocation was answered.
    pub(crate) revoked: bool,
}

/// What was observed of the tokens of one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Observed {
    pub(crate) tokens: Vec<Token>,
    /// The revocation that waits for its answer: of one token or of all, and the number of tokens at the time.
    asked: Option<(Option<usize>, usize)>,
}

impl Observed {
    pub(crate) const fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    pub(crate) fn issued(&mut self, issued: u64) {
        self.tokens.push(Token { issued, seen: false, doubtful: false, revoked: false });
    }

    /// A revocation is requested, of one token or of all, when our clock shows `wall`.
    pub(crate) fn asks(&mut self, which: Option<usize>, wall: u64) {
        for token in &mut self.tokens {
            token.doubtful = !token.seen && token.issued > wall;
        }
        self.asked = Some((which, self.tokens.len()));
    }

    /// The revocation was answered as done, or not.
    pub(crate) fn answered(&mut self, done: bool) {
        let Some((which, issued)) = self.asked.take().filter(|_| done) else { return };
        for (number, token) in self.tokens.iter_mut().enumerate().take(issued) {
            token.revoked |= which.is_none_or(|which| which == number) && !token.doubtful;
        }
    }

    /// The process ends. It knows no token that was issued after what it has written.
    pub(crate) fn forget(&mut self, written: u64) {
        self.asked = None;
        self.tokens.iter_mut().for_each(|token| token.seen &= token.issued <= written);
    }

    /// Whether a revoked token is accepted.
    pub(crate) fn is_violated_by(&self, accepts: impl Fn(usize) -> bool) -> bool {
        (0..self.tokens.len()).any(|number| self.tokens[number].revoked && accepts(number))
    }
}
