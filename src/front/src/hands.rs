//! The front door as the daemon's hands: only here do the caller's paths mean what the caller means. Each request is
//! served by a thread of its own, so that opening a FIFO or reading from one holds up nothing else.

mod copy;
mod files;
mod run;
mod stand_in;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex};

use nix::errno::Errno;
use serde_json::{Value, json};

use crate::frame::kind;
use crate::link::Link;
use crate::sys;

/// Files open at a time; the next `open` says EMFILE.
const HANDLES: usize = 64;
/// Requests at work at a time; the next ones wait.
const THREADS: usize = 16;
/// Requests that wait; the next one says EBUSY.
const WAITING: usize = 256;

/// What a hand brings: JSON and, for `read`, bytes.
type Brought = Result<(Value, Vec<u8>), Refusal>;

/// Why a hand brings nothing.
struct Refusal {
    errno: Errno,
    /// What the errno alone does not say; may be empty.
    message: String,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        let message = String::new();
        Refusal { errno, message }
    }
}

pub struct Hands {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Handles whose requests are at work: they are served in the order in which they came.
    busy: HashSet<u32>,
    files: HashMap<u32, Arc<File>>,
    last_handle: u32,
    threads: usize,
    idle: usize,
    /// Handles die with their connection.
    generation: u64,
}

struct Job {
    id: u32,
    generation: u64,
    handle: Option<u32>,
    request: Value,
    bytes: Vec<u8>,
}

impl Hands {
    pub fn new() -> Self {
        Hands {
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub fn lend(&'static self, id: u32, request: Value, bytes: Vec<u8>, link: &'static Link) {
        let handle = request["handle"].as_u64().and_then(|handle| u32::try_from(handle).ok());
        let mut state = self.state.lock().unwrap();
        let generation = state.generation;
        if state.waiting.len() == WAITING {
            drop(state);
            return answer(link, link.generation(), id, Err(Errno::EBUSY.into()));
        }
        state.waiting.push_back(Job {
            id,
            generation,
            handle,
            request,
            bytes,
        });
        if state.idle < state.waiting.len() && state.threads < THREADS {
            state.threads += 1;
            sys::spawn("hand", move || self.work(link));
        }
        self.changed.notify_one();
    }

    /// The connection is lost: nobody knows these handles any more, and nobody waits for these answers.
    pub fn drop_all(&self) {
        let mut state = self.state.lock().unwrap();
        state.generation += 1;
        state.waiting.clear();
        state.files.clear();
    }

    fn work(&self, link: &Link) {
        loop {
            let job = self.next();
            let sent_on = link.generation();
            let brought = self.serve(&job);
            let mut state = self.state.lock().unwrap();
            if let Some(handle) = job.handle {
                state.busy.remove(&handle);
                self.changed.notify_all();
            }
            let wanted = state.generation == job.generation;
            drop(state);
            if wanted {
                answer(link, sent_on, job.id, brought);
            }
        }
    }

    fn next(&self) -> Job {
        let mut state = self.state.lock().unwrap();
        loop {
            let free = state
                .waiting
                .iter()
                .position(|job| job.handle.is_none_or(|handle| !state.busy.contains(&handle)));
            if let Some(job) = free.and_then(|position| state.waiting.remove(position)) {
                state.busy.extend(job.handle);
                return job;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap();
            state.idle -= 1;
        }
    }

    fn serve(&self, job: &Job) -> Brought {
        let request = &job.request;
        let nothing = |()| (json!({}), Vec::new());
        match text(request, "op")? {
            "open" => Ok((self.open(job)?, Vec::new())),
            "read" => Ok((json!({}), files::read(&*self.file(job)?, request)?)),
            "write" => Ok(nothing(files::write(&*self.file(job)?, &job.bytes)?)),
            "close" => Ok(nothing(self.close(job)?)),
            "rename" => Ok(nothing(files::rename(text(request, "from")?, text(request, "to")?)?)),
            "unlink" => Ok(nothing(files::unlink(text(request, "path")?)?)),
            "stat" => Ok((
                files::stat(text(request, "path")?, flag(request, "follow"))?,
                Vec::new(),
            )),
            "pack" => Ok((copy::pack(request)?, Vec::new())),
            "makeDirectory" => Ok(nothing(files::make_directory(request)?)),
            "run" => run::run(request, &job.bytes),
            "become" => Err(run::become_program(request)),
            "standIn" => Ok((stand_in::start(request)?, Vec::new())),
            "unpack" => Ok((copy::unpack(request)?, Vec::new())),
            _ => Err(Errno::ENOSYS.into()),
        }
    }

    fn open(&self, job: &Job) -> Result<Value, Errno> {
        if self.state.lock().unwrap().files.len() >= HANDLES {
            return Err(Errno::EMFILE);
        }
        let (file, mut result) = files::open(&job.request)?;
        let mut state = self.state.lock().unwrap();
        if state.generation != job.generation {
            return Err(Errno::ECANCELED);
        }
        if state.files.len() >= HANDLES {
            return Err(Errno::EMFILE);
        }
        state.last_handle += 1;
        let handle = state.last_handle;
        state.files.insert(handle, Arc::new(file));
        result["handle"] = handle.into();
        Ok(result)
    }

    fn file(&self, job: &Job) -> Result<Arc<File>, Errno> {
        let handle = job.handle.ok_or(Errno::EINVAL)?;
        self.state
            .lock()
            .unwrap()
            .files
            .get(&handle)
            .cloned()
            .ok_or(Errno::EBADF)
    }

    fn close(&self, job: &Job) -> Result<(), Errno> {
        let handle = job.handle.ok_or(Errno::EINVAL)?;
        let file = self.state.lock().unwrap().files.remove(&handle).ok_or(Errno::EBADF)?;
        files::close(Arc::into_inner(file).ok_or(Errno::EBUSY)?)
    }
}

fn answer(link: &Link, generation: u64, id: u32, brought: Brought) {
    let (errno, result, bytes) = match brought {
        Ok((result, bytes)) => (0, result, bytes),
        Err(Refusal { errno, message }) if message.is_empty() => (errno as u32, json!({}), Vec::new()),
        Err(Refusal { errno, message }) => (errno as u32, json!({ "message": message }), Vec::new()),
    };
    let json = result.to_string();
    let head = [id.to_le_bytes(), errno.to_le_bytes(), (json.len() as u32).to_le_bytes()].concat();
    link.send_on(generation, kind::HAND_DONE, &[&head, json.as_bytes(), &bytes]);
}

fn text<'a>(request: &'a Value, field: &str) -> Result<&'a str, Errno> {
    request[field].as_str().ok_or(Errno::EINVAL)
}

fn flag(request: &Value, field: &str) -> bool {
    request[field].as_bool().unwrap_or(false)
}
