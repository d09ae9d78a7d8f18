use crate::file::MachineError;
use crate::model::Machine;

const E5_2665: &str = include_str!("e5-2665.toml");
/// How many cores share a package's power in the figures of the E5-2665.
const SHARED_BY: f64 = 8.0;

impl Machine {
    /// A machine that is known by name: `e5-2665`, the thesis's, or `generic:N` ([`Machine::generic`]).
    ///
    /// # Errors
    /// [`MachineError::Unknown`].
    pub fn builtin(name: &str) -> Result<Machine, MachineError> {
        let unknown = || MachineError::Unknown(name.to_owned());
        match name.strip_prefix("generic:") {
            Some(cores) => {
                let cores = cores.parse().ok().filter(|n| (1..=4096).contains(n));
                Machine::generic(cores.ok_or_else(unknown)?)
            }
            None if name == "e5-2665" => Machine::parse(E5_2665),
            None => Err(unknown()),
        }
    }

    /// A package of `cores` cores like those of the E5-2665, whose idle power grows with them. All run at 2.8 GHz in turbo mode. Nobody has measured it: it is
    /// good for comparing policies, not for predicting watts.
    ///
    /// # Errors
    /// In practice none.
    pub fn generic(cores: usize) -> Result<Machine, MachineError> {
        let mut machine = Machine::parse(E5_2665)?;
        let cores = cores.clamp(1, 4096);
        let share = cores as f64 / SHARED_BY;
        machine.name = format!("generic:{cores}");
        machine.cores = cores;
        machine.power.idle_w *= share;
        machine.power.warm_w *= share;
        if let Some(all) = machine.turbo.last().copied() {
            machine.turbo = vec![all; cores];
        }
        Ok(machine)
    }
}
