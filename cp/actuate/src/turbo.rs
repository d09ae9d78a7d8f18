use crate::ActuateError;
use crate::knobs::Knobs;
use crate::tree::Tree;

const NO_TURBO: &str = "sys/devices/system/cpu/intel_pstate/no_turbo";
const BOOST: &str = "sys/devices/system/cpu/cpufreq/boost";

/// The switch of turbo mode. The kernel has two interfaces; each machine has at most one that works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turbo {
    /// `intel_pstate/no_turbo`: 1 is off.
    NoTurbo,
    /// `cpufreq/boost`: 1 is on.
    Boost,
}

impl Turbo {
    /// What this machine has.
    ///
    /// # Errors
    /// [`ActuateError::Missing`]: neither.
    pub fn open(tree: &Tree) -> Result<Turbo, ActuateError> {
        if tree.number(NO_TURBO).is_ok() {
            return Ok(Turbo::NoTurbo);
        }
        tree.number(BOOST).map(|_| Turbo::Boost)
    }

    /// Its file.
    pub fn path(&self) -> &'static str {
        match self {
            Turbo::NoTurbo => NO_TURBO,
            Turbo::Boost => BOOST,
        }
    }

    /// Whether turbo mode is allowed now.
    ///
    /// # Errors
    /// The file has vanished, or makes no sense.
    pub fn is_on(&self, tree: &Tree) -> Result<bool, ActuateError> {
        Ok((tree.number(self.path())? != 0) == (*self == Turbo::Boost))
    }

    /// Allows or forbids it.
    ///
    /// # Errors
    /// Not permitted; or the firmware has locked it.
    pub fn set(&self, knobs: &mut Knobs, on: bool) -> Result<(), ActuateError> {
        let value = if on == (*self == Turbo::Boost) { "1" } else { "0" };
        knobs.set(self.path(), value)
    }
}
