use crate::knobs::Knobs;
use crate::tree::{Tree, nonsense};
use crate::turbo::Turbo;
use crate::{ActuateError, parse_cpus};

const CPUS: &str = "sys/devices/system/cpu";
/// What drivers without a list of steps are asked for, in kHz.
const STEP_KHZ: u64 = 100_000;
/// Steps at most; beyond that the list is thinned.
const STEPS_MAX: usize = 64;

/// How fast.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Speed {
    /// At this clock, or the step next to it.
    Mhz(f64),
    /// As fast as the hardware goes.
    Turbo,
}

/// How a policy's clock is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// The governor `userspace`, and `scaling_setspeed`.
    Userspace,
    /// `scaling_min_freq` = `scaling_max_freq`, whatever the governor.
    Limits,
}

/// Cpus that share a clock (a cpufreq policy).
#[derive(Clone, Debug)]
struct Policy {
    dir: String,
    cpus: Vec<usize>,
    way: Way,
    /// Ascending, without turbo.
    steps_khz: Vec<u64>,
    /// What is asked for to get turbo mode.
    turbo_khz: u64,
}

/// The clocks of cpus: one for all, or one for each policy that the hardware has.
#[derive(Clone, Debug)]
pub struct Clocks {
    policies: Vec<Policy>,
    turbo: Option<Turbo>,
}

impl Clocks {
    /// What this machine has for these cpus.
    ///
    /// # Errors
    /// No cpufreq; no step that all have; a file that makes no sense.
    pub fn open(tree: &Tree, cpus: &[usize]) -> Result<Clocks, ActuateError> {
        let mut policies = Vec::new();
        for dir in dirs(tree, cpus) {
            let policy = Policy::open(tree, dir)?;
            if policy.cpus.iter().any(|c| cpus.contains(c)) {
                policies.push(policy);
            }
        }
        if policies.is_empty() {
            return Err(ActuateError::Missing(format!("{CPUS}/cpufreq")));
        }
        let clocks = Clocks { policies, turbo: Turbo::open(tree).ok() };
        match clocks.steps_mhz().is_empty() {
            true => Err(ActuateError::Missing("a step of the clock that all cpus have".into())),
            false => Ok(clocks),
        }
    }

    /// The steps that all policies have, in MHz, ascending; turbo is not among them. There is one at least.
    pub fn steps_mhz(&self) -> Vec<f64> {
        let first = self.policies.first().map_or(&[][..], |p| &p.steps_khz);
        let common = first.iter().filter(|khz| self.policies.iter().all(|p| p.steps_khz.contains(khz)));
        common.map(|khz| *khz as f64 / 1000.0).collect()
    }

    /// Whether there is a turbo mode that can be asked for.
    pub fn has_turbo(&self) -> bool {
        self.policies.iter().any(|p| p.steps_khz.last().is_some_and(|last| *last < p.turbo_khz))
    }

    /// Whether cpus can have clocks of their own.
    pub fn per_cpu(&self) -> bool {
        self.policies.len() > 1
    }

    /// How it is done, in words.
    pub fn how(&self) -> String {
        let way = match self.policies.first().map(|p| p.way) {
            Some(Way::Userspace) => "governor userspace",
            _ => "limits of the governor",
        };
        let turbo = self.turbo.as_ref().map_or("no switch for turbo".to_owned(), |t| format!("turbo by {}", t.path()));
        format!("{} clock(s), {way}, {turbo}", self.policies.len())
    }

    /// Sets the clock of the policies that have one of `cpus`. Those that they share it with get it as well; all others are as they were found. Goes on past a policy that
    /// refuses.
    ///
    /// # Errors
    /// The first refusal.
    pub fn set(&self, knobs: &mut Knobs, cpus: &[usize], speed: Speed) -> Result<(), ActuateError> {
        self.set_all(knobs, &[(cpus.to_vec(), speed)])
    }

    /// The same for several sets of cpus. A policy that has cpus of more than one gets the fastest. Without any, all is as it was found.
    ///
    /// # Errors
    /// The first refusal.
    pub fn set_all(&self, knobs: &mut Knobs, wanted: &[(Vec<usize>, Speed)]) -> Result<(), ActuateError> {
        let mut refused = Ok(());
        let mut note = |result: Result<(), ActuateError>| {
            if refused.is_ok() {
                refused = result;
            }
        };
        // Turbo is the package's: on before a clock may rise above the nominal one, off if nobody wants it.
        if let Some(turbo) = &self.turbo {
            note(match wanted.is_empty() {
                true => knobs.release(|path| path == turbo.path()),
                false => turbo.set(knobs, wanted.iter().any(|(_, speed)| *speed == Speed::Turbo)),
            });
        }
        for policy in &self.policies {
            let of = wanted.iter().filter(|(cpus, _)| policy.cpus.iter().any(|c| cpus.contains(c)));
            let rank = |speed: &Speed| if let Speed::Mhz(mhz) = speed { *mhz } else { f64::INFINITY };
            let fastest = of.map(|(_, speed)| *speed).max_by(|a, b| rank(a).total_cmp(&rank(b)));
            note(match fastest {
                Some(speed) => policy.set(knobs, speed),
                None => knobs.release(|path| path.rsplit_once('/').is_some_and(|(dir, _)| dir == policy.dir)),
            });
        }
        refused
    }

    /// What the first policy that has one of `cpus` runs at, in MHz, as the driver says.
    pub fn now_mhz(&self, tree: &Tree, cpus: &[usize]) -> Option<f64> {
        let policy = self.policies.iter().find(|p| p.cpus.iter().any(|c| cpus.contains(c)))?;
        tree.number(&format!("{}/scaling_cur_freq", policy.dir)).ok().map(|khz| khz as f64 / 1000.0)
    }
}

/// Where the policies are: newer kernels have a directory of them, older ones a directory (or a link to one) for each cpu.
fn dirs(tree: &Tree, cpus: &[usize]) -> Vec<String> {
    let named = tree.list(&format!("{CPUS}/cpufreq")).into_iter().filter(|n| n.starts_with("policy"));
    let named: Vec<String> = named.map(|n| format!("{CPUS}/cpufreq/{n}")).collect();
    if !named.is_empty() {
        return named;
    }
    let of_cpu = |cpu: &usize| format!("{CPUS}/cpu{cpu}/cpufreq");
    cpus.iter().map(of_cpu).filter(|dir| tree.has(dir)).collect()
}

impl Policy {
    fn open(tree: &Tree, dir: String) -> Result<Policy, ActuateError> {
        let related = format!("{dir}/related_cpus");
        let text = tree.read(&related)?.replace(' ', ",");
        let cpus = parse_cpus(&text).ok_or_else(|| nonsense(&related, &text, "a list of cpus"))?;
        let governors = tree.read(&format!("{dir}/scaling_available_governors")).unwrap_or_default();
        let userspace = governors.split_whitespace().any(|g| g == "userspace");
        let way = if userspace && tree.has(&format!("{dir}/scaling_setspeed")) { Way::Userspace } else { Way::Limits };
        let (steps_khz, turbo_khz) = steps(tree, &dir)?;
        Ok(Policy { dir, cpus, way, steps_khz, turbo_khz })
    }

    fn set(&self, knobs: &mut Knobs, speed: Speed) -> Result<(), ActuateError> {
        let khz = match speed {
            Speed::Turbo => self.turbo_khz,
            Speed::Mhz(mhz) => {
                let far = |khz: &u64| (*khz as f64 - mhz * 1000.0).abs();
                self.steps_khz.iter().copied().min_by(|a, b| far(a).total_cmp(&far(b))).unwrap_or(self.turbo_khz)
            }
        };
        let file = |name: &str| format!("{}/{name}", self.dir);
        let value = khz.to_string();
        if self.way == Way::Userspace {
            // The limits that somebody has set bound it, and are his.
            knobs.set(&file("scaling_governor"), "userspace")?;
            return knobs.set(&file("scaling_setspeed"), &value);
        }
        // The lower limit may not pass the upper one at any time.
        let (min, max) = (file("scaling_min_freq"), file("scaling_max_freq"));
        if knobs.tree().number(&max)? < khz {
            knobs.set(&max, &value)?;
            knobs.set(&min, &value)
        } else {
            knobs.set(&min, &value)?;
            knobs.set(&max, &value)
        }
    }
}

/// The steps of a policy, and what turbo mode is asked for with.
fn steps(tree: &Tree, dir: &str) -> Result<(Vec<u64>, u64), ActuateError> {
    let file = |name: &str| format!("{dir}/{name}");
    let most = tree.number(&file("cpuinfo_max_freq"))?;
    if let Ok(text) = tree.read(&file("scaling_available_frequencies")) {
        let mut steps: Vec<u64> = text.split_whitespace().filter_map(|khz| khz.parse().ok()).collect();
        steps.sort_unstable();
        steps.dedup();
        // acpi-cpufreq's name of turbo mode is the nominal clock and a MHz.
        if let [.., nominal, turbo] = steps[..]
            && turbo == nominal + 1000
        {
            steps.pop();
            return Ok((steps, turbo));
        }
        if let Some(last) = steps.last().copied() {
            return Ok((steps, most.max(last)));
        }
    }
    let least = tree.number(&file("cpuinfo_min_freq"))?;
    let nominal = tree.number(&file("base_frequency")).unwrap_or(most).clamp(least.min(most), most);
    if least == 0 || least > nominal {
        return Err(nonsense(&file("cpuinfo_min_freq"), &least.to_string(), "a clock in kHz"));
    }
    let by = STEP_KHZ.max((nominal - least).div_ceil(STEPS_MAX as u64));
    let mut steps: Vec<u64> = (least..nominal).step_by(by as usize).collect();
    steps.push(nominal);
    Ok((steps, most))
}
