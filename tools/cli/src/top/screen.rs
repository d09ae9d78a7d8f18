use std::collections::HashMap;

use ixcp::{CoreView, Kind, PlaneView, View};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table, Widget, Wrap};

/// Seconds of the small curves.
const KEPT: usize = 120;
/// Columns of a bar.
const BAR: usize = 10;

/// What is shown, and which dataplane of it.
#[derive(Clone, Default)]
pub(crate) struct Screen {
    view: View,
    chosen: usize,
    /// By dataplane: requests per second, and p99 in us, oldest first.
    past: HashMap<String, Vec<(u64, u64)>>,
}

impl Screen {
    pub(crate) fn show(&mut self, view: View) {
        for plane in &view.dataplanes {
            let past = self.past.entry(plane.name.clone()).or_default();
            past.push((plane.rate as u64, plane.p99_us.unwrap_or(0.0) as u64));
            if past.len() > KEPT {
                past.remove(0);
            }
        }
        self.past.retain(|name, _| view.dataplanes.iter().any(|d| d.name == *name));
        self.view = view;
        self.chosen = self.chosen.min(self.dataplanes().saturating_sub(1));
    }

    pub(crate) fn dataplanes(&self) -> usize {
        self.view.dataplanes.len()
    }

    pub(crate) fn choose(&mut self, which: usize) {
        if which < self.dataplanes() {
            self.chosen = which;
        }
    }

    pub(crate) fn step(&mut self, by: isize) {
        let n = self.dataplanes().max(1) as isize;
        self.chosen = (self.chosen as isize + by).rem_euclid(n) as usize;
    }

    pub(crate) fn draw(&self, area: Rect, buffer: &mut Buffer) {
        let Some(plane) = self.view.dataplanes.get(self.chosen) else {
            let [head, rest] = Layout::vertical([Constraint::Length(2), Constraint::Min(0)]).areas(area);
            self.head(head, buffer);
            let mut lines =
                vec![Line::from("No dataplane runs here. `zygix serve APP` starts one; root's are root's to see.")];
            lines.extend(self.view.host.lacks.iter().map(|l| Line::from(l.as_str())));
            return Paragraph::new(lines).wrap(Wrap { trim: true }).render(rest, buffer);
        };
        let jobs = if self.view.background.is_empty() { 0 } else { 1 + self.view.background.len() as u16 };
        let heights = [2, 5, 4, plane.cores.len() as u16 + 2, jobs];
        let [h, s, c, t, j] = heights.map(Constraint::Length);
        let [head, summary, curves, cores, background, events] =
            Layout::vertical([h, s, c, t, j, Constraint::Min(0)]).areas(area);
        self.head(head, buffer);
        summary_of(plane, summary, buffer);
        self.curves(plane, curves, buffer);
        cores_of(plane, cores, buffer);
        self.jobs(background, buffer);
        self.events(events, buffer);
    }

    fn head(&self, area: Rect, buffer: &mut Buffer) {
        let view = &self.view;
        let mut parts = vec![Span::from(format!("zygix top  {}", clock(view.at_ms))).bold()];
        match (view.pid, view.dry_run) {
            (0, _) => parts.push("   no control plane".dim()),
            (pid, false) => parts.push(format!("   control plane {pid}").into()),
            (pid, true) => parts.push(format!("   control plane {pid} (dry run)").into()),
        }
        if let Some(watts) = view.host.power_w {
            parts.push(format!("   {watts:.1} W ({})", view.host.power_from).into());
        }
        if let Some(mhz) = view.host.clock_mhz {
            parts.push(format!("   {mhz:.0} MHz").into());
        }
        if view.pid != 0 {
            parts.push(format!("   background {:.0} %", 100.0 * view.host.background_share).into());
        }
        let mut tabs = Vec::new();
        for (i, plane) in view.dataplanes.iter().enumerate() {
            let name = format!(" {} {} ", i + 1, plane.name);
            tabs.push(if i == self.chosen { name.reversed() } else { name.into() });
        }
        Paragraph::new(vec![Line::from(parts), Line::from(tabs)]).render(area, buffer);
    }

    fn curves(&self, plane: &PlaneView, area: Rect, buffer: &mut Buffer) {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(area);
        let empty = Vec::new();
        let past = self.past.get(&plane.name).unwrap_or(&empty);
        let show = |title: String, values: Vec<u64>, most: Option<u64>, color, area: Rect, buffer: &mut Buffer| {
            let from = values.len().saturating_sub(area.width as usize);
            let block = Block::new().title(title.dim());
            let line = Sparkline::default().data(&values[from..]).style(Style::new().fg(color)).block(block);
            most.map_or(line.clone(), |most| line.max(most)).render(area, buffer);
        };
        let rates: Vec<u64> = past.iter().map(|p| p.0).collect();
        let top = rates.iter().max().copied().unwrap_or(0);
        show(format!("requests/s, up to {}", short(top as f64)), rates, None, Color::Blue, left, buffer);
        let p99: Vec<u64> = past.iter().map(|p| p.1).collect();
        let missed = plane.slo_us > 0.0 && p99.last().is_some_and(|p| *p as f64 > plane.slo_us);
        let most = p99.iter().max().copied().unwrap_or(0).max(plane.slo_us as u64).max(1);
        let color = if missed { Color::Red } else { Color::Green };
        show(format!("p99, up to {}", time(most as f64)), p99, Some(most), color, right, buffer);
    }

    fn jobs(&self, area: Rect, buffer: &mut Buffer) {
        let mut lines = Vec::new();
        for job in &self.view.background {
            let state = match (job.gone, job.cpus.is_empty()) {
                (true, _) => "has ended".to_owned(),
                (_, true) => "frozen".to_owned(),
                _ => format!("on cpus {}", actuate::show_cpus(&job.cpus)),
            };
            let share = format!("{:>5.1} % of all cpus", 100.0 * job.share);
            lines.push(Line::from(format!("background {:<16} {state:<20} {share}", job.name)));
        }
        Paragraph::new(lines).render(area, buffer);
    }

    fn events(&self, area: Rect, buffer: &mut Buffer) {
        let room = area.height.saturating_sub(1) as usize;
        let mut lines: Vec<Line> =
            self.view.host.lacks.iter().filter(|_| self.view.pid == 0).map(|l| l.as_str().dim().into()).collect();
        for event in self.view.events.iter().rev().take(room) {
            let color = match event.kind {
                Kind::Up | Kind::Violation | Kind::Trouble => Color::Red,
                Kind::Down => Color::Green,
                Kind::NonResponsive => Color::Yellow,
                _ => Color::Reset,
            };
            lines.push(Line::styled(event.to_string(), Style::new().fg(color)));
        }
        if !lines.is_empty() {
            let block = Block::new().title("events, the latest first".dim());
            Paragraph::new(lines).block(block).render(area, buffer);
        }
    }
}

fn summary_of(plane: &PlaneView, area: Rect, buffer: &mut Buffer) {
    let mut first = vec![plane.name.clone().bold(), format!("  {}", plane.about).dim()];
    if plane.state != "serving" {
        first.push(format!("  {}", plane.state.to_uppercase()).red().bold());
    }
    let threads = format!("{} of {} threads serve", plane.active, plane.cores.len());
    let second = match plane.policy.is_empty() {
        true => threads,
        false => {
            let (at, of) = (plane.position + 1, plane.steps);
            format!("policy {}, step {at} of {of}: {}; {threads}", plane.policy, plane.step)
        }
    };
    let bound = |value: f64, limit: f64, name: &str| {
        let style = if limit > 0.0 && value > limit { Style::new().fg(Color::Red) } else { Style::new() };
        let limit = if limit > 0.0 { format!(" of {}", time(limit)) } else { String::new() };
        Span::styled(format!("{name} {}{limit}   ", time(value)), style)
    };
    let p99 = plane.p99_us.map_or("p99 -   ".into(), |us| bound(us, plane.slo_us, "p99"));
    let mut third = vec![Span::from(format!("{} requests/s   ", short(plane.rate))), p99];
    third.push(bound(plane.delay_us, plane.limit_us, "queueing delay"));
    if plane.seconds > 0 {
        third.push(format!("SLO missed in {} of {} s", plane.violations, plane.seconds).into());
    }
    let why = if plane.reason.is_empty() { Line::default() } else { format!("last: {}", plane.reason).dim().into() };
    Paragraph::new(vec![Line::from(first), second.into(), Line::from(third), why]).render(area, buffer);
}

fn cores_of(plane: &PlaneView, area: Rect, buffer: &mut Buffer) {
    let head = [
        "core",
        "cpu",
        "state",
        "load",
        "requests/s",
        "queue",
        "batch",
        "delay",
        "steals/s",
        "lends/s",
        "conns",
        "groups",
        "drops",
    ];
    let right = |text: String| Cell::from(Line::from(text).right_aligned());
    let row = |core: &CoreView| {
        let full = (core.load * BAR as f64).round() as usize;
        let bar =
            format!("{}{} {:>3.0} %", "█".repeat(full.min(BAR)), "░".repeat(BAR - full.min(BAR)), 100.0 * core.load);
        let style = match core.state() {
            "parked" => Style::new().add_modifier(Modifier::DIM),
            "serves" => Style::new(),
            _ => Style::new().fg(Color::Yellow),
        };
        Row::new([
            right(core.core.to_string()),
            right(core.cpu.map_or("any".into(), |cpu| cpu.to_string())),
            Cell::from(core.state()),
            Cell::from(bar),
            right(short(core.rate)),
            right(format!("{:.1}", core.queue)),
            right(format!("{:.1}", core.batch)),
            right(time(core.delay_us)),
            right(short(core.steals)),
            right(short(core.lends)),
            right(core.connections.to_string()),
            right(core.groups.to_string()),
            right(core.drops.to_string()),
        ])
        .style(style)
    };
    let widths = [4, 4, 14, 16, 10, 6, 6, 8, 8, 7, 6, 6, 6].map(Constraint::Length);
    let head = head
        .iter()
        .enumerate()
        .map(|(i, name)| if i == 2 || i == 3 { Cell::from(*name) } else { right((*name).to_owned()) });
    let table = Table::new(plane.cores.iter().map(row), widths).header(Row::new(head).dim());
    table.column_spacing(1).render(area, buffer);
}

/// Microseconds in the unit that fits.
fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e4 => format!("{:.1} ms", us / 1e3),
        us if us >= 10.0 => format!("{us:.0} us"),
        us => format!("{us:.1} us"),
    }
}

/// Three digits.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e4 => format!("{:.1} K", v / 1e3),
        v => format!("{v:.0}"),
    }
}

fn clock(ms: u64) -> String {
    let s = ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let core = |core| CoreView {
            core,
            cpu: Some(7),
            load: 0.42,
            rate: 12_345.0,
            parked: core == 1,
            ..CoreView::default()
        };
        let plane = PlaneView {
            name: "kv".into(),
            about: "kv at 198.18.0.2:11211".into(),
            state: "serving".into(),
            policy: "energy".into(),
            step: "1 thread".into(),
            steps: 2,
            slo_us: 500.0,
            p99_us: Some(730.0),
            seconds: 9,
            violations: 1,
            active: 1,
            cores: vec![core(0), core(1)],
            ..PlaneView::default()
        };
        let mut view = View { pid: 42, dataplanes: vec![plane], ..View::default() };
        view.host.power_w = Some(33.3);
        view.host.power_from = "model e5-2665".into();
        view.background = vec![ixcp::JobView { name: "batch".into(), cpus: vec![1], gone: false, share: 0.25 }];
        view
    }

    fn text(screen: &Screen, width: u16, height: u16) -> String {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        screen.draw(area, &mut buffer);
        super::super::lines(&buffer)
    }

    #[test]
    fn everything_that_matters_is_on_the_screen() {
        let mut screen = Screen::default();
        screen.show(view());
        let text = text(&screen, 120, 40);
        for part in [
            "control plane 42",
            "33.3 W (model e5-2665)",
            "p99 730 us of 500 us",
            "SLO missed in 1 of 9 s",
            "step 1 of 2: 1 thread; 1 of 2 threads serve",
            "████░░░░░░  42 %",
            "parked",
            "12.3 K",
            "background batch",
            "on cpus 1",
        ] {
            assert!(text.contains(part), "{part} is not on\n{text}");
        }
    }

    #[test]
    fn small_terminals_and_none_to_show_are_borne() {
        let mut screen = Screen::default();
        screen.step(-1);
        assert!(text(&screen, 80, 10).contains("No dataplane runs here"));
        screen.show(view());
        for (width, height) in [(0, 0), (1, 1), (10, 3), (80, 5), (300, 100)] {
            let _ = text(&screen, width, height);
        }
        screen.choose(7);
        screen.step(5);
        assert_eq!(screen.chosen, 0);
    }
}
