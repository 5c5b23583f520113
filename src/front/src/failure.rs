use std::fmt;

/// The code with which hrun says that it failed itself, as Docker does.
pub const FAILED: i32 = 125;

/// What the user is told, naming the object and the cause.
#[derive(Debug)]
pub enum Failure {
    /// One line of hrun itself.
    Own(String),
    /// The daemon's words, which are printed as they are.
    Refused(String),
}

impl Failure {
    pub fn own(message: impl Into<String>) -> Failure {
        Failure::Own(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Own(message) | Failure::Refused(message) => f.write_str(message),
        }
    }
}

/// Adds to an error what was being done to which object.
pub trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|cause| Failure::Own(format!("{}: {cause}", what())))
    }
}
