//! A session of psql that stays open.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

/// It ends when it is dropped.
pub(crate) struct Session(Child);

impl Session {
    /// Opens a session, and executes SQL in it. Returns when that is done.
    pub(crate) fn open(url: &str, sql: &str) -> Self {
        let mut child = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql");
        let mut input = child.stdin.take().expect("an input");
        writeln!(input, "{sql}\n\\echo done").expect("psql reads");
        let mut said = String::new();
        let output = child.stdout.take().expect("an output");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut said).expect("psql answers");
        assert_eq!(said, "done\n");
        child.stdin = Some(input);
        Self(child)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
