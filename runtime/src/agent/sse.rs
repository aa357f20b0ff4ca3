//! A server-sent event parser (WHATWG "Server-sent events", § 9.2.6) that accepts bytes as they arrive.

use core::fmt;

/// The most bytes of one event, or of one line, unless [`Parser::bounded`] says otherwise.
pub const MAX_EVENT: usize = 1 << 20;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// An event, or one of its lines, has more bytes than the parser's bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a server-sent event has too many bytes")
    }
}

impl core::error::Error for TooLong {}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type; empty if the stream names none.
    pub name: String,
    /// Its data lines, joined by line feeds. Invalid UTF-8 is replaced.
    pub data: String,
}

/// Parses a stream that may be cut into chunks anywhere. An event that the end of the stream cuts off is dropped.
///
/// ```
/// use lockstep::agent::sse::Parser;
///
/// let (mut parser, mut events) = (Parser::default(), Vec::new());
/// parser.feed(b": hello\r\ndata: on", &mut events)?;
/// parser.feed(b"e\r\n\r", &mut events)?;
/// assert_eq!(events[0].data, "one");
/// # Ok::<(), lockstep::agent::sse::TooLong>(())
/// ```
#[derive(Debug)]
pub struct Parser {
    /// The most bytes of one event, or of one line.
    most: usize,
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    /// Whether the last byte was a carriage return, so that a line feed belongs to it.
    after_return: bool,
    /// Whether a line has ended, so that a byte order mark can no longer occur.
    begun: bool,
}

impl Default for Parser {
    fn default() -> Self {
        Self::bounded(MAX_EVENT)
    }
}

impl Parser {
    /// A parser of events, and lines, of at most `most` bytes.
    #[must_use]
    pub const fn bounded(most: usize) -> Self {
        Self { most, line: Vec::new(), name: Vec::new(), data: Vec::new(), after_return: false, begun: false }
    }

    /// Parses the next bytes and appends the events that they complete.
    ///
    /// # Errors
    ///
    /// [`TooLong`]; the stream is then unusable.
    pub fn feed(&mut self, chunk: &[u8], events: &mut Vec<Event>) -> Result<(), TooLong> {
        let mut rest = chunk;
        while let Some(first) = rest.first() {
            if core::mem::take(&mut self.after_return) && *first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                return self.gather(rest);
            };
            self.gather(&rest[..end])?;
            self.after_return = rest[end] == b'\r';
            rest = &rest[end + 1..];
            self.end_line(events)?;
        }
        Ok(())
    }

    fn gather(&mut self, part: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + part.len() > self.most {
            return Err(TooLong);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Event>) -> Result<(), TooLong> {
        let mut line = core::mem::take(&mut self.line);
        let begin = if self.begun || !line.starts_with(BOM) { 0 } else { BOM.len() };
        self.begun = true;
        let done = self.field(&line[begin..], events);
        // Reuse its allocation.
        line.clear();
        self.line = line;
        done
    }

    fn field(&mut self, line: &[u8], events: &mut Vec<Event>) -> Result<(), TooLong> {
        if line.is_empty() {
            self.dispatch(events);
            return Ok(());
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = colon.map_or((line, &[][..]), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" if self.data.len() + value.len() >= self.most => return Err(TooLong),
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => value.clone_into(&mut self.name),
            // Comments (no field name), `id` and `retry` (which concern reconnecting clients), and unknown fields.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        if self.data.pop().is_some() {
            events.push(Event {
                name: String::from_utf8_lossy(&self.name).into_owned(),
                data: String::from_utf8_lossy(&self.data).into_owned(),
            });
        }
        self.data.clear();
        self.name.clear();
    }
}
