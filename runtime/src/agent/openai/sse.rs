//! Server-sent events, by the grammar of the WHATWG ("Server-sent events", § 9.2.6), as bytes come.

use core::fmt;

/// The most bytes that one event, or one line, may have.
pub const MAX_EVENT: usize = 1 << 20;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// An event, or a line of one, has more than [`MAX_EVENT`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a server-sent event has more than {MAX_EVENT} bytes")
    }
}

impl core::error::Error for TooLong {}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type; empty where the stream names none.
    pub name: String,
    /// Its lines of data, with a line feed between two. What is not UTF-8 is replaced.
    pub data: String,
}

/// Reads a stream that may be cut into chunks anywhere. An event that the end of the stream cuts off is no event.
///
/// ```
/// use lockstep::agent::openai::sse::Parser;
///
/// let (mut parser, mut events) = (Parser::default(), Vec::new());
/// parser.feed(b": hello\r\ndata: on", &mut events)?;
/// parser.feed(b"e\r\n\r", &mut events)?;
/// assert_eq!(events[0].data, "one");
/// # Ok::<(), lockstep::agent::openai::sse::TooLong>(())
/// ```
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    /// The last byte was a carriage return, so a line feed belongs to it.
    after_return: bool,
    /// A line has ended, so no byte order mark can come any more.
    begun: bool,
}

impl Parser {
    /// Takes the next bytes and appends the events that they complete.
    ///
    /// # Errors
    ///
    /// [`TooLong`]; the stream is of no use then.
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
        if self.line.len() + part.len() > MAX_EVENT {
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
        // Its room is used again.
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
            b"data" if self.data.len() + value.len() >= MAX_EVENT => return Err(TooLong),
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => value.clone_into(&mut self.name),
            // A comment (no field's name), `id` and `retry`, which are for a client that connects again, and whatever else.
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
