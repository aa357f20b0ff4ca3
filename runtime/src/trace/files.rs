//! The files of a trace: numbered, chained, rotated.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::path::PathBuf;

use lockstep_model::Bounds;

use super::format::{EXTENSION, Header, Kind, MAGIC, VERSION, frame, name};
use super::{Settings, extend, put};
use crate::payload::now_ms;
use crate::support::private_file;

/// Bytes that are written at a time.
const CHUNK: usize = 256 << 10;

/// Writes the files.
pub(super) struct Files {
    settings: Settings,
    header: Header,
    file: File,
    sequence: u64,
    link: u64,
    out: Vec<u8>,
}

impl Files {
    /// Creates the directory and the first file.
    pub(super) fn create(settings: &Settings, bounds: &Bounds) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&settings.directory)?;
        let header = Header {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            process: crate::random().map_err(io::Error::other)?,
            file: 0,
            began: now_ms(),
            previous: 0,
            bounds: *bounds,
        };
        let file = open(settings, &header)?;
        let mut files = Self { settings: settings.clone(), header, file, sequence: 0, link: 0, out: Vec::new() };
        files.begin();
        files.flush()?;
        Ok(files)
    }

    /// Writes bodies, each after its length. An empty body starts the next file.
    pub(super) fn write(&mut self, mut bodies: &[u8]) -> io::Result<()> {
        while let Some((length, rest)) = bodies.split_first_chunk::<4>() {
            let (body, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            bodies = rest;
            if body.is_empty() {
                self.rotate()?;
                continue;
            }
            self.record(body);
            if self.out.len() >= CHUNK {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Ends the last file.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.record(&put(Vec::new(), Kind::End, &true));
        self.flush()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.record(&put(Vec::new(), Kind::End, &false));
        self.flush()?;
        self.header.file += 1;
        self.header.previous = self.link;
        self.file = open(&self.settings, &self.header)?;
        self.begin();
        Ok(())
    }

    fn begin(&mut self) {
        self.out.extend_from_slice(&MAGIC);
        self.out.extend_from_slice(&VERSION.to_le_bytes());
        let body = extend(vec![Kind::Header as u8], &self.header);
        self.record(&body);
    }

    fn record(&mut self, body: &[u8]) {
        self.link = frame(&mut self.out, self.link, self.sequence, body);
        self.sequence += 1;
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }
}

/// Opens the next file, and removes the oldest files of the directory if there are too many.
fn open(settings: &Settings, header: &Header) -> io::Result<File> {
    let mut traces: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(&settings.directory)? {
        let entry = entry?;
        let path = entry.path();
        let named = path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem.starts_with("trace-"));
        if named && path.extension().is_some_and(|extension| extension == EXTENSION) {
            traces.push((entry.metadata()?.modified()?, path));
        }
    }
    traces.sort();
    let kept = settings.files.max(1) - 1;
    for (_, path) in traces.iter().take(traces.len().saturating_sub(kept)) {
        fs::remove_file(path)?;
    }
    private_file::create(&settings.directory.join(name(header.process, header.file)))
}
