use units::Nanos;

/// When to add and when to remove. [`Rules::thesis`] has the thresholds of the thesis's controller, [`Rules::new`] ours.
#[derive(Clone, PartialEq, Debug)]
pub struct Rules {
    /// The objective for the 99th percentile of latency, in nanoseconds.
    pub slo_ns: f64,
    /// The share of the objective that waiting in queues may take.
    pub delay_share: f64,
    /// After a step up, before the next one.
    pub up_after: Nanos,
    /// After a step down, before one up that is not for safety's sake. (A delay over its limit, a full ring or a missed objective do not wait for this.)
    pub up_after_down: Nanos,
    /// After any step, before one down.
    pub down_after: Nanos,
    /// Nothing is removed while more than so many wait at a core, in the long mean (factor 0.125).
    pub down_queue: f64,
    /// Something is removed when idle time is more than so many times the share that the last step brought.
    pub down_margin: f64,
    /// What a stolen piece of work costs more, as a share: see [`Sense::idle`](crate::Sense::idle).
    pub steal_cost: f64,
    /// How far the load's slope is followed into the future. 0: it is not.
    pub ahead: Nanos,
    /// The share of a configuration's time that is planned with, when the load is known.
    pub full: f64,
    /// How much of the largest rise among the last jumps of the load is kept free, as a share of it. 0: none.
    pub jump_reserve: f64,
    /// How many jumps are remembered.
    pub jumps: usize,
    /// Steps at most in one decision, up or down.
    pub stride: usize,
    /// A step up so soon after one down was a mistake: the lower step is not tried again, while the load is about the same, for twice `down_after`, and twice as long after each further
    /// mistake of the kind. 0: nothing is learnt.
    pub mistake_within: Nanos,
    /// But for no longer than this.
    pub mistake_most: Nanos,
}

/// Rules that contradict themselves.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{name} = {value}: {remedy}")]
pub struct RulesError {
    /// Which.
    pub name: &'static str,
    /// What it was.
    pub value: f64,
    /// What would be right.
    pub remedy: &'static str,
}

impl Rules {
    /// Ours, for an objective in nanoseconds.
    pub fn new(slo_ns: f64) -> Rules {
        Rules {
            slo_ns,
            delay_share: 0.5,
            up_after: Nanos::from_millis(100),
            up_after_down: Nanos::from_secs(2),
            down_after: Nanos::from_secs(1),
            down_queue: 8.0,
            down_margin: 1.0,
            steal_cost: 0.1,
            ahead: Nanos::from_millis(500),
            full: 0.965,
            jump_reserve: 0.5,
            jumps: 2,
            stride: 4,
            mistake_within: Nanos::from_secs(5),
            mistake_most: Nanos::from_secs(60),
        }
    }

    /// The thesis's: one step at a time, by queues and idle time alone.
    pub fn thesis(slo_ns: f64) -> Rules {
        Rules {
            up_after: Nanos::from_millis(200),
            down_after: Nanos::from_secs(4),
            down_margin: 1.2,
            steal_cost: 0.0,
            ahead: Nanos::ZERO,
            full: 1.0,
            jump_reserve: 0.0,
            jumps: 0,
            stride: 1,
            mistake_within: Nanos::ZERO,
            ..Rules::new(slo_ns)
        }
    }

    /// The delay at which resources are added, in nanoseconds.
    pub fn limit_ns(&self) -> f64 {
        self.slo_ns * self.delay_share
    }

    /// Whether they make sense.
    ///
    /// # Errors
    /// The first value that makes none, and what would.
    pub fn check(&self) -> Result<(), RulesError> {
        let within = |name, value: f64, low: f64, high: f64, remedy| {
            if (low..=high).contains(&value) { Ok(()) } else { Err(RulesError { name, value, remedy }) }
        };
        within("slo_ns", self.slo_ns, 1000.0, 60e9, "use a microsecond to a minute")?;
        within("delay_share", self.delay_share, 0.01, 1.0, "use 0.01 to 1")?;
        within("down_queue", self.down_queue, 0.0, 1e6, "use 0 to 1000000")?;
        within("down_margin", self.down_margin, 1.0, 10.0, "use 1 to 10; less would remove what is needed")?;
        within("steal_cost", self.steal_cost, 0.0, 1.0, "use 0 to 1")?;
        within("ahead", self.ahead.as_secs_f64(), 0.0, 10.0, "use at most 10 seconds")?;
        within("full", self.full, 0.1, 1.0, "use 0.1 to 1")?;
        within("jump_reserve", self.jump_reserve, 0.0, 10.0, "use 0 to 10")?;
        within("jumps", self.jumps as f64, 0.0, 64.0, "use at most 64")?;
        within("stride", self.stride as f64, 1.0, 1e6, "use 1 or more")?;
        let longest = Nanos::from_secs(3600);
        for (name, span) in [
            ("up_after", self.up_after),
            ("up_after_down", self.up_after_down),
            ("down_after", self.down_after),
            ("mistake_within", self.mistake_within),
            ("mistake_most", self.mistake_most),
        ] {
            within(name, span.as_secs_f64(), 0.0, longest.as_secs_f64(), "use at most an hour")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_make_no_sense_are_named() {
        Rules::new(500e3).check().unwrap();
        Rules::thesis(500e3).check().unwrap();
        let broken = |change: fn(&mut Rules)| {
            let mut rules = Rules::new(500e3);
            change(&mut rules);
            rules.check().unwrap_err().to_string()
        };
        assert_eq!(broken(|r| r.slo_ns = 0.0), "slo_ns = 0: use a microsecond to a minute");
        assert!(broken(|r| r.slo_ns = f64::NAN).starts_with("slo_ns = NaN"));
        assert!(broken(|r| r.down_margin = 0.5).contains("remove what is needed"));
        assert!(broken(|r| r.stride = 0).starts_with("stride = 0"));
        assert!(broken(|r| r.down_after = Nanos::MAX).contains("an hour"));
    }
}
