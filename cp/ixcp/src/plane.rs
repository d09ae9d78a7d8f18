use abi::{Answer, Command};
use attach::{AttachError, Dataplane, Snapshot};

/// A dataplane as the control plane needs it. Two are there: the attached one, and those that tests make up.
pub trait Plane: Send {
    /// What its page says now.
    ///
    /// # Errors
    /// It cannot be read.
    fn snapshot(&mut self) -> Result<Snapshot, AttachError>;

    /// Gives it a command, and waits for the answer.
    ///
    /// # Errors
    /// It refuses, or is gone.
    fn command(&mut self, command: &Command) -> Result<Answer, AttachError>;

    /// Whether its process has ended.
    fn has_ended(&self) -> bool;

    /// What it serves, for people.
    fn about(&self) -> String;
}

impl Plane for Dataplane {
    fn snapshot(&mut self) -> Result<Snapshot, AttachError> {
        Dataplane::snapshot(self)
    }

    fn command(&mut self, command: &Command) -> Result<Answer, AttachError> {
        Dataplane::command(self, command)
    }

    fn has_ended(&self) -> bool {
        Dataplane::has_ended(self)
    }

    fn about(&self) -> String {
        self.hello().about.clone()
    }
}

/// How a dataplane is found by its name.
pub type Attach = Box<dyn FnMut(&str) -> Result<Box<dyn Plane>, AttachError> + Send>;

/// Those of this host.
pub(crate) fn of_this_host() -> Attach {
    Box::new(|name| Dataplane::attach(name).map(|plane| Box::new(plane) as Box<dyn Plane>))
}
