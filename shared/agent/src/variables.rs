//! The environment variables of the application: two files on the volume, each for one way into a container.
//!
//! One is read by `keeper-exec`, which lies beside it and which the application's containers are started through; the
//! other by the kubelet. They are published like all files; but a container reads them when it starts, so that
//! a change is none that the application could be told of.

use std::io::Write as _;
use std::time::SystemTime;

use keeper_contract::{AgentConfig, Directory, Place, Variables, layout};
use keeper_ksm::Record;
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::destination::Destination;
use crate::dir::{Dir, set_mode};
use crate::publish::{Content, Planned, PublishError, Published, error};
use crate::render::{Lines, RenderError, add_variables};
use crate::staged::errno;

/// Only the kubelet reads its file, as root.
const FILE_KEY_REF_MODE: u32 = 0o400;
/// `keeper-exec` runs as any user.
const PROGRAM_MODE: u32 = 0o555;
/// A name for the moment before the program is complete; ours by its dots, and so removed when it is left over.
const SCRATCH: &str = "..keeper-exec_tmp";

/// The files by which variables reach the application; none: it gets no variables.
pub(crate) struct Environment(Vec<Carrier>);

/// One of them.
struct Carrier {
    destination: Destination,
    way: Way,
    mode: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Exec,
    FileKeyRef,
}

/// What is to be published, in the order of the carriers; none: something failed, and what is there stays.
pub(crate) type Files = Option<Vec<Zeroizing<Vec<u8>>>>;

impl Environment {
    /// Opens, or makes, the directories on the volume, and puts `keeper-exec` where containers run it.
    ///
    /// # Errors
    /// A directory that can't be used, or a program that can't be copied.
    pub(crate) fn open(volume: &Dir, config: &AgentConfig) -> Result<Self, PublishError> {
        let mut carriers = Vec::new();
        for (way, directory) in directories(config) {
            let destination = Destination::open(volume, config, usize::MAX, &directory)?;
            carriers.push(Carrier::new(way, destination, config));
            if let Some(exec) = config.environment.as_ref().and_then(|e| e.exec.as_ref())
                && way == Way::Exec
            {
                copy_program(volume, &directory, &exec.program)?;
            }
        }
        Ok(Self(carriers))
    }

    /// The same to look at, if it is there.
    pub(crate) fn existing(volume: &Dir, config: &AgentConfig) -> Option<Self> {
        let existing = directories(config).into_iter().map(|(way, directory)| {
            let destination = Destination::existing(volume, config, usize::MAX, &directory)?;
            Some(Carrier::new(way, destination, config))
        });
        existing.collect::<Option<_>>().map(Self)
    }

    /// The files of `records`, each with what it becomes.
    ///
    /// # Errors
    /// The first record that can't be variables, by its place.
    pub(crate) fn render<'a>(
        &self,
        records: impl Iterator<Item = (&'a Variables, &'a Record)>,
    ) -> Result<Vec<Zeroizing<Vec<u8>>>, (&'a Variables, RenderError)> {
        let has = |way| self.0.iter().any(|carrier| carrier.way == way);
        let mut lines = Lines::new(has(Way::Exec), has(Way::FileKeyRef));
        for (variables, record) in records {
            add_variables(&mut lines, record, variables).map_err(|error| (variables, error))?;
        }
        Ok(lines.into_files())
    }

    /// Publishes each file.
    pub(crate) fn publish(
        &self,
        files: &Files,
        now: SystemTime,
        random: u64,
    ) -> impl Iterator<Item = Result<Published, PublishError>> {
        self.0.iter().enumerate().map(move |(index, carrier)| {
            let bytes = files.as_ref().and_then(|files| files.get(index));
            let content = bytes.map_or(Content::LastGood, |bytes| Content::New(bytes));
            let file = Planned {
                path: layout::VARIABLES,
                mode: carrier.mode,
                content,
            };
            carrier.destination.publish(&[file], now, random)
        })
    }

    pub(crate) fn is_published(&self) -> bool {
        let mut carriers = self.0.iter();
        carriers.all(|carrier| carrier.destination.is_published(layout::VARIABLES))
    }

    /// When the variables were last written with a change, if they are there.
    pub(crate) fn published_at(&self) -> Option<SystemTime> {
        let at = |carrier: &Carrier| carrier.destination.published_at(layout::VARIABLES);
        let all: Option<Vec<_>> = self.0.iter().map(at).collect();
        all?.into_iter().max()
    }

    pub(crate) fn destinations(&self) -> impl Iterator<Item = &Destination> {
        self.0.iter().map(|carrier| &carrier.destination)
    }
}

impl Carrier {
    fn new(way: Way, destination: Destination, config: &AgentConfig) -> Self {
        let mode = match way {
            Way::Exec => config.file_mode,
            Way::FileKeyRef => FILE_KEY_REF_MODE,
        };
        Self {
            destination,
            way,
            mode,
        }
    }
}

/// The directories on the volume, that for `keeper-exec` first.
fn directories(config: &AgentConfig) -> Vec<(Way, Directory)> {
    let Some(environment) = &config.environment else {
        return Vec::new();
    };
    let directory = |mount_path: &str, sub_path: &str| Directory {
        mount_path: mount_path.to_owned(),
        sub_path: sub_path.to_owned(),
        place: Place::Shared,
        mount_points: Vec::new(),
    };
    let exec = environment.exec.as_ref();
    let exec = exec.map(|exec| {
        (
            Way::Exec,
            directory(&exec.mount_path, layout::EXEC_SUB_PATH),
        )
    });
    let file = environment.file_key_ref.then(|| {
        let path = layout::FILE_KEY_REF_SUB_PATH;
        (Way::FileKeyRef, directory(path, path))
    });
    exec.into_iter().chain(file).collect()
}

/// Copies the program, unless it is there. A container may be running it, so it is never written over.
fn copy_program(volume: &Dir, directory: &Directory, program: &str) -> Result<(), PublishError> {
    let at = format!("{}/{}", directory.mount_path, layout::EXEC_PROGRAM);
    let copy = || -> Result<(), Errno> {
        let bytes = std::fs::read(program).map_err(errno)?;
        let dir = volume.make(&directory.sub_path)?;
        let is_there = dir.open_file(layout::EXEC_PROGRAM).is_ok_and(|mut file| {
            let planned = Planned {
                path: layout::EXEC_PROGRAM,
                mode: PROGRAM_MODE,
                content: Content::New(&bytes),
            };
            planned.is_in(&mut file)
        });
        if is_there {
            return Ok(());
        }
        let mut file = dir.create_file(SCRATCH)?;
        file.write_all(&bytes).map_err(errno)?;
        set_mode(&file, PROGRAM_MODE)?;
        // A file that is open for writing can't be run.
        drop(file);
        dir.rename(SCRATCH, layout::EXEC_PROGRAM)
    };
    copy().map_err(|source| error("copy keeper-exec to", &at, source))
}
