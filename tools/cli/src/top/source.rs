use std::collections::BTreeMap;

use attach::{Dataplane, Presence};
use ixcp::{PlaneView, Senses, View};

/// Where the numbers are from.
pub(crate) struct Source {
    only: Option<String>,
    /// Dataplanes that are looked at without a control plane.
    alone: BTreeMap<String, Alone>,
}

struct Alone {
    plane: Dataplane,
    senses: Senses,
}

impl Source {
    pub(crate) fn new(only: Option<String>) -> Source {
        Source { only, alone: BTreeMap::new() }
    }

    /// The control plane's view, if one runs and has a page; else that of the dataplanes that are there.
    pub(crate) fn look(&mut self) -> View {
        let mut view = match of_control() {
            Some(view) => view,
            None => self.of_dataplanes(),
        };
        if let Some(only) = &self.only {
            view.dataplanes.retain(|d| d.name == *only);
        }
        view
    }

    fn of_dataplanes(&mut self) -> View {
        self.alone.retain(|_, alone| !alone.plane.has_ended());
        let wanted = |name: &str| self.only.as_ref().is_none_or(|only| only == name);
        let mut unwilling = Vec::new();
        for found in attach::list().into_iter().filter(|f| wanted(&f.name)) {
            match found.presence {
                Presence::Live(_) if !self.alone.contains_key(&found.name) => match Dataplane::attach(&found.name) {
                    Ok(plane) => {
                        self.alone.insert(found.name, Alone { plane, senses: Senses::default() });
                    }
                    Err(e) => unwilling.push(e.to_string()),
                },
                Presence::Live(_) | Presence::Stale => {}
                Presence::Unwilling(e) => unwilling.push(format!("{}: {e}", found.name)),
            }
        }
        let mut view = View { at_ms: sys::clock::wall().0 / 1_000_000, ..View::default() };
        view.host.lacks = unwilling;
        view.dataplanes = self.alone.iter_mut().map(|(name, alone)| alone.view(name)).collect();
        view
    }
}

impl Alone {
    fn view(&mut self, name: &str) -> PlaneView {
        let fresh = match self.plane.snapshot() {
            Ok(snapshot) => {
                let fresh = snapshot.is_fresh();
                self.senses.see(snapshot);
                fresh
            }
            Err(_) => false,
        };
        let (rate, p99) = self.senses.service();
        let cores = self.senses.cores();
        PlaneView {
            name: name.to_owned(),
            about: self.plane.hello().about.clone(),
            state: if fresh { "serving" } else { "silent" }.into(),
            delay_us: self.senses.sense().map_or(0.0, |s| s.worst_delay().1 / 1000.0),
            p99_us: p99.map(|ns| ns / 1000.0),
            rate,
            active: cores.iter().filter(|c| !c.parked).count(),
            cores,
            ..PlaneView::default()
        }
    }
}

fn of_control() -> Option<View> {
    let address = ixcp::whereabouts()?.listen?;
    serde_json::from_str(&ixcp::get(address, "/api/view").ok()?).ok()
}
