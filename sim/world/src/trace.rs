use std::io::Write;

use units::Nanos;

/// Where transitions are written: one aligned line each.
pub struct Trace {
    out: Box<dyn Write + Send>,
    /// Lines left: a trace of everything would fill a disk.
    left: u64,
}

impl Trace {
    /// Writes at most `lines` lines to `out`. What cannot be written is lost: the run goes on.
    pub fn new(out: Box<dyn Write + Send>, lines: u64) -> Trace {
        Trace { out, left: lines }
    }

    pub(crate) fn line(&mut self, now: Nanos, core: usize, what: &str, more: &str) {
        if self.left > 0 {
            self.left -= 1;
            let _ = writeln!(self.out, "{:>16} core {core:<3} {what:<12}{more}", now.0);
        }
    }
}
