//! `zygix top`: dataplanes and what the control plane does with them, in a terminal.
//!
//! | file | what |
//! |---|---|
//! | `source.rs` | where the numbers are from: the control plane, or dataplanes alone |
//! | `screen.rs` | how they are shown |

mod screen;
mod source;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::Usage;
use screen::Screen;
use source::Source;

#[derive(Args, Debug)]
#[command(after_help = "\
Keys: q or Ctrl-C ends it; Tab, arrows or 1-9 choose a dataplane.

With a control plane (`zygix cp`) it shows that one's objectives, decisions and power; without one, the dataplanes that run here.")]
pub(crate) struct Top {
    /// Only this dataplane
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Print one screen as text, and end
    #[arg(long)]
    pub(crate) once: bool,

    /// How often to look, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub(crate) interval: u64,
}

/// Columns and rows of `--once`.
const PAPER: (u16, u16) = (110, 60);
/// How long `--once` watches a dataplane alone: rates need two looks.
const WATCH: Duration = Duration::from_millis(1100);
/// How often keys and signals are looked at.
const GLANCE: Duration = Duration::from_millis(100);

pub(crate) fn run(top: &Top) -> Result<()> {
    let mut source = Source::new(top.name.clone());
    if top.once {
        return once(&mut source);
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Usage("top needs a terminal; `zygix top --once` prints one screen".into()).into());
    }
    sys::stop::install();
    let mut terminal =
        ratatui::try_init().context("the terminal cannot be used; `zygix top --once` prints one screen")?;
    let done = watch(&mut terminal, &mut source, Duration::from_millis(top.interval));
    ratatui::restore();
    done
}

fn watch(terminal: &mut ratatui::DefaultTerminal, source: &mut Source, interval: Duration) -> Result<()> {
    let mut screen = Screen::default();
    while !sys::stop::requested() {
        screen.show(source.look());
        let until = Instant::now() + interval;
        terminal.draw(|frame| screen.draw(frame.area(), frame.buffer_mut()))?;
        while !sys::stop::requested() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if !event::poll(left.min(GLANCE))? {
                continue;
            }
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Release => {}
                Event::Key(key) => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                    KeyCode::Char(digit @ '1'..='9') => screen.choose(digit as usize - '1' as usize),
                    KeyCode::Tab | KeyCode::Right | KeyCode::Down => screen.step(1),
                    KeyCode::BackTab | KeyCode::Left | KeyCode::Up => screen.step(-1),
                    _ => {}
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            terminal.draw(|frame| screen.draw(frame.area(), frame.buffer_mut()))?;
        }
    }
    Ok(())
}

fn once(source: &mut Source) -> Result<()> {
    let mut view = source.look();
    if view.pid == 0 && !view.dataplanes.is_empty() {
        std::thread::sleep(WATCH);
        view = source.look();
    }
    let mut screen = Screen::default();
    screen.show(view);
    let mut out = std::io::stdout().lock();
    // Whoever closed standard output has seen enough.
    let _ = writeln!(out, "{}", print(&screen)?);
    Ok(())
}

/// The screen as text, every dataplane on it.
fn print(screen: &Screen) -> Result<String> {
    let mut text = String::new();
    for i in 0..screen.dataplanes().max(1) {
        let mut one = screen.clone();
        one.choose(i);
        let mut terminal = Terminal::new(TestBackend::new(PAPER.0, PAPER.1))?;
        terminal.draw(|frame| one.draw(frame.area(), frame.buffer_mut()))?;
        text += &lines(terminal.backend().buffer());
    }
    Ok(text.trim_end().to_owned())
}

/// Lines without what is blank at their ends; of blank lines one after the other, one.
fn lines(buffer: &Buffer) -> String {
    let (mut text, mut blank) = (String::new(), false);
    for y in 0..buffer.area.height {
        let row: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
        let row = row.trim_end();
        if !(row.is_empty() && blank) {
            text += row;
            text.push('\n');
        }
        blank = row.is_empty();
    }
    text
}
